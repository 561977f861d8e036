/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/wire/ring: one lane, written and read in one thread and in two, and read
 * while its head tells lies.
 */
#include "schema/wire/ring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/wire/codec.h"

struct lane_under_test {
    struct neap_lane *lane;
    _Atomic uint64_t tail_word;
    struct neap_lane_view view;
    uint64_t head; /* the producer's */
    uint64_t tail; /* the last the producer saw */
};

static int setup(void **state)
{
    struct lane_under_test *t = calloc(1, sizeof(*t));

    if (!t)
        return -1;
    t->lane = aligned_alloc(NEAP_PAGE, NEAP_LANE_STRIDE);
    if (!t->lane) {
        free(t);
        return -1;
    }
    memset(t->lane, 0, NEAP_LANE_STRIDE);
    t->view = (struct neap_lane_view){t->lane, &t->tail_word, 0};
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct lane_under_test *t = *state;

    free(t->lane);
    free(t);
    return 0;
}

/* An ALLOC whose size is `number`; false if the lane is full. */
static bool produce(struct lane_under_test *t, uint64_t number)
{
    struct neap_ev_alloc *alloc;

    alloc = neap_lane_reserve(t->lane, &t->head, t->tail, sizeof(*alloc));
    if (!alloc) {
        t->tail = atomic_load_explicit(&t->tail_word, memory_order_acquire);
        alloc = neap_lane_reserve(t->lane, &t->head, t->tail, sizeof(*alloc));
    }
    if (!alloc)
        return false;
    *alloc = (struct neap_ev_alloc){neap_ev_head(NEAP_EV_ALLOC, 0, 0), ~number, number,
                                    number * 3};
    t->head += sizeof(*alloc);
    neap_lane_publish(t->lane, t->head);
    return true;
}

/* Read what is there; each ALLOC must carry the next number. Returns the next. */
static uint64_t consume(struct lane_under_test *t, uint64_t number)
{
    bool corrupt = false;
    uint32_t length = neap_lane_readable(&t->view, &corrupt);
    uint32_t at = 0;

    if (corrupt)
        fail_msg("corrupt at %llu", (unsigned long long)t->view.tail);
    while (at < length) {
        struct neap_event event;

        if (neap_decode(neap_lane_bytes(&t->view) + at, length - at, &event) !=
            NEAP_DECODE_OK)
            fail_msg("no record at %llu", (unsigned long long)t->view.tail + at);
        if (event.kind == NEAP_EV_ALLOC) {
            if (event.alloc->size != number || event.alloc->address != ~number ||
                event.alloc->stack != number * 3)
                fail_msg("record %llu is wrong", (unsigned long long)number);
            number++;
        }
        at += event.length;
    }
    if (length)
        neap_lane_consume(&t->view, length);
    return number;
}

static void an_empty_lane_has_nothing_to_read(void **state)
{
    struct lane_under_test *t = *state;
    bool corrupt = false;

    assert_int_equal(neap_lane_readable(&t->view, &corrupt), 0);
    assert_false(corrupt);
}

static void nothing_is_readable_before_it_is_published(void **state)
{
    struct lane_under_test *t = *state;
    bool corrupt = false;
    uint64_t head = 0;

    assert_non_null(neap_lane_reserve(t->lane, &head, 0, 64));
    assert_int_equal(neap_lane_readable(&t->view, &corrupt), 0);
    neap_lane_publish(t->lane, 64);
    assert_int_equal(neap_lane_readable(&t->view, &corrupt), 64);
    assert_false(corrupt);
}

static void a_full_lane_refuses_until_it_is_read(void **state)
{
    struct lane_under_test *t = *state;
    uint64_t written = 0, read = 0;

    while (produce(t, written))
        written++;
    assert_int_equal(written, NEAP_LANE_BYTES / sizeof(struct neap_ev_alloc));
    assert_false(produce(t, written));
    read = consume(t, read);
    assert_int_equal(read, written);
    assert_true(produce(t, written));
    assert_int_equal(consume(t, read), written + 1);
}

