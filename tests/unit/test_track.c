/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The books against naive ones: lists that are searched, and a copy of everything at
 * each new peak.
 *
 * Links: tests/unit/fail_alloc.c -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
 * Links: -Wl,--wrap=reallocarray,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ingest/track.h"
#include "tests/unit/fail_alloc.h"

#define SITES     7
#define THREADS   3
#define ADDRESSES 40

/* ---- the naive books ---- */

struct naive_block {
    bool live;
    uint64_t size;
    int site;
    int thread;
};

struct naive {
    struct naive_block blocks[ADDRESSES];
    struct neap_amount alloc[SITES], free[SITES], temporary[SITES], peak_share[SITES];
    struct neap_amount peak;
    uint64_t peak_ns, foreign, implied;
    int last[THREADS]; /* index of the latest allocated address, -1 = none */
    struct naive_realloc {
        bool open, known, temporary;
        int at;
        struct naive_block block;
    } pending[THREADS];
};

static struct neap_amount naive_live(const struct naive *naive, int site)
{
    struct neap_amount live = {0};

    for (int i = 0; i < ADDRESSES; i++) {
        if (naive->blocks[i].live && (site < 0 || naive->blocks[i].site == site)) {
            live.count++;
            live.bytes += naive->blocks[i].size;
        }
    }
    return live;
}

static void naive_peak(struct naive *naive, uint64_t now)
{
    struct neap_amount live = naive_live(naive, -1);

    if (live.bytes <= naive->peak.bytes)
        return;
    naive->peak = live;
    naive->peak_ns = now;
    for (int i = 0; i < SITES; i++)
        naive->peak_share[i] = naive_live(naive, i);
}

static void count(struct neap_amount *amount, uint64_t bytes)
{
    amount->count++;
    amount->bytes += bytes;
}

static bool naive_free(struct naive *naive, int thread, int at, bool seen,
                       bool *ret_temporary)
{
    struct naive_block *block = &naive->blocks[at];
    bool temporary = seen && naive->last[thread] == at && block->thread == thread;

    if (!block->live) {
        naive->foreign++;
        return false;
    }
    block->live = false;
    count(&naive->free[block->site], block->size);
    if (temporary)
        count(&naive->temporary[block->site], block->size);
    *ret_temporary = temporary;
    return true;
}

static void naive_alloc(struct naive *naive, int thread, int at, int site,
                        uint64_t size, uint64_t now)
{
    bool temporary;

    if (naive->blocks[at].live) {
        naive_free(naive, thread, at, false, &temporary);
        naive->implied++;
    }
    naive->blocks[at] = (struct naive_block){true, size, site, thread};
    naive->last[thread] = at;
    count(&naive->alloc[site], size);
    naive_peak(naive, now);
}

static void naive_undo(struct naive *naive, int thread, uint64_t now)
{
    struct naive_realloc *pending = &naive->pending[thread];

    if (!pending->open)
        return;
    pending->open = false;
    if (!pending->known) {
        naive->foreign--;
        return;
    }
    if (naive->blocks[pending->at].live)
        return;
    naive->blocks[pending->at] = pending->block;
    naive->free[pending->block.site].count--;
    naive->free[pending->block.site].bytes -= pending->block.size;
    if (pending->temporary) {
        naive->temporary[pending->block.site].count--;
        naive->temporary[pending->block.site].bytes -= pending->block.size;
    }
    naive_peak(naive, now);
}

static void naive_realloc_free(struct naive *naive, int thread, int at, uint64_t now)
{
    struct naive_realloc *pending = &naive->pending[thread];

    naive_undo(naive, thread, now);
    *pending = (struct naive_realloc){.open = true, .at = at};
    pending->block = naive->blocks[at];
    pending->known = naive_free(naive, thread, at, true, &pending->temporary);
}

/* ---- both ---- */

static uint64_t state = 1181783497276652981u;

static unsigned draw(unsigned below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 20) % below);
}

static uint64_t address_of(int at)
{
    return 0x1000u + 64u * (uint64_t)at;
}

static void assert_amount(struct neap_amount a, struct neap_amount b)
{
    assert_int_equal(a.count, b.count);
    assert_int_equal(a.bytes, b.bytes);
}

