/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash map from one 64-bit number to another: stack hash → id, pid → index.
 *
 * Open addressing with linear probing, at most 3/4 full, 16 bytes a slot. Deletion
 * shifts the run behind it back, so there are no tombstones and a map that has
 * served a million keys in turn is as fast as a new one.
 *
 * Any key is fine, also those a hostile process chose: they are mixed with a secret
 * of this process before they pick a slot. NEAP_MAP_NONE is the one value that
 * cannot be stored. A zeroed struct is an empty map.
 */
#ifndef NEAP_SCHEMA_BASE_MAP_H
#define NEAP_SCHEMA_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/attr.h"

#define NEAP_MAP_NONE UINT64_MAX

struct neap_map_entry {
    uint64_t key;
    uint64_t value; /* NEAP_MAP_NONE = the slot is empty */
};

struct neap_map {
    struct neap_map_entry *entries;
    size_t count;
    size_t capacity; /* 0 or a power of two */
};

void neap_map_deinit(struct neap_map *map);

/* The value of `key`, NEAP_MAP_NONE if there is none. */
uint64_t neap_map_get(const struct neap_map *map, uint64_t key);

/* Set or replace. False: no memory, and the map is as it was. */
bool neap_map_put(struct neap_map *map, uint64_t key, uint64_t value) NEAP_MUST_CHECK;

/* Take `key` out and return its value, NEAP_MAP_NONE if there was none. */
uint64_t neap_map_remove(struct neap_map *map, uint64_t key);

/*
 * The next entry at or after slot `*at`, NULL at the end; `*at` moves behind it.
 * Start with 0. In no order; do not change the map meanwhile.
 */
const struct neap_map_entry *neap_map_next(const struct neap_map *map, size_t *at);

#endif
