/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sample stands for: whole numbers where it must, and over many simulated
 * samples no bias, neither in the estimate nor in the estimate of its variance.
 */
#include "schema/base/weigh.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schema/attr.h"

static uint64_t state = 88172645463325252u;

static double draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

static void assert_near(double value, double expected, double error)
{
    if (!(fabs(value - expected) <= error))
        fail_msg("%.17g is not %.17g within %.3g", value, expected, error);
}

static void exact_blocks_stand_for_themselves(void **unused)
{
    static const uint64_t sizes[] = {0, 1, 7, 4096, 1ull << 47, UINT64_MAX};

    (void)unused;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
        struct neap_weight weight = neap_weigh(sizes[i], 0);

        assert_true(weight.bytes == sizes[i]);
        assert_int_equal(weight.count, NEAP_WEIGHT_ONE);
        assert_true(weight.variance == 0);
    }
    assert_int_equal(neap_weight_blocks(0), 0);
    assert_int_equal(neap_weight_blocks(3 * NEAP_WEIGHT_ONE), 3);
    assert_int_equal(neap_weight_blocks(NEAP_WEIGHT_ONE / 2), 1);
    assert_int_equal(neap_weight_blocks(NEAP_WEIGHT_ONE / 2 - 1), 0);
}

/* 1/p and size/p to half a unit of what they are rounded to, and even. */
static void weights_are_rounded_and_even(void **unused)
{
    static const uint64_t sizes[] = {0,    1,       16,         24,        1000,
                                     4096, 1 << 19, 3000000001, 1ull << 40};
    static const uint64_t intervals[] = {1, 2, 3, 1000, 512 << 10, 1 << 30, 1ull << 40};

    (void)unused;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
        for (size_t j = 0; j < NEAP_ARRAY_LEN(intervals); j++) {
            struct neap_weight weight = neap_weigh(sizes[i], intervals[j]);
            double size = (double)sizes[i];
            double p = 1 - exp(-(size + 1) / (double)intervals[j]);

            if ((size + 1) / (double)intervals[j] < 1e-9)
                p = (size + 1) / (double)intervals[j]; /* 1 - exp() has no digits */
            assert_true(weight.bytes % 2 == 0 && weight.count % 2 == 0);
            assert_near((double)weight.bytes, size / p, 1 + 1e-6 * size / p);
            assert_near((double)weight.count, NEAP_WEIGHT_ONE / p,
                        1 + 1e-6 * NEAP_WEIGHT_ONE / p);
            assert_near(weight.variance, size * size * (1 - p) / (p * p),
                        1e-6 * size * size / (p * p) + 1e-9);
            assert_true(weight.variance >= 0);
        }
    }
}

/* Blocks that are larger than the interval by far are all sampled. */
static void large_blocks_are_certain(void **unused)
{
    struct neap_weight weight = neap_weigh(100 << 20, 512 << 10);

    (void)unused;
    assert_int_equal(weight.bytes, 100 << 20);
    assert_int_equal(weight.count, NEAP_WEIGHT_ONE);
    assert_near(weight.variance, 0, 1e-6);
    weight = neap_weigh((1ull << 48) - 1, 1);
    assert_true(weight.bytes >= (1ull << 48) - 2 && weight.bytes <= 1ull << 48);
    assert_int_equal(weight.count, NEAP_WEIGHT_ONE);
}

/* What nobody writes in earnest is still a number, and leaves room for sums. */
static void hostile_weights_stay_finite(void **unused)
{
    static const uint64_t intervals[] = {NEAP_INTERVAL_MAX, NEAP_INTERVAL_MAX + 1,
                                         1ull << 63, UINT64_MAX};

    (void)unused;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(intervals); i++) {
        for (unsigned bit = 0; bit < 48; bit++) {
            struct neap_weight weight = neap_weigh((1ull << bit) - 1, intervals[i]);
            struct neap_weight most = neap_weigh((1ull << bit) - 1, NEAP_INTERVAL_MAX);

            assert_true(weight.bytes <= 1ull << 49 && weight.count <= 1ull << 57);
            assert_true(isfinite(weight.variance));
            assert_true(weight.bytes == most.bytes && weight.count == most.count);
        }
        assert_true(isfinite(neap_weigh(UINT64_MAX, intervals[i]).variance));
    }
}

/* The sum of the weights of those blocks that the coin chooses, many times over. */
static void simulate(const uint64_t *sizes, size_t kinds, unsigned each,
                     uint64_t interval)
{
    const int rounds = 4000;
    double truth = 0, sum = 0, squares = 0, variances = 0, counts = 0, var_squares = 0;
    double variance, error;

    for (size_t i = 0; i < kinds; i++)
        truth += (double)sizes[i] * each;
    for (int round = 0; round < rounds; round++) {
        double bytes = 0, estimated = 0;

        for (size_t i = 0; i < kinds; i++) {
            struct neap_weight weight = neap_weigh(sizes[i], interval);
            double p = -expm1(-(double)(sizes[i] + 1) / (double)interval);

            for (unsigned j = 0; j < each; j++) {
                if (draw() >= p)
                    continue;
                bytes += (double)weight.bytes;
                counts += (double)weight.count / NEAP_WEIGHT_ONE;
                estimated += weight.variance;
            }
        }
        sum += bytes;
        squares += (bytes - truth) * (bytes - truth);
        variances += estimated;
        var_squares += estimated * estimated;
    }
    variance = squares / rounds;
    error = sqrt(variance / rounds);
    assert_near(sum / rounds, truth, 4 * error + (double)(kinds * each));
    assert_near(counts / rounds, (double)(kinds * each), 0.1 * (double)(kinds * each));
    /* The empirical variance has an error of its own, of sqrt(2/n), and tails. */
    variances /= rounds;
    error = 4 * sqrt((var_squares / rounds - variances * variances) / rounds) +
            6 * variance * sqrt(2.0 / rounds);
    assert_near(variances, variance, error);
}

