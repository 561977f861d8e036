/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the stacks of a process, program counters that mean something there and then,
 * to stacks of the recording.
 *
 * Done at each commit, not as records come in: a module is announced a moment after
 * the first stack through it, maybe in another lane. A commit may come in between:
 * then the stack waits, MODULE_WAIT_NS at most, as code made at run time has no module.
 */
#include <stdlib.h>

#include "daemon/ingest/state.h"
#include "schema/base/cleanup.h"

#define MODULE_WAIT_NS 2000000000u

/* The locations of pcs in one generation: most pcs are in many stacks. */
struct cache {
    struct neap_map map;
    uint32_t generation;
};

static void cache_deinit(struct cache *cache)
{
    neap_map_deinit(&cache->map);
}

static bool may_wait(const struct neap_ingest_process *process,
                     struct neap_raw_stack *raw)
{
    uint64_t now_ns = process->ingest->now_ns;

    if (process->ended || process->ingest->closing)
        return false;
    if (raw->since_ns == 0)
        raw->since_ns = now_ns;
    return now_ns - raw->since_ns < MODULE_WAIT_NS;
}

/* NEAP_LOCATION_NONE: no memory, or it waits for its module. */
static uint32_t location_of(struct neap_ingest_process *process, struct cache *cache,
                            struct neap_raw_stack *raw, uint64_t pc)
{
    struct neap_names *names = &process->ingest->stacks.names;
    uint64_t known = neap_map_get(&cache->map, pc);
    const struct neap_range *range;
    uint32_t location;

    if (known != NEAP_MAP_NONE)
        return (uint32_t)known;
    /* The call is in the byte before; a call that never returns may end its module. */
    range = neap_ranges_find(&process->ranges, pc - 1, cache->generation);
    if (range) {
        location = neap_names_location(names, range->module, pc - 1 - range->bias);
    } else if (may_wait(process, raw)) {
        process->unresolved = true;
        return NEAP_LOCATION_NONE;
    } else {
        location = neap_names_location(names, NEAP_MODULE_NONE, pc);
    }
    /* Where memory is short the cache is the first to go. */
    if (location != NEAP_LOCATION_NONE && !neap_map_put(&cache->map, pc, location))
        neap_map_deinit(&cache->map);
    return location;
}

static uint32_t resolve(struct neap_ingest_process *process, struct cache *cache,
                        struct neap_raw_stack *raw)
{
    uint32_t locations[NEAP_STACK_DEPTH_MAX];

    if (raw->depth == 0)
        return neap_stacks_unknown(&process->ingest->stacks);
    if (raw->generation != cache->generation) {
        cache_deinit(cache);
        cache->generation = raw->generation;
    }
    for (uint32_t i = 0; i < raw->depth; i++) {
        locations[i] = location_of(process, cache, raw, raw->pc[i]);
        if (locations[i] == NEAP_LOCATION_NONE)
            return NEAP_STACK_NONE;
    }
    return neap_stacks_add(&process->ingest->stacks, locations, raw->depth,
                           raw->truncated);
}

/* The group of `stack`, made if new. NEAP_SITE_NONE: no memory. */
static uint32_t group_of(struct neap_ingest_process *process, uint32_t stack)
{
    uint64_t number = neap_map_get(&process->group_of_stack, stack);

    if (number != NEAP_MAP_NONE)
        return (uint32_t)number;
    number = process->groups.count;
    if (!neap_vec_reserve(&process->groups, 1) ||
        !neap_map_put(&process->group_of_stack, stack, number))
        return NEAP_SITE_NONE;
    process->groups.data[process->groups.count++] =
        (struct neap_group){.stack = stack, .first_site = NEAP_SITE_NONE};
    return (uint32_t)number;
}

static void join(struct neap_ingest_process *process, uint32_t number, uint32_t group)
{
    struct neap_site *site = &process->track.sites.data[number];

    site->group = group;
    site->next = process->groups.data[group].first_site;
    site->dirty = true;
    process->groups.data[group].first_site = number;
    free(site->raw);
    site->raw = NULL;
}

void neap_process_resolve(struct neap_ingest_process *process)
{
    neap_auto(cache_deinit) struct cache cache = {.generation = 0};
    bool unknown = false;

    process->unresolved = false;
    for (uint32_t i = 0; i < process->track.sites.count; i++) {
        struct neap_raw_stack *raw;
        uint32_t stack, group;

        if (process->track.sites.data[i].group != NEAP_SITE_NONE)
            continue;
        raw = process->track.sites.data[i].raw;
        if (!raw) {
            unknown |= process->track.sites.data[i].alloc.count > 0;
            continue;
        }
        stack = resolve(process, &cache, raw);
        group = stack == NEAP_STACK_NONE ? NEAP_SITE_NONE : group_of(process, stack);
        if (group == NEAP_SITE_NONE)
            unknown = true;
        else
            join(process, i, group);
    }
    if (unknown)
        (void)neap_stacks_unknown(&process->ingest->stacks);
    neap_ranges_prune(&process->ranges);
}

uint32_t neap_site_stack(const struct neap_ingest_process *process, uint32_t site)
{
    uint32_t group = process->track.sites.data[site].group;

    return group == NEAP_SITE_NONE ? process->ingest->stacks.unknown
                                   : process->groups.data[group].stack;
}
