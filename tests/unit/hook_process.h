/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This test program as a recorded process: neap_process by hand, its lanes and read
 * positions in real shared memory, and the reader's end of them. Nothing is connected
 * and no entry point is replaced: tests call neap_emit_* themselves.
 * Include after cmocka.h. Links: tests/unit/hook_process.c and all of libhook but
 * hook_*.c.
 */
#ifndef NEAP_TESTS_UNIT_HOOK_PROCESS_H
#define NEAP_TESTS_UNIT_HOOK_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/life.h"
#include "schema/wire/codec.h"

/* Fixtures: connected, ON, mode EXACT, policy DROP, clock at 1; everything empty. The
 * gate is shut: entry points that are linked in forward (hook_open). */
int hook_process_setup(void **state);
int hook_process_teardown(void **state);

/* The collector's side of it. */
struct neap_ctl_header *hook_ctl(void);
struct neap_lane *hook_lane(unsigned lane);
struct neap_table *hook_table(void);
int hook_data_fd(void);
void hook_open(enum neap_mode mode, uint64_t interval); /* the gate, to that mode */
void hook_tick(void); /* the clock word moves by a millisecond */

/* A thread of the test becomes one of the program: its neap_tls, as if new. */
struct neap_tls *hook_thread(void);

/* A record as it was read. */
struct hook_record {
    enum neap_ev_kind kind;
    uint32_t seq, delta;
    uint64_t address, size, hash, interval, now_ns, start, end;
    uint64_t alloc_hash, free_hash;
    uint32_t tid, generation, op, source;
    uint16_t depth, flags;
    uint64_t pc[4]; /* the innermost */
    char name[24];
    char path[256];
    uint8_t build_id[NEAP_BUILD_ID_MAX];
    uint32_t build_id_len;
    int64_t code;
};

/*
 * Read what waits in a lane, PADs left out, and give the room back; how many, at most
 * `max`. Corrupt bytes fail the test. Only one thread reads.
 */
unsigned hook_read(unsigned lane, struct hook_record *ret, unsigned max);
/* The first of `kind` in records[from, count); count if there is none. */
unsigned hook_next(const struct hook_record *records, unsigned count, unsigned from,
                   enum neap_ev_kind kind);

/* ALLOC from the caller of this function, FREE; with tls->busy set around them. */
void hook_alloc(uint64_t address, uint64_t size);
bool hook_free(uint64_t address);

#endif
