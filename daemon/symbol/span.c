/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorted ranges of addresses, see span.h. Knows nothing of files.
 */
#include "daemon/symbol/span.h"

#define WALK_MAX 4096u /* spans looked at for one address */

bool neap_spans_add(struct neap_spans *spans, uint64_t low, uint64_t high,
                    uint64_t value)
{
    struct neap_span span = {low, high, high, value};

    return neap_vec_push(&spans->vec, span);
}

static int compare(const void *left, const void *right)
{
    const struct neap_span *a = left;
    const struct neap_span *b = right;

    if (a->low != b->low)
        return a->low < b->low ? -1 : 1;
    if (a->high != b->high)
        return a->high > b->high ? -1 : 1;
    return a->value < b->value ? -1 : a->value > b->value;
}

void neap_spans_sort(struct neap_spans *spans)
{
    uint64_t reach = 0;

    if (spans->vec.count > 1)
        qsort(spans->vec.data, spans->vec.count, sizeof(*spans->vec.data), compare);
    for (size_t i = 0; i < spans->vec.count; i++) {
        if (reach < spans->vec.data[i].high)
            reach = spans->vec.data[i].high;
        spans->vec.data[i].reach = reach;
    }
}

void neap_spans_deinit(struct neap_spans *spans)
{
    neap_vec_deinit(&spans->vec);
}

size_t neap_spans_below(const struct neap_spans *spans, uint64_t address)
{
    size_t low = 0;
    size_t high = spans->vec.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (spans->vec.data[middle].low <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct neap_span *neap_spans_next(const struct neap_spans *spans,
                                        uint64_t address, size_t *cursor)
{
    for (unsigned walk = 0; walk<WALK_MAX && * cursor> 0; walk++) {
        const struct neap_span *span = &spans->vec.data[--*cursor];

        if (span->high > address)
            return span;
        if (span->reach <= address)
            break;
    }
    *cursor = 0;
    return NULL;
}

const struct neap_span *neap_spans_find(const struct neap_spans *spans,
                                        uint64_t address)
{
    size_t cursor = neap_spans_below(spans, address);

    return neap_spans_next(spans, address, &cursor);
}
