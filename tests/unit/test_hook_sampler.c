/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/sampler: the logarithm, the gaps, and how often a block of some size is
 * sampled. All draws are of fixed seeds, so a bound that holds today holds tomorrow.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c libhook/emit.c libhook/emit_rare.c
 * Links: libhook/emit_sample.c libhook/gate.c libhook/sampler.c libhook/samples.c
 * Links: libhook/lane.c libhook/life.c libhook/link.c libhook/modules.c
 * Links: libhook/oracle.c libhook/real.c libhook/selfmem.c libhook/stack.c
 * Links: libhook/stackset.c libhook/unwind.c libhook/walk.c libhook/rules.c
 * Links: libhook/ownheap.c libhook/marks.c libhook/heap/%.c libhook/enter.c
 * Links: tests/unit/hook_process.c
 */
#include "libhook/sampler.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/hook_process.h"

static double error_of(double u)
{
    double right = -log(u), ours = neap_sampler_minus_ln(u);

    return right == 0 ? fabs(ours) : fabs(ours - right) / right;
}

static void the_logarithm_is_right(void **state)
{
    double worst = 0, u;

    (void)state;
    for (int i = 1; i <= 200000; i++) {
        worst = fmax(worst, error_of(i / 200000.0));
        worst = fmax(worst, error_of(ldexp(i / 200000.0, -i % 53)));
    }
    u = 1;
    for (int i = 0; i < 2000; i++) {
        u = nextafter(u, 0); /* close to 1, where the result is all but nothing */
        worst = fmax(worst, error_of(u));
    }
    for (int e = 0; e <= 53; e++) {
        worst = fmax(worst, error_of(ldexp(1, -e)));
        worst = fmax(worst, error_of(ldexp(sqrt(2), -e - 1)));
        worst = fmax(worst, error_of(nextafter(ldexp(sqrt(2), -e - 1), 0)));
    }
    assert_true(worst < 1e-14);
    assert_true(neap_sampler_minus_ln(1) == 0);
}

enum {
    CLASSES = 20,
    DRAWS = 400000
};

/* Equally likely classes of an exponential distribution, and chi-square over them. */
static void gaps_are_exponential(void **state)
{
    static const uint64_t intervals[] = {64, 4096, 524288, 1ull << 33};

    (void)state;
    for (unsigned n = 0; n < NEAP_ARRAY_LEN(intervals); n++) {
        uint64_t random = 4711 + n;
        double sum = 0, chi = 0, mean, expected = DRAWS / (double)CLASSES;
        unsigned in[CLASSES] = {0};

        for (int i = 0; i < DRAWS; i++) {
            int64_t gap = neap_sampler_gap(&random, intervals[n]);
            /* Half up: a gap is the floor of what was drawn. */
            double p = 1 - exp(-((double)gap + 0.5) / (double)intervals[n]);

            assert_true(gap >= 0);
            sum += (double)gap;
            in[(unsigned)(p * CLASSES) % CLASSES]++;
        }
        mean = sum / DRAWS + 0.5;
        /* 4 standard deviations, and what the floor leaves open */
        assert_true(fabs(mean / (double)intervals[n] - 1) < 4 / sqrt(DRAWS) + 0.001);
        for (unsigned i = 0; i < CLASSES; i++)
            chi += (in[i] - expected) * (in[i] - expected) / expected;
        /* 19 degrees of freedom: 43.8 is passed once in 1 000; 64 is coarse. */
        assert_true(intervals[n] == 64 || chi < 43.8);
    }
}

static void the_longest_gap_fits(void **state)
{
    uint64_t random = 1;

    (void)state;
    for (int i = 0; i < 10000; i++)
        assert_true(neap_sampler_gap(&random, UINT64_MAX) >= 0);
}

/* As malloc does: through the countdown, then in earnest. */
static uint64_t allocate(size_t size)
{
    return neap_sampler_passes(&neap_tls, size) ? NEAP_UNSEEN
                                                : neap_sampler_take(&neap_tls, size);
}

static unsigned sampled_of(unsigned blocks, size_t size, uint64_t interval)
{
    unsigned sampled = 0;

    for (unsigned i = 0; i < blocks; i++) {
        uint64_t drawn = allocate(size);

        if (drawn == NEAP_UNSEEN)
            continue;
        assert_int_equal(drawn, interval);
        sampled++;
    }
    return sampled;
}

static void a_block_is_sampled_as_its_size_says(void **state)
{
    static const struct {
        size_t size;
        uint64_t interval;
    } cases[] = {{0, 64},       {1, 64},        {63, 64},     {200, 64},
                 {0, 4096},     {15, 4096},     {4095, 4096}, {9000, 4096},
                 {100, 524288}, {65536, 524288}};
    enum {
        BLOCKS = 300000
    };

    (void)state;
    neap_sampler_configure("42");
    for (unsigned n = 0; n < NEAP_ARRAY_LEN(cases); n++) {
        double k = (double)cases[n].size + 1,
               p = 1 - exp(-k / (double)cases[n].interval);
        double expected = BLOCKS * p, deviation = sqrt(BLOCKS * p * (1 - p));
        double found;

        hook_thread();
        hook_open(NEAP_MODE_SAMPLED, cases[n].interval);
        found = sampled_of(BLOCKS, cases[n].size, cases[n].interval);
        assert_true(fabs(found - expected) < 4 * deviation + 1);
    }
}

