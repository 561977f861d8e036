/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words for the metrics and for what rows stand for. Metrics that later releases
 * add are known by name, so that asking for one gets a true answer: this recording does
 * not hold it.
 */
#include <string.h>

#include "bindings/query/query.h"

static const char *const names[] = {
    [NEAP_METRIC_LIVE] = "live",
    [NEAP_METRIC_PEAK] = "peak",
    [NEAP_METRIC_ALLOCATED] = "allocated",
    [NEAP_METRIC_TEMPORARY] = "temporary",
};

static const char *const unrecorded[] = {"resident", "swapped", "untouched"};

const char *neap_metric_name(enum neap_metric metric)
{
    return names[metric];
}

struct neap_error *neap_metric_parse(const char *name, enum neap_metric *ret)
{
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum neap_metric)i;
            return NULL;
        }
    }
    for (size_t i = 0; i < NEAP_ARRAY_LEN(unrecorded); i++) {
        if (strcmp(name, unrecorded[i]) == 0)
            return neap_error_create(NEAP_ERROR_USAGE,
                                     "this recording does not hold the metric '%s': "
                                     "resident pages were not recorded; choose live, "
                                     "peak, allocated or temporary",
                                     name);
    }
    return neap_error_create(NEAP_ERROR_USAGE,
                             "unknown metric '%.64s': choose live, peak, allocated or "
                             "temporary",
                             name);
}

static const char *const bys[] = {
    [NEAP_BY_STACK] = "stack",
    [NEAP_BY_THREAD] = "thread",
    [NEAP_BY_SIZE] = "size",
};

const char *neap_by_name(enum neap_report_by by)
{
    return bys[by];
}

struct neap_error *neap_by_parse(const char *name, enum neap_report_by *ret)
{
    for (size_t i = 0; i < NEAP_ARRAY_LEN(bys); i++) {
        if (strcmp(name, bys[i]) == 0) {
            *ret = (enum neap_report_by)i;
            return NULL;
        }
    }
    return neap_error_create(NEAP_ERROR_USAGE,
                             "rows cannot be by '%.64s': choose stack, thread or size",
                             name);
}
