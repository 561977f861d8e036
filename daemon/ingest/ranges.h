/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the modules of one process are mapped, and were.
 *
 * Addresses are reused by dlclose and dlopen. The target counts generations of its
 * module list; each announcement says from which generation on it holds, each stack
 * in which generation it was taken. A pc of generation g belongs to the announcement
 * that covers it with the highest generation <= g; if there is none such, which takes
 * a module that was announced late, to the lowest one above g.
 *
 * A repeated announcement is not kept. Announcements that newer ones cover are
 * dropped by neap_ranges_prune, after all stacks of their time have been looked up,
 * so that a program that loads and unloads for days needs no more room.
 */
#ifndef NEAP_DAEMON_INGEST_RANGES_H
#define NEAP_DAEMON_INGEST_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/base/vec.h"

#define NEAP_RANGES_MAX 16384u /* more than any program maps at once */

struct neap_range {
    uint64_t start; /* [start, end) */
    uint64_t end;
    uint64_t bias;
    uint32_t generation;
    uint32_t module;
};

struct neap_ranges {
    NEAP_VEC(struct neap_range) ranges; /* in the order they were announced */
    size_t pruned;                      /* how many the last prune left */
};

void neap_ranges_deinit(struct neap_ranges *ranges);

/* False: no room for it, nothing changed. */
bool neap_ranges_add(struct neap_ranges *ranges, const struct neap_range *range);

/* The range of `pc` in `generation`, NULL if no module is there. */
const struct neap_range *neap_ranges_find(const struct neap_ranges *ranges, uint64_t pc,
                                          uint32_t generation);

void neap_ranges_prune(struct neap_ranges *ranges);

#endif
