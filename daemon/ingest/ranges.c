/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/ranges.h"

#define PRUNE_MIN 1024u /* fewer are not worth it */

void neap_ranges_deinit(struct neap_ranges *ranges)
{
    neap_vec_deinit(&ranges->ranges);
    ranges->pruned = 0;
}

static bool overlaps(const struct neap_range *a, const struct neap_range *b)
{
    return a->start < b->end && b->start < a->end;
}

static bool is_same(const struct neap_range *a, const struct neap_range *b)
{
    return a->start == b->start && a->end == b->end && a->bias == b->bias &&
           a->module == b->module;
}

bool neap_ranges_add(struct neap_ranges *ranges, const struct neap_range *range)
{
    struct neap_range *newest = NULL;

    for (size_t i = 0; i < ranges->ranges.count; i++) {
        struct neap_range *other = &ranges->ranges.data[i];

        if (overlaps(other, range) &&
            (!newest || other->generation >= newest->generation))
            newest = other;
    }
    /* Nothing else has been there in between: the old one holds for both times. */
    if (newest && is_same(newest, range)) {
        if (range->generation < newest->generation)
            newest->generation = range->generation;
        return true;
    }
    if (ranges->ranges.count >= NEAP_RANGES_MAX)
        return false;
    return neap_vec_push(&ranges->ranges, *range);
}

const struct neap_range *neap_ranges_find(const struct neap_ranges *ranges, uint64_t pc,
                                          uint32_t generation)
{
    const struct neap_range *before = NULL;
    const struct neap_range *after = NULL;

    for (size_t i = 0; i < ranges->ranges.count; i++) {
        const struct neap_range *range = &ranges->ranges.data[i];

        if (pc < range->start || pc >= range->end)
            continue;
        if (range->generation <= generation) {
            if (!before || range->generation >= before->generation)
                before = range;
        } else if (!after || range->generation < after->generation) {
            after = range;
        }
    }
    return before ? before : after;
}

void neap_ranges_prune(struct neap_ranges *ranges)
{
    size_t count = ranges->ranges.count;
    size_t kept = 0;

    if (count < PRUNE_MIN || count < 2 * ranges->pruned)
        return;
    for (size_t i = 0; i < count; i++) {
        struct neap_range range = ranges->ranges.data[i];
        bool covered = false;

        for (size_t j = i + 1; j < count && !covered; j++) {
            const struct neap_range *later = &ranges->ranges.data[j];

            covered = later->generation >= range.generation &&
                      later->start <= range.start && later->end >= range.end;
        }
        if (!covered)
            ranges->ranges.data[kept++] = range;
    }
    ranges->ranges.count = kept;
    ranges->pruned = kept;
}
