/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who mapped what of an address space: ranges of addresses that do not overlap, each
 * with a kind and a row of the answer.
 *
 * A treap: a recording may hold any number of ranges in any order, and a list would
 * take a second for each ten thousand. Priorities are drawn anew in each run, so that
 * no recording can be made that has them fall badly. Memory is the answer's arena's;
 * what is given up is used again.
 */
#ifndef NEAP_BINDINGS_QUERY_AREAS_H
#define NEAP_BINDINGS_QUERY_AREAS_H

#include <stdbool.h>
#include <stdint.h>

#include "bindings/query/arena.h"

struct neap_area {
    uint64_t start, end; /* [start, end), never empty */
    uint32_t row;
    uint8_t kind;
    uint32_t priority;
    struct neap_area *left, *right;
};

struct neap_areas {
    struct neap_arena *arena;
    struct neap_area *root;
    struct neap_area *spare; /* a list by `right` */
    uint64_t random;
};

void neap_areas_init(struct neap_areas *areas, struct neap_arena *arena);
/* Forget all ranges. */
void neap_areas_clear(struct neap_areas *areas);

typedef void neap_areas_see(void *context, const struct neap_area *area);

/* Take out what lies in [start, end); `see` is called with each piece, by address.
 * False: no memory, and the areas are good for nothing any more. */
bool neap_areas_cut(struct neap_areas *areas, uint64_t start, uint64_t end,
                    neap_areas_see *see, void *context) NEAP_MUST_CHECK;

/* A range, where none is. False: no memory. */
bool neap_areas_put(struct neap_areas *areas, uint64_t start, uint64_t end,
                    unsigned kind, uint32_t row) NEAP_MUST_CHECK;

/* The range that holds `address`, NULL: none. Good until the next change. */
const struct neap_area *neap_areas_find(const struct neap_areas *areas,
                                        uint64_t address);

/* All of them, by address. */
void neap_areas_each(const struct neap_areas *areas, neap_areas_see *see,
                     void *context);

#endif
