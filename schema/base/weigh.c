/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/base/weigh.h"

#include <math.h>

#define Z 1.959963984540054

struct neap_weight neap_weigh(uint64_t size, uint64_t interval)
{
    double p, value = (double)size;

    if (interval == 0)
        return (struct neap_weight){.bytes = size, .count = NEAP_WEIGHT_ONE};
    p = -expm1(-(value + 1) / (double)interval);
    return (struct neap_weight){
        .bytes = 2 * (uint64_t)(value / p / 2 + 0.5),
        .count = 2 * (uint64_t)(NEAP_WEIGHT_ONE / p / 2 + 0.5),
        .variance = value * value * (1 - p) / (p * p),
    };
}

double neap_ci95(double variance, uint64_t interval)
{
    double unit = Z * Z * (double)interval / 2;

    if (interval == 0)
        return 0;
    return Z * sqrt((variance > 0 ? variance : 0) + unit * (double)interval / 2) + unit;
}
