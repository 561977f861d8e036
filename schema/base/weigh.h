/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one sample stands for.
 *
 * A thread takes a sample whenever a gap drawn from an exponential distribution of mean
 * T bytes (the interval) has been allocated; a block of `size` bytes uses up k = size +
 * 1 of them, so that empty blocks count. It is therefore sampled with probability p = 1
 * - exp(-k/T), independently of all others, and stands for 1/p blocks and size/p bytes
 * (Horvitz and Thompson 1952). That is the mean of tcmalloc's T + k - f over the place
 * f at which the block was hit, and has the smaller variance. The estimate of a sum has
 * no bias, and sum(size^2 (1 - p)/p^2) estimates its variance without bias.
 *
 * Sums are of whole numbers, so that what a block added its free takes away again;
 * counts are in units of 1/65536, since 1/p is seldom whole.
 *
 * A pure function: a writer and a reader of a recording get the same numbers.
 */
#ifndef NEAP_SCHEMA_BASE_WEIGH_H
#define NEAP_SCHEMA_BASE_WEIGH_H

#include <stdint.h>

#define NEAP_WEIGHT_ONE 65536u

/* A sample of a larger interval counts as one of this: weights stay far from overflow,
 * whatever a target or a recording claims. */
#define NEAP_INTERVAL_MAX (1ull << 40)

struct neap_weight {
    uint64_t bytes;
    uint64_t count;  /* blocks, in units of 1/NEAP_WEIGHT_ONE */
    double variance; /* of `bytes`, in bytes squared */
};

/*
 * Blocks of exact recordings have interval 0 and stand for themselves. Bytes and count
 * are even, so that half of a sum is whole.
 */
struct neap_weight neap_weigh(uint64_t size, uint64_t interval);

/* A sum of counts as blocks. */
static inline uint64_t neap_weight_blocks(uint64_t count)
{
    return (count + NEAP_WEIGHT_ONE / 2) / NEAP_WEIGHT_ONE;
}

/*
 * Half the width of the 95 % interval around a sum of weights with this variance:
 *
 *     z sqrt(variance + z^2 T^2/4) + z^2 T/2,  z = 1.96
 *
 * the score interval of a Poisson count (of samples, each of T bytes) written around
 * its estimate. Where many samples were taken it is z sqrt(variance); where none was it
 * says that up to 3.8 T may have been there unseen. 0 for an interval of 0.
 */
double neap_ci95(double variance, uint64_t interval);

/* The interval of an event or block in a recording that began with `base`: `shift` is 0
 * for an exact one and 1 + the number of times the interval had been doubled else. */
static inline uint64_t neap_interval(uint64_t base, unsigned shift)
{
    if (shift == 0)
        return 0;
    if (shift > 41 || base > NEAP_INTERVAL_MAX >> (shift - 1))
        return NEAP_INTERVAL_MAX;
    return base << (shift - 1);
}

/*
 * The variance of a peak is that of what was live at its moments, times this: the
 * moments are estimates as well. Without it the 95 % interval held 93.5 to 94.5 % of
 * peaks of small blocks (tests/unit/test_estimate_coverage.c).
 */
#define NEAP_PEAK_SPREAD 1.25

/*
 * The class of a sampled block. The peak of an estimate is looked for in each half of
 * the samples and read off the other, since the largest of many estimates is one that
 * errs upwards (daemon/ingest/estimate.h). Of the blocks that are sampled with
 * probability p, the part p belongs to both halves, and of the rest half to each.
 *
 * With weights doubled for blocks of one half alone each half estimates the whole, and
 * the errors of the two have nothing to do with each other: of a block of size s,
 * E(half 0 * half 1) = p * p * (s/p)^2 = s^2. (If halves shared no block, one would
 * miss what the other has; if they shared more, both would err in the same way.)
 *
 * From four intervals on (p > 0.98) blocks are in both. Chosen by size and address, so
 * that a free finds the class of its allocation, and a reader that of an event.
 */
enum neap_weigh_class {
    NEAP_WEIGH_HALF_0,
    NEAP_WEIGH_HALF_1,
    NEAP_WEIGH_BOTH,
    NEAP_WEIGH_CLASSES
};

enum neap_weigh_class neap_weigh_class(uint64_t size, uint64_t interval,
                                       uint64_t address);

#endif