static void mixed_sizes_do_not_disturb_one_another(void **state)
{
    enum {
        ROUNDS = 200000
    };
    static const size_t sizes[] = {8, 1000, 40, 5000};
    unsigned found[4] = {0};

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 8192);
    neap_sampler_configure("7");
    for (unsigned i = 0; i < ROUNDS; i++)
        for (unsigned j = 0; j < 4; j++)
            found[j] += allocate(sizes[j]) != NEAP_UNSEEN;
    for (unsigned j = 0; j < 4; j++) {
        double p = 1 - exp(-((double)sizes[j] + 1) / 8192);

        assert_true(fabs(found[j] - ROUNDS * p) < 4 * sqrt(ROUNDS * p * (1 - p)));
    }
}

static void the_first_block_is_no_sample_for_that(void **state)
{
    unsigned first = 0;

    (void)state;
    neap_sampler_configure("1");
    hook_open(NEAP_MODE_SAMPLED, 1 << 20);
    for (unsigned i = 0; i < 2000; i++) {
        hook_thread();
        first += allocate(1023) != NEAP_UNSEEN;
    }
    assert_true(first < 10); /* 2 of 2 000 are to be expected */
}

static void a_sample_has_the_interval_of_its_gap(void **state)
{
    (void)state;
    neap_sampler_configure("5");
    hook_open(NEAP_MODE_SAMPLED, 100);
    assert_int_equal(allocate(100000),
                     100); /* the next gap is drawn with 100 as well */
    hook_open(NEAP_MODE_SAMPLED, 400);
    assert_int_equal(allocate(100000), 100);
    assert_int_equal(allocate(100000), 400);
    atomic_store(&neap_process->interval, 800); /* our own, when it is higher */
    assert_int_equal(allocate(100000), 400);
    assert_int_equal(allocate(100000), 800);
    hook_open(NEAP_MODE_SAMPLED, 1600);
    assert_int_equal(allocate(100000), 800);
    assert_int_equal(allocate(100000), 1600);
}

static void no_interval_is_one_of_a_byte(void **state)
{
    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 0);
    assert_int_equal(allocate(4096), 1);
}

static void sizes_that_nobody_serves_do_no_harm(void **state)
{
    (void)state;
    neap_sampler_configure("9");
    hook_open(NEAP_MODE_SAMPLED, 4096);
    for (int i = 0; i < 100; i++) {
        allocate(SIZE_MAX);
        allocate(SIZE_MAX - 1);
        allocate(SIZE_MAX - (1ul << 40)); /* a negative number, by mistake */
        allocate((size_t)PTRDIFF_MAX + 1);
        allocate(PTRDIFF_MAX);
        allocate(64);
        assert_true(neap_tls.left >= 0 && neap_tls.left < 200 * 4096);
    }
}

static void fill(int64_t ret[64])
{
    hook_thread();
    for (int i = 0; i < 64; i++) {
        allocate(100000);
        ret[i] = neap_tls.left;
    }
}

static void *fill_in_thread(void *ret)
{
    fill(ret);
    return NULL;
}

static void a_seed_repeats_the_samples_of_each_thread(void **state)
{
    int64_t gaps[2][2][64];

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1000);
    neap_sampler_configure("31337");
    for (int run = 0; run < 2; run++) {
        pthread_t thread;

        atomic_store(&neap_process->ordinal, 0);
        fill(gaps[run][0]);
        assert_int_equal(pthread_create(&thread, NULL, fill_in_thread, gaps[run][1]),
                         0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_memory_equal(gaps[0], gaps[1], sizeof(gaps[0]));
    assert_memory_not_equal(gaps[0][0], gaps[0][1], sizeof(gaps[0][0]));
    neap_sampler_configure(NULL);
    fill(gaps[1][0]);
    assert_memory_not_equal(gaps[0][0], gaps[1][0], sizeof(gaps[0][0]));
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, hook_process_setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_logarithm_is_right),
        cmocka_unit_test(gaps_are_exponential),
        cmocka_unit_test(the_longest_gap_fits),
        TEST(a_block_is_sampled_as_its_size_says),
        TEST(mixed_sizes_do_not_disturb_one_another),
        TEST(the_first_block_is_no_sample_for_that),
        TEST(a_sample_has_the_interval_of_its_gap),
        TEST(no_interval_is_one_of_a_byte),
        TEST(sizes_that_nobody_serves_do_no_harm),
        TEST(a_seed_repeats_the_samples_of_each_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
