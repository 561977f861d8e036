/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The books of samples against naive ones, which keep all states there ever were and
 * look for the moments in hindsight.
 */
#include "daemon/ingest/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schema/attr.h"

#define SITES    5
#define STEPS    240
#define BLOCKS   24
#define INTERVAL 1000

static uint64_t random_state = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % below;
}

/* ---- the naive books ---- */

/* After a step: what each site has, by class; 0 is before all steps. */
struct naive_state {
    bool removal;
    enum neap_weigh_class class; /* of the block that came or went */
    uint64_t ts_ns, events;
    struct neap_measure live[SITES][NEAP_WEIGH_CLASSES];
};

struct naive {
    struct naive_state states[STEPS + 1];
    unsigned count;
};

struct naive_moment {
    uint64_t ts_ns, event;
    struct neap_measure share[SITES]; /* doubled */
};

static void add_measure(struct neap_measure *sum, const struct neap_measure *measure,
                        unsigned by)
{
    sum->amount.count += by * measure->amount.count;
    sum->amount.bytes += by * measure->amount.bytes;
    sum->variance += by * measure->variance;
}

/* Twice what is of `half`, and what is certain. */
static struct neap_measure naive_share(const struct naive_state *state, int site,
                                       unsigned half)
{
    struct neap_measure sum = {0};

    for (int i = 0; i < SITES; i++) {
        if (site >= 0 && i != site)
            continue;
        add_measure(&sum, &state->live[i][half], 2);
        add_measure(&sum, &state->live[i][NEAP_WEIGH_BOTH], 1);
    }
    return sum;
}

static uint64_t bytes_of(const struct naive_state *state, unsigned half)
{
    return naive_share(state, -1, half).amount.bytes;
}

static struct naive_moment naive_moment(const struct naive *naive, unsigned m)
{
    struct naive_moment moment = {0};
    unsigned first = 0, best, end;

    for (unsigned i = 1; i < naive->count; i++) {
        if (bytes_of(&naive->states[i], m) > bytes_of(&naive->states[first], m))
            first = i;
    }
    best = first;
    for (unsigned i = first + 1; i < naive->count; i++) {
        if (naive->states[i].removal && naive->states[i].class != 1 - m)
            break;
        if (bytes_of(&naive->states[i], 1 - m) > bytes_of(&naive->states[best], 1 - m))
            best = i;
    }
    if (best == 0)
        return moment;
    for (end = best; end + 1 < naive->count; end++) {
        if (naive->states[end + 1].removal)
            break;
    }
    moment.ts_ns = naive->states[best].ts_ns;
    moment.event = naive->states[end].events;
    for (int i = 0; i < SITES; i++)
        moment.share[i] = naive_share(&naive->states[end], i, 1 - m);
    return moment;
}

/* ---- both ---- */

static void assert_measure(struct neap_measure a, struct neap_measure b, double error)
{
    assert_int_equal(a.amount.count, b.amount.count);
    assert_int_equal(a.amount.bytes, b.amount.bytes);
    if (!(fabs(a.variance - b.variance) <= error))
        fail_msg("variance %.17g is not %.17g", a.variance, b.variance);
}

static void compare(const struct neap_estimate *estimate, const struct naive *naive)
{
    const struct naive_state *now = &naive->states[naive->count - 1];
    struct naive_moment moments[2] = {naive_moment(naive, 0), naive_moment(naive, 1)};
    struct neap_measure sum = {0}, live = {0};
    double error = 1e-6 * (1 + neap_estimate_peak(estimate).variance);

    for (unsigned m = 0; m < 2; m++) {
        assert_int_equal(estimate->moment[m].ts_ns, moments[m].ts_ns);
        if (!estimate->moment[m].lasts)
            assert_int_equal(estimate->moment[m].event, moments[m].event);
    }
    for (uint32_t i = 0; i < SITES; i++) {
        struct neap_measure share = {0}, site = {0};

        for (unsigned m = 0; m < 2; m++)
            add_measure(&share, &moments[m].share[i], 1);
        assert_int_equal(share.amount.count % 2 + share.amount.bytes % 2, 0);
        share.amount.count /= 2;
        share.amount.bytes /= 2;
        share.variance *= NEAP_PEAK_SPREAD / 2;
        assert_measure(neap_estimate_site_peak(estimate, i), share, error);
        add_measure(&sum, &share, 1);
        for (unsigned c = 0; c < NEAP_WEIGH_CLASSES; c++)
            add_measure(&site, &now->live[i][c], 1);
        assert_measure(neap_estimate_live(estimate->sites.data[i].live), site, error);
        add_measure(&live, &site, 1);
    }
    assert_measure(neap_estimate_peak(estimate), sum, error);
    assert_measure(neap_estimate_live(estimate->live), live, error);
}

static void step(struct neap_estimate *estimate, struct naive *naive,
                 const struct neap_change *change, bool comes)
{
    struct naive_state *state = &naive->states[naive->count];
    struct neap_weight weight = neap_weigh(change->size, change->interval);
    struct neap_measure *live;

    *state = naive->states[naive->count - 1];
    state->removal = !comes;
    state->class = neap_weigh_class(change->size, change->interval, change->address);
    state->ts_ns = change->ts_ns;
    state->events = naive->count;
    live = &state->live[change->site][state->class];
    if (comes) {
        add_measure(
            live, &(struct neap_measure){{weight.count, weight.bytes}, weight.variance},
            1);
        neap_estimate_add(estimate, change);
    } else {
        live->amount.count -= weight.count;
        live->amount.bytes -= weight.bytes;
        live->variance -= weight.variance;
        neap_estimate_remove(estimate, change);
    }
    naive->count++;
}

