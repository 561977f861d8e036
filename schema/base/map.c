/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear probing. Invariant: between an entry's home slot and the slot it is in
 * there is no empty one, so a search ends at the first empty slot. Deletion keeps
 * it by moving later entries of the run into the gap wherever their home allows.
 */
#include "schema/base/map.h"

#include <stdlib.h>
#include <sys/random.h>

static uint64_t secret(void)
{
    static uint64_t value;
    uint64_t fresh = 0;

    if (NEAP_LIKELY(__atomic_load_n(&value, __ATOMIC_RELAXED)))
        return value;
    /* Two threads may come here at once: the first secret stays. */
    if (getrandom(&fresh, sizeof(fresh), GRND_NONBLOCK) != sizeof(fresh))
        fresh = (uint64_t)(uintptr_t)&fresh;
    fresh |= 1;
    uint64_t none = 0;

    __atomic_compare_exchange_n(&value, &none, fresh, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
    return __atomic_load_n(&value, __ATOMIC_RELAXED);
}

static size_t home(const struct neap_map *map, uint64_t key)
{
    unsigned __int128 product;

    key ^= secret();
    product = (unsigned __int128)key * 0x9e3779b97f4a7c15u;
    key = (uint64_t)product ^ (uint64_t)(product >> 64);
    return (size_t)(key ^ key >> 29) & (map->capacity - 1);
}

/* The slot of `key`, or the empty one where it belongs. */
static size_t find(const struct neap_map *map, uint64_t key)
{
    size_t at = home(map, key);

    while (map->entries[at].value != NEAP_MAP_NONE && map->entries[at].key != key)
        at = (at + 1) & (map->capacity - 1);
    return at;
}

static bool grow(struct neap_map *map)
{
    struct neap_map larger = {.capacity = map->capacity ? map->capacity * 2 : 16};

    if (larger.capacity > SIZE_MAX / sizeof(*larger.entries))
        return false;
    larger.entries = malloc(larger.capacity * sizeof(*larger.entries));
    if (!larger.entries)
        return false;
    for (size_t i = 0; i < larger.capacity; i++)
        larger.entries[i] = (struct neap_map_entry){0, NEAP_MAP_NONE};
    for (size_t i = 0; i < map->capacity; i++)
        if (map->entries[i].value != NEAP_MAP_NONE)
            larger.entries[find(&larger, map->entries[i].key)] = map->entries[i];
    larger.count = map->count;
    free(map->entries);
    *map = larger;
    return true;
}

void neap_map_deinit(struct neap_map *map)
{
    free(map->entries);
    *map = (struct neap_map){0};
}

uint64_t neap_map_get(const struct neap_map *map, uint64_t key)
{
    return map->capacity ? map->entries[find(map, key)].value : NEAP_MAP_NONE;
}

bool neap_map_put(struct neap_map *map, uint64_t key, uint64_t value)
{
    size_t at;

    if (map->count >= map->capacity / 4 * 3 && !grow(map))
        return false;
    at = find(map, key);
    if (map->entries[at].value == NEAP_MAP_NONE)
        map->count++;
    map->entries[at] = (struct neap_map_entry){key, value};
    return true;
}

uint64_t neap_map_remove(struct neap_map *map, uint64_t key)
{
    size_t mask = map->capacity - 1;
    size_t gap, at;
    uint64_t value;

    if (map->capacity == 0)
        return NEAP_MAP_NONE;
    gap = find(map, key);
    value = map->entries[gap].value;
    if (value == NEAP_MAP_NONE)
        return NEAP_MAP_NONE;
    for (at = (gap + 1) & mask; map->entries[at].value != NEAP_MAP_NONE;
         at = (at + 1) & mask) {
        /* It may move back to the gap unless its home lies behind the gap. */
        if (((at - home(map, map->entries[at].key)) & mask) >= ((at - gap) & mask)) {
            map->entries[gap] = map->entries[at];
            gap = at;
        }
    }
    map->entries[gap].value = NEAP_MAP_NONE;
    map->count--;
    return value;
}

const struct neap_map_entry *neap_map_next(const struct neap_map *map, size_t *at)
{
    while (*at < map->capacity) {
        const struct neap_map_entry *entry = &map->entries[(*at)++];

        if (entry->value != NEAP_MAP_NONE)
            return entry;
    }
    return NULL;
}
