/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampled blocks that are live: schema/wire/table.h, the writer's side.
 *
 * The table lies in the process's data memory and is mapped at the first sample. It is
 * of this process alone: a forked child has none until it samples a block of its own.
 * No lock, no wait; a free may come from a signal handler at any point.
 */
#ifndef NEAP_LIBHOOK_SAMPLES_H
#define NEAP_LIBHOOK_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"
#include "schema/wire/table.h"

#define NEAP_SAMPLES_NONE UINT32_MAX

/* A slot for a block at `address`, claimed; NEAP_SAMPLES_NONE: all tries are full, or
 * the table cannot be mapped. */
uint32_t neap_samples_claim(uint64_t address);

/*
 * Fill a claimed slot and show it: the block is live and sampled from here on. Doubles
 * the process's interval when the table grows too full.
 */
void neap_samples_keep(uint32_t index, uint64_t address,
                       const struct neap_table_slot *slot);

/* Is the block one of them? If so its key is claimed by us, and nobody else's. */
uint32_t neap_samples_take(const void *block);
/* It is about to be freed, for good. */
void neap_samples_drop(uint32_t index, const void *block);
/* It stays as it was. */
void neap_samples_return(uint32_t index, const void *block);

#endif
