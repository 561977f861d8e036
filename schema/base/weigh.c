/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/base/weigh.h"

#include <math.h>

#define Z 1.959963984540054

/* That a block is sampled. */
static double probability(uint64_t size, uint64_t interval)
{
    if (interval > NEAP_INTERVAL_MAX)
        interval = NEAP_INTERVAL_MAX;
    return -expm1(-((double)size + 1) / (double)interval);
}

struct neap_weight neap_weigh(uint64_t size, uint64_t interval)
{
    double p, value = (double)size;

    if (interval == 0)
        return (struct neap_weight){.bytes = size, .count = NEAP_WEIGHT_ONE};
    p = probability(size, interval);
    return (struct neap_weight){
        .bytes = 2 * (uint64_t)(value / p / 2 + 0.5),
        .count = 2 * (uint64_t)(NEAP_WEIGHT_ONE / p / 2 + 0.5),
        .variance = value * value * (1 - p) / (p * p),
    };
}

enum neap_weigh_class neap_weigh_class(uint64_t size, uint64_t interval,
                                       uint64_t address)
{
    uint64_t hash = (address >> 4) * 0x9e3779b97f4a7c15u;

    if (interval == 0 || size / 4 >= interval)
        return NEAP_WEIGH_BOTH;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    hash ^= hash >> 32;
    if ((double)(hash >> 12) * 0x1p-52 < probability(size, interval))
        return NEAP_WEIGH_BOTH;
    return hash & 1 ? NEAP_WEIGH_HALF_1 : NEAP_WEIGH_HALF_0;
}

double neap_ci95(double variance, uint64_t interval)
{
    double unit = Z * Z * (double)interval / 2;

    if (interval == 0)
        return 0;
    return Z * sqrt((variance > 0 ? variance : 0) + unit * (double)interval / 2) + unit;
}
