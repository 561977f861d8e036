/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes are sampled.
 *
 * Each thread counts down a gap in bytes, drawn from an exponential distribution whose
 * mean is the interval; a block of `size` bytes uses up size + 1 of it, so that empty
 * blocks count. The block that the gap ends in is a sample and begins a new gap. So a
 * block is sampled with probability 1 - exp(-(size + 1) / interval), whatever came
 * before it: the distribution has no memory. For the same reason a gap may be thrown
 * away and drawn anew at any time without a bias.
 *
 * The interval may be raised while a gap runs. What the gap ends in was sampled by the
 * interval the gap was drawn with: neap_tls.interval remembers it.
 */
#ifndef NEAP_LIBHOOK_SAMPLER_H
#define NEAP_LIBHOOK_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libhook/guard.h"

#define NEAP_UNSEEN UINT64_MAX /* no interval: not to be recorded */

/* NEAP_SEED's value, or NULL: then every run has other samples. */
void neap_sampler_configure(const char *seed);

/*
 * Does a block of `size` bytes leave the gap standing? If so its bytes are used up. A
 * thread that never drew has 0 bytes left, so its first block comes to
 * neap_sampler_take. So does a size that no allocator serves, but for SIZE_MAX, which
 * uses up nothing.
 */
NEAP_ALWAYS_INLINE bool neap_sampler_passes(struct neap_tls *tls, size_t size)
{
    uint64_t bytes = (uint64_t)size + 1;

    if (NEAP_UNLIKELY((uint64_t)tls->left < bytes))
        return false;
    tls->left -= (int64_t)bytes;
    return true;
}

/*
 * The block's turn: the interval it is sampled with, or NEAP_UNSEEN. Its bytes are
 * used up. The process is connected.
 */
uint64_t neap_sampler_take(struct neap_tls *tls, size_t size);

/* A block whose turn has come cannot be recorded: another gap. */
void neap_sampler_spoil(struct neap_tls *tls);

/* -ln(u) for 0 < u <= 1. */
double neap_sampler_minus_ln(double u);

/* A gap of mean `interval`; moves the generator. */
int64_t neap_sampler_gap(uint64_t *random, uint64_t interval);

#endif