/* Sizes of all classes, small ones by far the most, and some of none. */
static uint64_t some_size(void)
{
    static const uint64_t limits[] = {1, 40, 40, 1000, 3999, 20000};

    return draw(limits[draw(NEAP_ARRAY_LEN(limits))]);
}

static void one_stream(uint64_t intervals)
{
    struct neap_estimate estimate;
    struct neap_change blocks[BLOCKS] = {0};
    static struct naive naive;

    naive = (struct naive){.count = 1};
    neap_estimate_init(&estimate, INTERVAL);
    assert_true(neap_estimate_reach(&estimate, SITES - 1));
    for (unsigned i = 1; i <= STEPS; i++) {
        struct neap_change *block = &blocks[draw(BLOCKS)];
        bool comes = block->address == 0;

        if (comes)
            *block = (struct neap_change){.address = 16 * (1 + draw(1 << 20)),
                                          .size = some_size(),
                                          .interval = INTERVAL << draw(intervals),
                                          .site = (uint32_t)draw(SITES)};
        block->ts_ns = 10 * i;
        /* Events so far: a free is told of before it is one. */
        block->events = comes ? i : i - 1;
        step(&estimate, &naive, block, comes);
        if (!comes)
            block->address = 0;
        compare(&estimate, &naive);
    }
    neap_estimate_deinit(&estimate);
}

static void as_naive_books(void **unused)
{
    (void)unused;
    for (int i = 0; i < 60; i++)
        one_stream(1 + (unsigned)i % 3);
}

/* ---- by hand ---- */

/* Blocks that are all sampled: the peak is the peak, at the time it was. */
static void certain_blocks_have_an_exact_peak(void **unused)
{
    struct neap_estimate estimate;
    uint64_t live = 0, peak = 0, sizes[16] = {0};

    (void)unused;
    neap_estimate_init(&estimate, INTERVAL);
    assert_true(neap_estimate_reach(&estimate, 0));
    for (uint64_t i = 1; i < 2000; i++) {
        uint64_t at = draw(16);
        struct neap_change change = {
            .address = 16 + 16 * at, .interval = INTERVAL, .ts_ns = i, .events = i};

        change.size = sizes[at] ? sizes[at] : 2 * (6000 + draw(40000));
        /* From twelve intervals on the weight is the size, to a byte. */
        if (sizes[at]) {
            live -= neap_weigh(sizes[at], INTERVAL).bytes;
            sizes[at] = 0;
            neap_estimate_remove(&estimate, &change);
        } else {
            live += neap_weigh(change.size, INTERVAL).bytes;
            sizes[at] = change.size;
            neap_estimate_add(&estimate, &change);
        }
        if (live > peak)
            peak = live;
        assert_int_equal(neap_estimate_peak(&estimate).amount.bytes, peak);
        assert_int_equal(neap_estimate_site_peak(&estimate, 0).amount.bytes, peak);
    }
    neap_estimate_deinit(&estimate);
}

/* A heap that only grows is at its peak now, and the moment lasts. */
static void a_ramp_is_at_its_peak(void **unused)
{
    struct neap_estimate estimate;

    (void)unused;
    neap_estimate_init(&estimate, INTERVAL);
    assert_true(neap_estimate_reach(&estimate, 0));
    for (uint64_t i = 1; i < 500; i++) {
        struct neap_change change = {
            .address = 16 * i, .size = 50, .interval = INTERVAL, .ts_ns = i};

        struct neap_measure live;

        neap_estimate_add(&estimate, &change);
        live = neap_estimate_live(estimate.live);
        live.variance *= NEAP_PEAK_SPREAD;
        /* Both halves are at their largest, if not both since this very block. */
        assert_measure(neap_estimate_peak(&estimate), live, 1e-6 * live.variance);
    }
    assert_true(estimate.moment[0].lasts && estimate.moment[1].lasts);
    neap_estimate_deinit(&estimate);
}

/* Variances return to 0 with the last block, whatever was rounded in between. */
static void nothing_live_has_no_variance(void **unused)
{
    struct neap_estimate estimate;
    struct neap_change changes[50];

    (void)unused;
    neap_estimate_init(&estimate, INTERVAL);
    assert_true(neap_estimate_reach(&estimate, 0));
    for (int round = 0; round < 20; round++) {
        struct neap_measure live;

        for (uint64_t i = 0; i < NEAP_ARRAY_LEN(changes); i++) {
            changes[i] = (struct neap_change){
                .address = 16 + 16 * i, .size = some_size(), .interval = INTERVAL};
            neap_estimate_add(&estimate, &changes[i]);
        }
        for (size_t i = 0; i < NEAP_ARRAY_LEN(changes); i++)
            neap_estimate_remove(&estimate, &changes[i]);
        live = neap_estimate_live(estimate.live);
        assert_int_equal(live.amount.bytes + live.amount.count, 0);
        assert_true(live.variance == 0);
        assert_true(neap_estimate_live(estimate.sites.data[0].live).variance == 0);
    }
    neap_estimate_deinit(&estimate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_naive_books),
        cmocka_unit_test(certain_blocks_have_an_exact_peak),
        cmocka_unit_test(a_ramp_is_at_its_peak),
        cmocka_unit_test(nothing_live_has_no_variance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
