/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scan adds up, by stack, thread or class of sizes.
 *
 * Sums of one process are collected in `work` and added to the rows when they are
 * whole, so that a way that meets a damaged chunk can be given up for another. Sums are
 * modulo 2^64: what an event adds another takes away.
 */
#ifndef NEAP_BINDINGS_QUERY_GROUPS_H
#define NEAP_BINDINGS_QUERY_GROUPS_H

#include "bindings/query/query.h"
#include "schema/base/map.h"
#include "schema/base/vec.h"

struct neap_sums {
    uint64_t bytes;
    uint64_t count; /* in units of 1/NEAP_WEIGHT_ONE */
    double variance;
};

struct neap_group {
    uint64_t key; /* of a stack its id, of a thread pid and tid, of sizes the class */
    struct neap_sums sums;
};

struct neap_groups {
    NEAP_VEC(struct neap_group) rows;
    NEAP_VEC(struct neap_sums) work; /* one a row */
    struct neap_map index;
};

#define NEAP_GROUP_NONE UINT32_MAX

void neap_groups_deinit(struct neap_groups *groups);

/* The number of the row of `key`, made if new. NEAP_GROUP_NONE: no memory. */
uint32_t neap_groups_find(struct neap_groups *groups, uint64_t key);

/* Begin anew; take over what is in `work`. */
void neap_groups_clear(struct neap_groups *groups);
void neap_groups_keep(struct neap_groups *groups);

/* Add all of one row to another, new one or not. False: no memory. */
bool neap_groups_move(struct neap_groups *groups, uint64_t from,
                      uint64_t to) NEAP_MUST_CHECK;

/* Class k > 0 holds sizes from 2^(k-1) to 2^k - 1; class 0 the size 0. */
static inline unsigned neap_size_class(uint64_t size)
{
    return size ? 64u - (unsigned)__builtin_clzll(size) : 0;
}

static inline uint64_t neap_thread_key(int64_t pid, uint32_t tid)
{
    return (uint64_t)pid << 32 | tid;
}

#endif
