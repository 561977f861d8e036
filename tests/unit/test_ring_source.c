/* SPDX-License-Identifier: Apache-2.0 */
/* Links: tests/unit/producer.c */
/*
 * The reading of lanes: order over several of them, gaps, the cut, hostile bytes.
 * The target's side is played by producer.c in the same process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/source/ring_source.h"
#include "tests/unit/producer.h"

#define MIB      (1ull << 20)
#define SEEN_MAX 100000
#define FUTURE   (1ull << 62) /* no stamp counter gets there */

struct seen {
    uint32_t lane;
    uint32_t kind;
    uint32_t seq;
    uint64_t address;
};

struct fixture {
    _Atomic uint64_t *tails;
    struct neap_ring_scratch *scratch;
    struct neap_ring_source *source;
    struct producer producer;
    struct seen *seen;
    size_t count;
    uint64_t lost[4]; /* events, lanes, corrupt, order */
    uint64_t corrupt_bytes;
};

static const char *const words[] = {"events", "lanes", "corrupt", "order"};

static void on_event(void *context, uint32_t lane, const struct neap_event *event)
{
    struct fixture *fixture = context;
    struct seen seen = {.lane = lane, .kind = event->kind, .seq = event->seq};

    if (event->kind >= NEAP_EV_ALLOC && event->kind <= NEAP_EV_REALLOC_FAIL)
        seen.address = event->free->address;
    if (fixture->count < SEEN_MAX)
        fixture->seen[fixture->count] = seen;
    fixture->count++;
}

static void on_loss(void *context, const char *what, uint64_t count, uint64_t bytes)
{
    struct fixture *fixture = context;

    assert_true(count > 0);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(words); i++) {
        if (strcmp(words[i], what) == 0) {
            fixture->lost[i] += count;
            fixture->corrupt_bytes += i == 2 ? bytes : 0;
            return;
        }
    }
    assert_string_equal(what, "stacks");
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct neap_sink sink = {.event = on_event, .loss = on_loss, .context = fixture};

    fixture->tails = calloc(NEAP_LANES_MAX, sizeof(*fixture->tails));
    fixture->seen = calloc(SEEN_MAX, sizeof(*fixture->seen));
    assert_null(neap_ring_scratch_create(&fixture->scratch));
    assert_null(neap_ring_source_create(fixture->tails, &sink, true, &fixture->source));
    producer_init(&fixture->producer, neap_ring_source_fd(fixture->source),
                  fixture->tails);
    assert_true(fixture->producer.header->magic == NEAP_DATA_MAGIC);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    producer_deinit(&fixture->producer);
    neap_ring_source_destroy(fixture->source);
    neap_ring_scratch_destroy(fixture->scratch);
    free((void *)fixture->tails);
    free(fixture->seen);
    free(fixture);
    return 0;
}

static enum neap_activity drain(struct fixture *fixture, uint64_t now_ns,
                                enum neap_drain mode)
{
    return neap_ring_source_drain(fixture->source, fixture->scratch, now_ns, mode);
}

static enum neap_activity pass(struct fixture *fixture)
{
    return drain(fixture, 1, NEAP_DRAIN_PASS);
}

static void count_losses(struct fixture *fixture)
{
    struct neap_ring_counters counters;

    neap_ring_source_counters(fixture->source, &counters);
}

