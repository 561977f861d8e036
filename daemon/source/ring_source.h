/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process's lanes, read in order.
 *
 * Owns the process's data memory (schema/wire/ring.h). What a target writes there is
 * never trusted: bytes are copied out with pread, so they are not even mapped here,
 * and decoded from the private copy. Only headers are mapped, a page a lane.
 *
 * A lane whose bytes make no sense is given up and counted as lost; the others go on.
 */
#ifndef NEAP_DAEMON_SOURCE_RING_SOURCE_H
#define NEAP_DAEMON_SOURCE_RING_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/source/source.h"
#include "schema/base/error.h"
#include "schema/wire/ring.h"

struct neap_ring_source;
struct neap_ring_scratch; /* buffers of a pass, shared by all sources of a thread */

struct neap_ring_counters { /* absolute, as the target keeps them */
    uint64_t stacks_truncated;
    uint64_t verified;
    uint64_t verify_differences;
    uint64_t fallbacks;
    uint64_t waits;
};

enum neap_drain {
    NEAP_DRAIN_PASS,  /* what is there, up to a cut that is one state of the process */
    NEAP_DRAIN_FINAL, /* everything: nobody writes any more */
};

struct neap_error *
neap_ring_scratch_create(struct neap_ring_scratch **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_ring_scratch_destroy(struct neap_ring_scratch *scratch);

/* `tails`: NEAP_LANES_MAX words, all 0, that outlive the source. `sink` is copied.
 * `table`: the pages of the table of samples are made now. */
struct neap_error *
neap_ring_source_create(_Atomic uint64_t *tails, const struct neap_sink *sink,
                        bool table, struct neap_ring_source **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_ring_source_destroy(struct neap_ring_source *source);

/* The data memfd, to be passed to the target. It stays the source's. */
int neap_ring_source_fd(const struct neap_ring_source *source);
/* Lanes opened so far: the tail words below this may be other than 0. */
uint32_t neap_ring_source_lanes(const struct neap_ring_source *source);
/* Lanes whose pages exist. */
uint32_t neap_ring_source_filled(const struct neap_ring_source *source);

/* Hand on what waits. `now_ns` is any monotonic clock: it times the wait for gaps. */
enum neap_activity neap_ring_source_drain(struct neap_ring_source *source,
                                          struct neap_ring_scratch *scratch,
                                          uint64_t now_ns, enum neap_drain mode);

/* Whether something waits that a pass has not seen; cheap. */
bool neap_ring_source_waiting(const struct neap_ring_source *source);

/*
 * The table of samples (schema/wire/table.h): `found` for each that is live. For when
 * nobody writes any more; what does not make sense is the receiver's to see. False: it
 * could not be read to its end.
 */
bool neap_ring_source_table(const struct neap_ring_source *source,
                            void (*found)(void *context, uint64_t address,
                                          const struct neap_table_slot *slot),
                            void *context);

/* Report what was lost since the last call, and read the counters. */
void neap_ring_source_counters(struct neap_ring_source *source,
                               struct neap_ring_counters *ret);

#endif
