/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gaps. No libm (nothing but libc is linked, and a logarithm is all that is needed):
 * 15 ns a gap, of which a second at 1 GB/s and 512 KiB takes 2 000.
 */
#include "libhook/sampler.h"

#include <stdlib.h>
#include <string.h>

#include "libhook/life.h"

#define INTERVAL_MAX (1ull << 56) /* 36.8 of them, the longest gap, fit 63 bits */

static bool has_seed;
static uint64_t seed;

void neap_sampler_configure(const char *text)
{
    has_seed = text && *text;
    if (has_seed)
        seed = strtoull(text, NULL, 0);
}

/*
 * u = m 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(s), s = (m - 1)/(m + 1),
 * |s| <= 0.1716. The first term left out of the series is s^19/19 < 2^-52, and where m
 * is near 1, e is 0: the error is relative.
 */
double neap_sampler_minus_ln(double u)
{
    uint64_t bits;
    double m, s, square, sum = 0;
    int e;

    memcpy(&bits, &u, sizeof(bits));
    e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffull) | 1023ull << 52;
    memcpy(&m, &bits, sizeof(m));
    if (m >= 1.4142135623730951) {
        m /= 2;
        e++;
    }
    s = (m - 1) / (m + 1);
    square = s * s;
    for (int term = 17; term > 0; term -= 2)
        sum = sum * square + 1.0 / term;
    return -(e * 0.6931471805599453 + 2 * s * sum);
}

/* splitmix64: any state is as good as any other, and a period of 2^64 is plenty. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

int64_t neap_sampler_gap(uint64_t *random, uint64_t interval)
{
    /* 53 bits, none of them 0: (0, 1] */
    double u = (double)((next_random(random) >> 11) + 1) * 0x1p-53;

    if (interval > INTERVAL_MAX)
        interval = INTERVAL_MAX;
    return (int64_t)(neap_sampler_minus_ln(u) * (double)interval);
}

static void seed_thread(struct neap_tls *tls)
{
    uint64_t state;

    if (has_seed) {
        state = seed;
        state += (1 + (uint64_t)atomic_fetch_add_explicit(&neap_process->ordinal, 1,
                                                          memory_order_relaxed))
                 << 32;
    } else {
        state = neap_stamp() ^ (uint64_t)tls->tid << 32 ^ (uint64_t)(uintptr_t)tls;
    }
    tls->random = next_random(&state) | 1;
}

static void draw(struct neap_tls *tls)
{
    /* Each is a number by itself: relaxed. */
    uint64_t theirs =
        atomic_load_explicit(&neap_process->ctl->interval, memory_order_relaxed);
    uint64_t ours = atomic_load_explicit(&neap_process->interval, memory_order_relaxed);
    uint64_t interval = theirs > ours ? theirs : ours;

    if (tls->random == 0)
        seed_thread(tls);
    tls->interval = interval ? interval : 1;
    tls->left = neap_sampler_gap(&tls->random, tls->interval);
}

uint64_t neap_sampler_take(struct neap_tls *tls, size_t size)
{
    uint64_t interval;

    if (tls->interval == 0)
        draw(tls);
    interval = tls->interval;
    if (neap_sampler_passes(tls, size))
        return NEAP_UNSEEN;
    draw(tls);
    return interval;
}

void neap_sampler_spoil(struct neap_tls *tls)
{
    if (tls->interval != 0)
        tls->left = neap_sampler_gap(&tls->random, tls->interval);
}
