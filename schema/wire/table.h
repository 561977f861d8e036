/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampled blocks of a process that are live, in its data memory.
 *
 * The target keeps it, the collector reads it when the target has ended, in whatever
 * way: it puts right what a lost record left wrong, and survives SIGKILL and the OOM
 * killer. 16 384 blocks of 512 KiB each stand for some 8 GiB.
 *
 * A block's address chooses a bucket of eight keys, a cache line; the NEAP_TABLE_TRIES
 * buckets from there on may hold it. A writer claims a key by exchanging 0 for
 * NEAP_TABLE_CLAIMED, fills the slot, and stores the address into the key (release);
 * a free exchanges the address for 0. No two sampled blocks have one address at a time,
 * as long as a free takes its key away before the real free.
 *
 * Pressure: above NEAP_TABLE_HIGH keys in use the target doubles its own interval; a
 * sample for which all tries are full is counted in data's table_loss and forgotten.
 */
#ifndef NEAP_SCHEMA_WIRE_TABLE_H
#define NEAP_SCHEMA_WIRE_TABLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "schema/attr.h"

#define NEAP_TABLE_SLOTS   16384u
#define NEAP_TABLE_BUCKET  8u
#define NEAP_TABLE_TRIES   8u /* buckets */
#define NEAP_TABLE_HIGH    (NEAP_TABLE_SLOTS / 4 * 3)
#define NEAP_TABLE_CLAIMED 1u /* no block's address */

struct neap_table_slot {
    uint64_t size;
    uint64_t stack;    /* hash */
    uint64_t interval; /* mean bytes between samples when it was drawn */
    uint64_t ts_ns;    /* since the recording's start */
    uint32_t tid;
    uint32_t reserved[7];
};
NEAP_ASSERT_SIZE(struct neap_table_slot, 64);

struct neap_table {
    /* release by whoever filled the slot, acquire by whoever reads it */
    _Atomic uint64_t key[NEAP_TABLE_SLOTS];
    struct neap_table_slot slot[NEAP_TABLE_SLOTS];
};

#define NEAP_TABLE_BYTES (NEAP_TABLE_SLOTS * (8u + 64u))
NEAP_ASSERT_SIZE(struct neap_table, NEAP_TABLE_BYTES);

/* The first key of the bucket that `address` begins with. */
NEAP_ALWAYS_INLINE uint32_t neap_table_home(uint64_t address)
{
    return (uint32_t)((address >> 4) * 0x9e3779b97f4a7c15u >> 53) * NEAP_TABLE_BUCKET;
}

#endif