/* Records of all lengths, so that laps end in pads of all lengths. */
static void laps_end_in_pads_that_are_skipped(void **state)
{
    struct lane_under_test *t = *state;
    uint64_t written = 0, read = 0;
    uint64_t pads = 0;

    for (int i = 0; i < 200000; i++) {
        uint16_t depth = (uint16_t)(i * 7 % 61);
        uint32_t size = 24 + 8u * depth;
        uint64_t before = t->head;
        struct neap_ev_stack *stack;

        stack = neap_lane_reserve(t->lane, &t->head, t->view.tail, size);
        if (!stack) {
            assert_true(t->head == before);
            while (read < written) {
                struct neap_event event;
                bool corrupt = false;
                uint32_t length = neap_lane_readable(&t->view, &corrupt);

                assert_false(corrupt);
                assert_int_equal(neap_decode(neap_lane_bytes(&t->view), length, &event),
                                 NEAP_DECODE_OK);
                if (event.kind == NEAP_EV_PAD) {
                    pads++;
                    /* A pad goes to the end of the lap and not one byte further. */
                    assert_int_equal((t->view.tail + event.length) % NEAP_LANE_BYTES,
                                     0);
                } else {
                    assert_int_equal(event.kind, NEAP_EV_STACK);
                    assert_int_equal(event.stack->hash, read);
                    read++;
                }
                neap_lane_consume(&t->view, event.length);
            }
            i--;
            continue;
        }
        *stack = (struct neap_ev_stack){.head = neap_ev_head(NEAP_EV_STACK, 0, 0),
                                        .hash = written++,
                                        .depth = depth};
        t->head += size;
        neap_lane_publish(t->lane, t->head);
    }
    assert_true(pads > 50);
}

static void positions_go_on_past_32_bits(void **state)
{
    struct lane_under_test *t = *state;
    uint64_t start = (1ull << 32) - 4096;

    t->head = t->tail = t->view.tail = start;
    atomic_store(&t->tail_word, start);
    neap_lane_publish(t->lane, start);
    uint64_t read = 0;

    for (uint64_t i = 0; i < 100000; i++) {
        if (!produce(t, i)) {
            read = consume(t, read);
            read = consume(t, read);
            assert_true(produce(t, i));
        }
    }
    read = consume(t, read);
    assert_int_equal(consume(t, read), 100000);
    assert_true(t->view.tail > 1ull << 32);
}

static void a_head_that_makes_no_sense_is_corrupt(void **state)
{
    struct lane_under_test *t = *state;
    static const uint64_t lies[] = {
        NEAP_LANE_BYTES + 8, /* more than a lap ahead */
        UINT64_MAX - 7,      /* behind the tail */
        1,
        4,
        1004, /* no multiple of a record's unit */
        1ull << 63,
    };

    for (size_t i = 0; i < NEAP_ARRAY_LEN(lies); i++) {
        bool corrupt = false;

        neap_lane_publish(t->lane, lies[i]);
        assert_int_equal(neap_lane_readable(&t->view, &corrupt), 0);
        assert_true(corrupt);
    }
    /* Backwards after something was read. */
    bool corrupt = false;

    neap_lane_publish(t->lane, 64);
    assert_int_equal(neap_lane_readable(&t->view, &corrupt), 64);
    neap_lane_consume(&t->view, 64);
    neap_lane_publish(t->lane, 32);
    assert_int_equal(neap_lane_readable(&t->view, &corrupt), 0);
    assert_true(corrupt);
}

static void what_is_readable_never_leaves_the_lap(void **state)
{
    struct lane_under_test *t = *state;

    for (uint64_t tail = 0; tail < 3 * NEAP_LANE_BYTES; tail += 4088) {
        for (uint64_t ahead = 0; ahead <= NEAP_LANE_BYTES; ahead += 8 * 1021) {
            bool corrupt = false;

            t->view.tail = tail;
            neap_lane_publish(t->lane, tail + ahead);
            uint32_t length = neap_lane_readable(&t->view, &corrupt);

            assert_false(corrupt);
            assert_true(length <= ahead);
            assert_true(tail % NEAP_LANE_BYTES + length <= NEAP_LANE_BYTES);
            assert_true((length == 0) == (ahead == 0));
        }
    }
}

enum {
    NUMBERS = 300000
};

static void *producer(void *argument)
{
    struct lane_under_test *t = argument;

    for (uint64_t i = 0; i < NUMBERS; i++)
        while (!produce(t, i))
            sched_yield();
    return NULL;
}

static void two_threads_pass_every_record_in_order(void **state)
{
    struct lane_under_test *t = *state;
    uint64_t read = 0;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, producer, t), 0);
    while (read < NUMBERS) {
        uint64_t before = read;

        read = consume(t, read);
        if (read == before)
            sched_yield();
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(read, NUMBERS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_lane_has_nothing_to_read),
        TEST(nothing_is_readable_before_it_is_published),
        TEST(a_full_lane_refuses_until_it_is_read),
        TEST(laps_end_in_pads_that_are_skipped),
        TEST(positions_go_on_past_32_bits),
        TEST(a_head_that_makes_no_sense_is_corrupt),
        TEST(what_is_readable_never_leaves_the_lap),
        TEST(two_threads_pass_every_record_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
