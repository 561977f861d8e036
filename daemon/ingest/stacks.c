/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/stacks.h"

#include <string.h>

#include "daemon/ingest/trim.h"
#include "schema/base/cleanup.h"

struct neap_error *neap_stacks_init(struct neap_stacks *stacks)
{
    *stacks = (struct neap_stacks){.unknown = NEAP_STACK_NONE};
    return neap_names_init(&stacks->names);
}

void neap_stacks_deinit(struct neap_stacks *stacks)
{
    neap_names_deinit(&stacks->names);
    neap_vec_deinit(&stacks->stacks);
    neap_vec_deinit(&stacks->locations);
    neap_vec_deinit(&stacks->pending);
    neap_map_deinit(&stacks->index);
}

static uint64_t hash_list(const uint32_t *locations, uint32_t depth, bool truncated)
{
    uint64_t hash = 0x9e3779b97f4a7c15u + depth * 2 + truncated;

    for (uint32_t i = 0; i < depth; i++) {
        hash = (hash ^ locations[i]) * 0xd6e8feb86659fd93u;
        hash ^= hash >> 32;
    }
    return hash;
}

uint32_t neap_stacks_add(struct neap_stacks *stacks, const uint32_t *locations,
                         uint32_t depth, bool truncated)
{
    uint64_t key = hash_list(locations, depth, truncated);
    uint32_t number = (uint32_t)stacks->stacks.count;
    uint64_t found;

    /* Two lists with one hash take neighbouring keys. */
    for (; (found = neap_map_get(&stacks->index, key)) != NEAP_MAP_NONE; key++) {
        const struct neap_stack *stack = &stacks->stacks.data[found];

        if (stack->depth == depth && stack->truncated == truncated &&
            memcmp(&stacks->locations.data[stack->first], locations,
                   depth * sizeof(*locations)) == 0)
            return (uint32_t)found;
    }
    if (!neap_vec_reserve(&stacks->stacks, 1) ||
        !neap_vec_reserve(&stacks->pending, 1) ||
        !neap_vec_reserve(&stacks->locations, depth) ||
        !neap_map_put(&stacks->index, key, number))
        return NEAP_STACK_NONE;
    stacks->stacks.data[stacks->stacks.count++] = (struct neap_stack){
        .first = stacks->locations.count, .depth = depth, .truncated = truncated};
    memcpy(&stacks->locations.data[stacks->locations.count], locations,
           depth * sizeof(*locations));
    stacks->locations.count += depth;
    stacks->pending.data[stacks->pending.count++] = number;
    return number;
}

uint32_t neap_stacks_unknown(struct neap_stacks *stacks)
{
    uint32_t location;

    if (stacks->unknown != NEAP_STACK_NONE)
        return stacks->unknown;
    location = neap_names_location(&stacks->names, NEAP_MODULE_NONE, 0);
    if (location != NEAP_LOCATION_NONE)
        stacks->unknown = neap_stacks_add(stacks, &location, 1, true);
    return stacks->unknown;
}

static const struct neap_location *location_of(const struct neap_stacks *stacks,
                                               const struct neap_stack *stack,
                                               uint32_t depth)
{
    uint32_t number = stacks->locations.data[stack->first + depth];

    return &stacks->names.locations.data[number];
}

bool neap_stack_final(const struct neap_stacks *stacks, uint32_t number)
{
    const struct neap_stack *stack = &stacks->stacks.data[number];

    for (uint32_t i = 0; i < stack->depth; i++) {
        if (!location_of(stacks, stack, i)->answered)
            return false;
    }
    return true;
}

static struct neap_trim_frame trim_frame(const struct neap_names *names, uint32_t frame)
{
    uint32_t location = names->frames.data[frame].location;
    uint32_t module = names->locations.data[location].module;

    return (struct neap_trim_frame){.role = names->frames.data[frame].role,
                                    .libc = module != NEAP_MODULE_NONE &&
                                            names->modules.data[module].libc};
}

static size_t count_frames(const struct neap_stacks *stacks,
                           const struct neap_stack *stack)
{
    size_t count = 0;

    for (uint32_t i = 0; i < stack->depth; i++)
        count += location_of(stacks, stack, i)->inlined_count + 1;
    return count;
}

/* A tenth of the time of printf, which a hundred thousand stacks would notice. */
static void append_number(struct neap_str *str, uint32_t number)
{
    char digits[10];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    neap_str_bytes(str, digits + at, sizeof(digits) - at);
}

void neap_stack_frames(const struct neap_stacks *stacks, uint32_t number,
                       struct neap_str *ret)
{
    const struct neap_stack *stack = &stacks->stacks.data[number];
    size_t count = count_frames(stacks, stack);
    neap_auto_free struct neap_trim_frame *trim = calloc(count, sizeof(*trim));
    neap_auto_free uint32_t *frames = calloc(count, sizeof(*frames));
    size_t first = 0, end = count, at = 0;

    neap_str_clear(ret);
    if (!trim || !frames) {
        ret->failed = true;
        return;
    }
    for (uint32_t i = 0; i < stack->depth; i++) {
        const struct neap_location *location = location_of(stacks, stack, i);

        for (uint32_t j = 0; j < location->inlined_count; j++)
            frames[at++] = location->inlined + j;
        frames[at++] = location->frame;
    }
    if (neap_stack_final(stacks, number)) {
        for (size_t i = 0; i < count; i++)
            trim[i] = trim_frame(&stacks->names, frames[i]);
        neap_trim(trim, count, stack->truncated, &first, &end);
    }
    neap_str_char(ret, '[');
    for (size_t i = first; i < end; i++) {
        if (i > first)
            neap_str_char(ret, ',');
        append_number(ret, frames[i] + 1);
    }
    neap_str_char(ret, ']');
}

void neap_stacks_stored(struct neap_stacks *stacks)
{
    size_t kept = 0;

    for (size_t i = 0; i < stacks->pending.count; i++) {
        uint32_t number = stacks->pending.data[i];

        stacks->stacks.data[number].stored = true;
        if (!neap_stack_final(stacks, number))
            stacks->pending.data[kept++] = number;
    }
    stacks->pending.count = kept;
    neap_names_stored(&stacks->names);
}