static void compare(const struct neap_track *track, const struct naive *naive,
                    const uint32_t *sites)
{
    struct neap_amount sum = {0};

    for (int i = 0; i < SITES; i++) {
        const struct neap_site *site = &track->sites.data[sites[i]];
        struct neap_amount peak = neap_site_peak(track, sites[i]).amount;

        assert_amount(site->alloc, naive->alloc[i]);
        assert_amount(site->free, naive->free[i]);
        assert_amount(site->temporary, naive->temporary[i]);
        assert_amount(neap_site_live(track, sites[i]).amount, naive_live(naive, i));
        assert_amount(peak, naive->peak_share[i]);
        sum.count += peak.count;
        sum.bytes += peak.bytes;
    }
    assert_amount(track->live, naive_live(naive, -1));
    assert_amount(track->peak, naive->peak);
    assert_amount(sum, track->peak);
    assert_int_equal(track->peak_ns, naive->peak_ns);
    assert_int_equal(track->foreign_frees, naive->foreign);
    assert_int_equal(track->implied.count, naive->implied);
}

static void both_step(struct neap_track *track, struct naive *naive,
                      struct neap_actor *actors, struct neap_realloc *pending,
                      const uint32_t *sites, uint64_t now)
{
    int thread = (int)draw(THREADS), at = (int)draw(ADDRESSES), site = (int)draw(SITES);
    struct neap_track_alloc alloc = {.size = draw(5) ? draw(200) : 0,
                                     .site = sites[site]};
    struct neap_actor *actor = &actors[thread];
    bool temporary;

    if (draw(4) == 0 && naive->last[thread] >= 0)
        at = naive->last[thread];
    alloc.address = address_of(at);
    switch (draw(8)) {
    case 0:
    case 1:
    case 2:
        assert_true(neap_track_alloc(track, actor, &alloc, now));
        naive_alloc(naive, thread, at, site, alloc.size, now);
        break;
    case 3:
    case 4:
        neap_track_free(track, actor, alloc.address, now);
        naive_free(naive, thread, at, true, &temporary);
        break;
    case 5:
        neap_track_realloc_free(track, actor, &pending[thread], alloc.address, false,
                                now);
        naive_realloc_free(naive, thread, at, now);
        break;
    case 6:
        neap_track_realloc_done(&pending[thread]);
        assert_true(neap_track_alloc(track, actor, &alloc, now));
        naive->pending[thread].open = false;
        naive_alloc(naive, thread, at, site, alloc.size, now);
        break;
    default:
        neap_track_realloc_undo(track, actor, &pending[thread], now);
        naive_undo(naive, thread, now);
        break;
    }
}

static void test_model(void **unused)
{
    (void)unused;
    for (int round = 0; round < 300; round++) {
        struct neap_track track;
        struct naive naive = {.last = {-1, -1, -1}};
        struct neap_actor actors[THREADS] = {{.tid = 1}, {.tid = 2}, {.tid = 3}};
        struct neap_realloc pending[THREADS] = {0};
        uint32_t sites[SITES];

        neap_track_init(&track, 0, NULL);
        for (int i = 0; i < SITES; i++)
            sites[i] = neap_track_site(&track, draw(1000000) * 16u + (unsigned)i);
        for (uint64_t now = 1; now <= 400; now++) {
            both_step(&track, &naive, actors, pending, sites, now);
            compare(&track, &naive, sites);
        }
        neap_track_deinit(&track);
    }
}

/* ---- by hand ---- */

static bool put(struct neap_track *track, struct neap_actor *actor, uint32_t site,
                uint64_t address, uint64_t size, uint64_t now_ns)
{
    struct neap_track_alloc alloc = {.address = address, .size = size, .site = site};

    return neap_track_alloc(track, actor, &alloc, now_ns);
}

static void test_peak_is_the_first_moment(void **unused)
{
    struct neap_track track;
    struct neap_actor actor = {.tid = 1};
    uint32_t a, b;

    (void)unused;
    neap_track_init(&track, 0, NULL);
    a = neap_track_site(&track, 10);
    b = neap_track_site(&track, 20);
    assert_true(put(&track, &actor, a, 16, 100, 1));
    neap_track_free(&track, &actor, 16, 9);
    assert_true(put(&track, &actor, b, 32, 100, 2)); /* as high: no news */
    assert_int_equal(track.peak.bytes, 100);
    assert_int_equal(track.peak_ns, 1);
    assert_int_equal(neap_site_peak(&track, a).amount.bytes, 100);
    assert_int_equal(neap_site_peak(&track, b).amount.bytes, 0);
    assert_true(put(&track, &actor, b, 48, 1, 3));
    assert_int_equal(neap_site_peak(&track, a).amount.bytes, 0);
    assert_int_equal(neap_site_peak(&track, b).amount.bytes, 101);
    assert_int_equal(track.peak_ns, 3);
    neap_track_deinit(&track);
}