static void expect_seqs(const struct fixture *fixture, const uint32_t *seqs,
                        size_t count)
{
    assert_int_equal(fixture->count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(fixture->seen[i].seq, seqs[i]);
}

static void test_nothing(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(pass(fixture), NEAP_ACTIVITY_NONE);
    assert_false(neap_ring_source_waiting(fixture->source));
    producer_claim(&fixture->producer, 1);
    assert_true(neap_ring_source_waiting(fixture->source));
    assert_int_equal(pass(fixture), NEAP_ACTIVITY_NONE);
    assert_false(neap_ring_source_waiting(fixture->source));
}

static void test_one_lane(void **state)
{
    struct fixture *fixture = *state;
    uint32_t kinds[] = {NEAP_EV_TIME, NEAP_EV_ALLOC, NEAP_EV_FREE};

    producer_claim(&fixture->producer, 1);
    assert_true(producer_time(&fixture->producer, 0, 5));
    assert_true(producer_alloc(&fixture->producer, 0, 0, 0, MIB, 10));
    assert_true(producer_free(&fixture->producer, 0, 1, 0, MIB));
    assert_int_equal(pass(fixture), NEAP_ACTIVITY_SOME);
    assert_int_equal(fixture->count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(fixture->seen[i].kind, kinds[i]);
    assert_int_equal(pass(fixture), NEAP_ACTIVITY_NONE);
    assert_true(fixture->tails[0] == 24 + 32 + 16);
}

/* Many laps, full at times, with records that leave an odd rest for a PAD. */
static void test_laps(void **state)
{
    struct fixture *fixture = *state;
    bool busy = false;
    uint32_t put = 0;

    producer_claim(&fixture->producer, 1);
    while (put < 60000) {
        if (producer_alloc(&fixture->producer, 0, put & NEAP_SEQ_MASK, 0, MIB, 1)) {
            put++;
            if (put % 7 == 0)
                (void)producer_time(&fixture->producer, 0, put); /* or it is full */
        } else {
            busy |= pass(fixture) == NEAP_ACTIVITY_BUSY;
        }
    }
    while (pass(fixture) != NEAP_ACTIVITY_NONE)
        ;
    assert_true(busy);
    put = 0;
    for (size_t i = 0; i < fixture->count; i++) {
        assert_true(fixture->seen[i].kind != NEAP_EV_PAD);
        if (fixture->seen[i].kind == NEAP_EV_ALLOC)
            assert_int_equal(fixture->seen[i].seq, put++);
    }
    assert_int_equal(put, 60000);
}

static void two_lanes(struct fixture *fixture)
{
    producer_claim(&fixture->producer, 2);
    atomic_store(&fixture->producer.header->multi, 1);
    assert_true(producer_time(&fixture->producer, 0, 100));
    assert_true(producer_time(&fixture->producer, 1, 100));
    pass(fixture);
    fixture->count = 0;
}

/* Addresses of different shards: the stamps alone decide. */
static void test_merge_by_stamp(void **state)
{
    struct fixture *fixture = *state;
    uint64_t order[] = {1, 2, 3, 4, 5, 6};

    two_lanes(fixture);
    producer_alloc(&fixture->producer, 0, 0, 10, 1 * MIB, 1);
    producer_alloc(&fixture->producer, 0, 0, 30, 3 * MIB, 1);
    producer_alloc(&fixture->producer, 0, 0, 60, 6 * MIB, 1);
    producer_alloc(&fixture->producer, 1, 0, 20, 2 * MIB, 1);
    producer_alloc(&fixture->producer, 1, 0, 40, 4 * MIB, 1);
    producer_alloc(&fixture->producer, 1, 0, 0, 5 * MIB, 1); /* as its forerunner */
    pass(fixture);
    assert_int_equal(fixture->count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_true(fixture->seen[i].address == order[i] * MIB);
}

/* One shard: the numbers win over the stamps, and lane-mates wait. */
static void test_sequence_wins(void **state)
{
    struct fixture *fixture = *state;
    uint32_t seqs[] = {0, 1, 2, 3};

    two_lanes(fixture);
    producer_alloc(&fixture->producer, 0, 1, 10, MIB, 1);
    producer_alloc(&fixture->producer, 0, 2, 11, MIB, 1);
    producer_free(&fixture->producer, 1, 0, 50, MIB);
    producer_free(&fixture->producer, 1, 3, 60, MIB);
    pass(fixture);
    expect_seqs(fixture, seqs, 4);
    assert_int_equal(fixture->seen[0].lane, 1);
}

static void test_wait_for_publication(void **state)
{
    struct fixture *fixture = *state;
    uint32_t seqs[] = {0, 1};

    two_lanes(fixture);
    producer_free(&fixture->producer, 0, 1, 10, MIB);
    pass(fixture);
    assert_int_equal(fixture->count, 0);
    producer_alloc(&fixture->producer, 1, 0, 5, MIB, 1);
    pass(fixture);
    expect_seqs(fixture, seqs, 2);
    count_losses(fixture);
    assert_true(fixture->lost[3] == 0);
}

/* A number that does not come is given up after a second, and counted once. */
static void test_gap(void **state)
{
    struct fixture *fixture = *state;
    uint32_t seqs[] = {2, 3};

    two_lanes(fixture);
    producer_free(&fixture->producer, 0, 2, 10, MIB);
    producer_free(&fixture->producer, 1, 3, 5, MIB);
    drain(fixture, 1000, NEAP_DRAIN_PASS);
    drain(fixture, 900000000, NEAP_DRAIN_PASS);
    assert_int_equal(fixture->count, 0);
    drain(fixture, 1000002000, NEAP_DRAIN_PASS);
    expect_seqs(fixture, seqs, 2);
    count_losses(fixture);
    count_losses(fixture);
    assert_true(fixture->lost[3] == 2);
    /* What comes late is taken as it is. */
    producer_free(&fixture->producer, 1, 1, 50, MIB);
    pass(fixture);
    assert_int_equal(fixture->count, 3);
}

/* The gap of the earliest blocked event only: the other one is not missing. */
static void test_gap_of_the_earliest(void **state)
{
    struct fixture *fixture = *state;

    two_lanes(fixture);
    producer_free(&fixture->producer, 0, 1, 10, 1 * MIB); /* number 0 is lost */
    producer_free(&fixture->producer, 0, 0, 20, 2 * MIB);
    producer_free(&fixture->producer, 1, 1, 30, 2 * MIB); /* waits for the above */
    drain(fixture, 1000, NEAP_DRAIN_PASS);
    drain(fixture, 2000000000, NEAP_DRAIN_PASS);
    assert_int_equal(fixture->count, 3);
    assert_true(fixture->seen[0].address == MIB);
    assert_int_equal(fixture->seen[1].seq, 0);
    assert_int_equal(fixture->seen[2].seq, 1);
    count_losses(fixture);
    assert_true(fixture->lost[3] == 1);
}

static void test_final(void **state)
{
    struct fixture *fixture = *state;
    uint32_t seqs[] = {4, 9};

    two_lanes(fixture);
    producer_free(&fixture->producer, 0, 9, 10, MIB);
    producer_free(&fixture->producer, 1, 4, 20, MIB);
    drain(fixture, 1, NEAP_DRAIN_FINAL);
    expect_seqs(fixture, seqs, 2);
    assert_int_equal(drain(fixture, 1, NEAP_DRAIN_FINAL), NEAP_ACTIVITY_NONE);
    count_losses(fixture);
    assert_true(fixture->lost[3] == 8);
}

static void test_cut(void **state)
{
    struct fixture *fixture = *state;

    two_lanes(fixture);
    producer_alloc(&fixture->producer, 0, 0, 10, 1 * MIB, 1);
    producer_time(&fixture->producer, 1, FUTURE);
    producer_alloc(&fixture->producer, 1, 0, 10, 2 * MIB, 1);
    pass(fixture);
    assert_int_equal(fixture->count, 1);
    assert_true(neap_ring_source_waiting(fixture->source));
    drain(fixture, 1, NEAP_DRAIN_FINAL);
    assert_int_equal(fixture->count, 3);
}

/* ---- hostile bytes ---- */

static void check_corrupt(struct fixture *fixture, uint64_t bytes)
{
    producer_alloc(&fixture->producer, 1, 0, 10, 7 * MIB, 1);
    pass(fixture);
    assert_int_equal(fixture->count, 1);
    assert_true(fixture->seen[0].address == 7 * MIB);
    count_losses(fixture);
    assert_true(fixture->corrupt_bytes == bytes);
    /* The lane is not read any more, but its owner never waits for room. */
    fixture->count = 0;
    for (unsigned i = 0; i < 3 * NEAP_LANE_BYTES / 32; i++) {
        if (producer_alloc(&fixture->producer, 0, i, 0, MIB, 1))
            continue;
        pass(fixture);
        assert_true(producer_alloc(&fixture->producer, 0, i, 0, MIB, 1));
    }
    assert_int_equal(fixture->count, 0);
}

static void test_corrupt_kind(void **state)
{
    struct fixture *fixture = *state;
    uint64_t bad[3] = {0xee, 1, 2};

    two_lanes(fixture);
    producer_put(&fixture->producer, 0, bad, sizeof(bad));
    check_corrupt(fixture, sizeof(bad));
    assert_true(fixture->lost[2] == 1);
}

static void test_corrupt_short(void **state)
{
    struct fixture *fixture = *state;
    uint64_t bad = neap_ev_head(NEAP_EV_ALLOC, 0, 0);

    two_lanes(fixture);
    producer_put(&fixture->producer, 0, &bad, sizeof(bad));
    check_corrupt(fixture, sizeof(bad));
}

static void test_head_too_far(void **state)
{
    struct fixture *fixture = *state;

    two_lanes(fixture);
    producer_lane(&fixture->producer, 0)->head += NEAP_LANE_BYTES + 8;
    pass(fixture);
    producer_lane(&fixture->producer, 0)->head = fixture->tails[0];
    check_corrupt(fixture, 0);
}

static void test_head_unaligned(void **state)
{
    struct fixture *fixture = *state;

    two_lanes(fixture);
    producer_lane(&fixture->producer, 0)->head += 12;
    pass(fixture);
    producer_lane(&fixture->producer, 0)->head += 4;
    check_corrupt(fixture, 12 + 4);
}

static void test_counters(void **state)
{
    struct fixture *fixture = *state;
    struct neap_ring_counters counters;
    struct neap_lane *lane = producer_lane(&fixture->producer, 1);

    two_lanes(fixture);
    lane->lost_events = 3;
    fixture->producer.header->lane_loss = 4;
    fixture->producer.header->waits = 5;
    neap_ring_source_counters(fixture->source, &counters);
    neap_ring_source_counters(fixture->source, &counters);
    assert_true(fixture->lost[0] == 3 && fixture->lost[1] == 4);
    assert_true(counters.waits == 5);
    lane->lost_events = 1; /* counters that shrink are not believed */
    neap_ring_source_counters(fixture->source, &counters);
    lane->lost_events = UINT64_MAX;
    fixture->producer.header->waits = UINT64_MAX;
    neap_ring_source_counters(fixture->source, &counters);
    assert_true(fixture->lost[0] <= 1ull << 48);
    assert_true(counters.waits <= 1ull << 48);
}

static void test_too_many_lanes(void **state)
{
    struct fixture *fixture = *state;

    producer_claim(&fixture->producer, UINT32_MAX);
    assert_int_equal(pass(fixture), NEAP_ACTIVITY_NONE);
    assert_int_equal(neap_ring_source_lanes(fixture->source), NEAP_LANES_MAX);
    for (uint32_t i = 0; i < NEAP_LANES_MAX; i++)
        producer_alloc(&fixture->producer, i, 0, 0, (uint64_t)i * MIB, 1);
    drain(fixture, 1, NEAP_DRAIN_FINAL);
    assert_int_equal(fixture->count, NEAP_LANES_MAX);
}

static void test_lanes_are_filled_ahead(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(neap_ring_source_filled(fixture->source), 1);
    producer_claim(&fixture->producer, 1);
    pass(fixture);
    assert_int_equal(neap_ring_source_filled(fixture->source), 1);
    two_lanes(fixture);
    assert_int_equal(neap_ring_source_filled(fixture->source), 3);
}

/* ---- threads ---- */

#define THREADS 3
#define EACH    20000
#define SHARDS  4

struct worker {
    struct fixture *fixture;
    _Atomic uint32_t *seqs;
    uint32_t lane;
};

static void *produce(void *context)
{
    const struct worker *worker = context;
    const struct producer *producer = &worker->fixture->producer;
    uint64_t base = neap_stamp();

    while (!producer_time(producer, worker->lane, base))
        ;
    for (uint32_t i = 0; i < EACH; i++) {
        uint64_t shard = (i * 7 + worker->lane) % SHARDS;
        struct neap_ev_free *record;
        uint64_t head;

        do
            record = producer_reserve(producer, worker->lane, &head, sizeof(*record));
        while (!record);
        record->head = neap_ev_head(NEAP_EV_FREE, worker->seqs[shard]++,
                                    (uint32_t)(neap_stamp() - base));
        record->address = shard * MIB;
        neap_lane_publish(producer_lane(producer, worker->lane),
                          head + sizeof(*record));
    }
    return NULL;
}

/* Whatever the threads do, each shard comes out in order, and whole. */
static void test_threads(void **state)
{
    struct fixture *fixture = *state;
    _Atomic uint32_t seqs[SHARDS] = {0};
    uint32_t next[SHARDS] = {0};
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    uint64_t now = 0;
    size_t frees = 0;

    producer_claim(&fixture->producer, THREADS);
    atomic_store(&fixture->producer.header->multi, 1);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){fixture, seqs, i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &workers[i]), 0);
    }
    while (fixture->count < THREADS * (EACH + 1))
        drain(fixture, now++, NEAP_DRAIN_PASS);
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < fixture->count; i++) {
        const struct seen *seen = &fixture->seen[i];

        if (seen->kind != NEAP_EV_FREE)
            continue;
        assert_int_equal(seen->seq, next[seen->address / MIB]++);
        frees++;
    }
    assert_int_equal(frees, THREADS * EACH);
    count_losses(fixture);
    assert_true(fixture->lost[3] == 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_nothing),
        T(test_one_lane),
        T(test_laps),
        T(test_merge_by_stamp),
        T(test_sequence_wins),
        T(test_wait_for_publication),
        T(test_gap),
        T(test_gap_of_the_earliest),
        T(test_final),
        T(test_cut),
        T(test_corrupt_kind),
        T(test_corrupt_short),
        T(test_head_too_far),
        T(test_head_unaligned),
        T(test_counters),
        T(test_too_many_lanes),
        T(test_lanes_are_filled_ahead),
        T(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
