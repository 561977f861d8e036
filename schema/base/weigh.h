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
    return shift == 0 || shift > 40 ? 0 : base << (shift - 1);
}

/*
 * The class of a sampled block. Blocks of which next to none escape (p > 0.98) are
 * certain; of the others each belongs to one half of the samples or the other. The peak
 * of an estimate is looked for in each half and read off the other, since the largest
 * of many estimates is one that errs upwards (daemon/ingest/estimate.h).
 */
enum neap_weigh_class {
    NEAP_WEIGH_HALF_0,
    NEAP_WEIGH_HALF_1,
    NEAP_WEIGH_CERTAIN,
    NEAP_WEIGH_CLASSES
};

static inline enum neap_weigh_class neap_weigh_class(uint64_t size, uint64_t interval,
                                                     uint64_t address)
{
    if (interval == 0 || size / 4 >= interval)
        return NEAP_WEIGH_CERTAIN;
    return (address >> 4) * 0x9e3779b97f4a7c15u >> 63 ? NEAP_WEIGH_HALF_1
                                                      : NEAP_WEIGH_HALF_0;
}

#endif
