/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live blocks of one process: address -> block.
 *
 * Many processes own millions of blocks, so room counts as much as time: entries of
 * 32 bytes in open addressing, a load between 1/2 and 4/5 (40 to 64 bytes a block; less
 * in maps of some ten thousand blocks, where time is all that counts), in 64 tables
 * that grow and shrink each on its own, so that the old and the new table of a move are
 * never more than 1/64 of the whole. A map that stays small is not shrunk.
 *
 * Invariants: an entry with address 0 is empty; no empty entry lies between an
 * entry's home and its place (deletion shifts back, there are no tombstones).
 */
#ifndef NEAP_DAEMON_INGEST_BLOCKS_H
#define NEAP_DAEMON_INGEST_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/attr.h"

#define NEAP_BLOCKS_TABLES 64u

struct neap_block {
    uint64_t address;    /* never 0 */
    uint64_t size : 48;  /* as asked for; no address space is larger */
    uint64_t ref : 16;   /* where the journal put it, see neap_chunk_append() */
    uint64_t ts_ns : 58; /* nine years */
    uint64_t shift : 6;  /* of its sampling interval, see neap_interval() */
    uint32_t site;
    uint32_t tid;
};
NEAP_ASSERT_SIZE(struct neap_block, 32);

struct neap_blocks_table {
    struct neap_block *slots;
    uint32_t capacity;
    uint32_t count;
};

struct neap_blocks {
    uint64_t seed;
    struct neap_blocks_table tables[NEAP_BLOCKS_TABLES];
};

/* A place in the walk over all blocks. All zero is the start. */
struct neap_blocks_cursor {
    uint32_t table;
    uint32_t slot;
};

void neap_blocks_init(struct neap_blocks *blocks);
void neap_blocks_deinit(struct neap_blocks *blocks);

/*
 * The entry of `address`. A new one has all else zero and `*ret_existed` false; the
 * caller fills it in at once. NULL: no memory, nothing changed. The pointer is good
 * until the next call.
 */
struct neap_block *neap_blocks_put(struct neap_blocks *blocks, uint64_t address,
                                   bool *ret_existed) NEAP_MUST_CHECK;

/* Remove a block into `*ret`. False: no such block. Needs no memory. */
bool neap_blocks_take(struct neap_blocks *blocks, uint64_t address,
                      struct neap_block *ret);

/* The block at an address; NULL: none. Good until the next change. */
const struct neap_block *neap_blocks_find(const struct neap_blocks *blocks,
                                          uint64_t address);

/* The next block of the walk, NULL after the last. Nothing may change meanwhile. */
const struct neap_block *neap_blocks_next(const struct neap_blocks *blocks,
                                          struct neap_blocks_cursor *cursor);

/* Bytes of all tables, empty entries included. */
uint64_t neap_blocks_bytes(const struct neap_blocks *blocks);

#endif