static void no_bias(void **unused)
{
    static const uint64_t small[] = {24}, empty[] = {0};
    static const uint64_t medium[] = {200, 512}, large[] = {700, 2000, 5000};
    static const uint64_t mixed[] = {0, 1, 16, 100, 512, 1024, 3000, 100000};

    (void)unused;
    simulate(small, NEAP_ARRAY_LEN(small), 2000, 512);
    simulate(medium, NEAP_ARRAY_LEN(medium), 100, 512);
    simulate(large, NEAP_ARRAY_LEN(large), 20, 512);
    simulate(mixed, NEAP_ARRAY_LEN(mixed), 50, 512);
    simulate(empty, NEAP_ARRAY_LEN(empty), 2000, 64);
}

static void the_interval_around_an_estimate(void **unused)
{
    const uint64_t interval = 512 << 10;
    double unit = (double)interval, before = 0;

    (void)unused;
    assert_true(neap_ci95(1e12, 0) == 0);
    /* Nothing sampled: up to 3.84 intervals may have been there. */
    assert_near(neap_ci95(0, interval), 3.8415 * unit, 0.001 * unit);
    assert_near(neap_ci95(-1, interval), 3.8415 * unit, 0.001 * unit);
    for (int power = 0; power < 20; power++) {
        double variance = pow(10, power), half = neap_ci95(variance, interval);

        assert_true(half > before);
        assert_true(half >= 1.96 * sqrt(variance));
        before = half;
    }
    assert_near(neap_ci95(1e20, interval), 1.96e10, 2 * unit + 1e7);
    assert_near(neap_ci95(4e6, 1), 2 * 1960, 3);
}

static void intervals_double(void **unused)
{
    (void)unused;
    assert_int_equal(neap_interval(1000, 0), 0);
    assert_int_equal(neap_interval(1000, 1), 1000);
    assert_int_equal(neap_interval(1000, 4), 8000);
    assert_true(neap_interval(1, 41) == NEAP_INTERVAL_MAX);
    assert_true(neap_interval(1, 42) == NEAP_INTERVAL_MAX);
    assert_true(neap_interval(1000, 40) == NEAP_INTERVAL_MAX);
    assert_true(neap_interval(UINT64_MAX, 63) == NEAP_INTERVAL_MAX);
    assert_true(neap_interval(NEAP_INTERVAL_MAX, 1) == NEAP_INTERVAL_MAX);
    assert_int_equal(neap_interval(0, 5), 0);
}

/* In both halves from four intervals on, and of smaller blocks the part that is
 * sampled; of the rest half to each, however the addresses are aligned. */
static void classes(void **unused)
{
    static const uint64_t sizes[] = {8, 200, 1000, 3000};

    (void)unused;
    assert_int_equal(neap_weigh_class(1, 0, 16), NEAP_WEIGH_BOTH);
    assert_int_equal(neap_weigh_class(UINT64_MAX, 1000, 16), NEAP_WEIGH_BOTH);
    for (uint64_t i = 0; i < 10000; i++)
        assert_int_equal(neap_weigh_class(4000, 1000, 16 * i), NEAP_WEIGH_BOTH);
    for (unsigned shift = 4; shift < 21; shift++) {
        for (size_t j = 0; j < NEAP_ARRAY_LEN(sizes); j++) {
            double p = -expm1(-(double)(sizes[j] + 1) / 1000);
            double seen[NEAP_WEIGH_CLASSES] = {0};

            for (uint64_t i = 0; i < 10000; i++)
                seen[neap_weigh_class(sizes[j], 1000, 0x7f0000000000 + (i << shift))]++;
            assert_near(seen[NEAP_WEIGH_BOTH], 10000 * p, 200);
            assert_near(seen[NEAP_WEIGH_HALF_0], 5000 * (1 - p), 200);
            assert_near(seen[NEAP_WEIGH_HALF_1], 5000 * (1 - p), 200);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_blocks_stand_for_themselves),
        cmocka_unit_test(weights_are_rounded_and_even),
        cmocka_unit_test(large_blocks_are_certain),
        cmocka_unit_test(hostile_weights_stay_finite),
        cmocka_unit_test(no_bias),
        cmocka_unit_test(the_interval_around_an_estimate),
        cmocka_unit_test(intervals_double),
        cmocka_unit_test(classes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