static void test_temporary_needs_its_own_thread(void **unused)
{
    struct neap_track track;
    struct neap_actor one = {.tid = 1}, two = {.tid = 2};
    uint32_t site;

    (void)unused;
    neap_track_init(&track, 0, NULL);
    site = neap_track_site(&track, 1);
    assert_true(put(&track, &one, site, 16, 5, 1));
    neap_track_free(&track, &two, 16, 9); /* another thread's free: not temporary */
    assert_true(put(&track, &two, site, 16, 5, 1));
    neap_track_free(&track, &one, 16, 9); /* not its block, though its last address */
    assert_int_equal(track.sites.data[site].temporary.count, 0);
    assert_true(put(&track, &one, site, 16, 5, 1));
    assert_true(put(&track, &one, site, 32, 6, 1));
    neap_track_free(&track, &one, 16, 9); /* not before the next allocation */
    assert_int_equal(track.sites.data[site].temporary.count, 0);
    neap_track_free(&track, &one, 32, 9);
    assert_int_equal(track.sites.data[site].temporary.count, 1);
    assert_int_equal(track.sites.data[site].temporary.bytes, 6);
    neap_track_deinit(&track);
}

static void test_failed_realloc_is_nothing(void **unused)
{
    struct neap_track track;
    struct neap_actor actor = {.tid = 1};
    struct neap_realloc pending = {0};
    struct neap_block block;
    struct neap_site before;
    uint32_t site;

    (void)unused;
    neap_track_init(&track, 0, NULL);
    site = neap_track_site(&track, 1);
    assert_true(put(&track, &actor, site, 16, 5, 77));
    before = track.sites.data[site];
    neap_track_realloc_free(&track, &actor, &pending, 16, false, 80);
    assert_int_equal(track.live.bytes, 0);
    assert_int_equal(track.sites.data[site].temporary.count, 1);
    neap_track_realloc_undo(&track, &actor, &pending, 81);
    neap_track_realloc_undo(&track, &actor, &pending, 82); /* once is enough */
    assert_int_equal(track.live.bytes, 5);
    assert_int_equal(track.peak_ns, 77);
    assert_memory_equal(&track.sites.data[site].alloc, &before.alloc,
                        sizeof(before.alloc));
    assert_memory_equal(&track.sites.data[site].free, &before.free,
                        sizeof(before.free));
    assert_int_equal(track.sites.data[site].temporary.count, 0);
    assert_true(neap_blocks_take(&track.blocks, 16, &block));
    assert_int_equal(block.ts_ns, 77);
    assert_int_equal(block.size, 5);
    neap_track_deinit(&track);
}

/* The n-th allocation fails: nothing is counted, and the invariants hold. */
static void test_no_memory(void **unused)
{
    (void)unused;
    for (uint64_t n = 1;; n++) {
        struct neap_track track;
        struct neap_actor actor = {.tid = 1};
        uint64_t taken = 0;
        bool failed;

        neap_track_init(&track, 0, NULL);
        fail_alloc_at(n);
        for (uint64_t i = 1; i <= 300; i++) {
            uint32_t site = neap_track_site(&track, i % 50);

            if (site != NEAP_SITE_NONE)
                taken += put(&track, &actor, site, i * 16, 10, i);
        }
        failed = fail_alloc_happened();
        fail_alloc_at(0);
        assert_int_equal(taken, failed ? 299 : 300);
        assert_int_equal(track.live.count, taken);
        assert_int_equal(track.live.bytes, 10 * taken);
        neap_track_deinit(&track);
        if (!failed)
            break;
        assert_in_range(n, 1, 10000);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_peak_is_the_first_moment),
        cmocka_unit_test(test_temporary_needs_its_own_thread),
        cmocka_unit_test(test_failed_realloc_is_nothing),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
