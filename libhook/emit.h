/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records out of this thread, into its lane.
 *
 * Each call leaves errno alone, takes no lock, allocates nothing of the program's,
 * and needs some hundred bytes of stack: frames are unwound straight into the lane,
 * behind its head, where they become a STACK record if nobody has sent them yet.
 *
 * Callers have set tls->busy to NEAP_RECORDING. A record that cannot be written is
 * counted in the lane and forgotten; under the `block` policy its thread first waits,
 * as long as the collector gives signs of life.
 */
#ifndef NEAP_LIBHOOK_EMIT_H
#define NEAP_LIBHOOK_EMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"
#include "schema/wire/event.h"

/* ALLOC or REALLOC_ALLOC, after the real call. False: lost. */
bool neap_emit_alloc(struct neap_tls *tls, enum neap_ev_kind kind,
                     const struct neap_context *caller, const void *block, size_t size);

/* FREE or REALLOC_FREE before the real call, REALLOC_FAIL after it. False: lost. */
bool neap_emit_free(struct neap_tls *tls, enum neap_ev_kind kind, const void *block);

struct neap_emit_sample {
    uint64_t interval; /* mean bytes between samples when the gap was drawn */
    uint32_t flags;    /* NEAP_SAMPLE_REALLOC */
};
/*
 * SAMPLE, after the real call. The block goes into the table of live samples; if there
 * is no room in it, it is counted there and not recorded at all. If only the record
 * finds no room, it is counted as any other.
 */
void neap_emit_sample(struct neap_tls *tls, const struct neap_context *caller,
                      const void *block, size_t size,
                      const struct neap_emit_sample *sample);

/* NEAP_SAMPLE_TEMPORARY if this thread has allocated nothing since it allocated the
 * block, which is sampled: its countdown has not moved. */
NEAP_ALWAYS_INLINE uint32_t neap_sample_flags(const struct neap_tls *tls,
                                              const void *block)
{
    return block == tls->sampled && tls->left == tls->sampled_left
               ? NEAP_SAMPLE_TEMPORARY
               : 0;
}

/* SAMPLE_FREE of a block that was taken out of the table, before the real call. False:
 * lost. `flags` of neap_sample_flags(). */
bool neap_emit_sample_free(struct neap_tls *tls, const void *block, uint32_t flags);

/* REALLOC_DONE, after the real call: there is no allocation to record, or no room. */
void neap_emit_realloc_done(struct neap_tls *tls);

struct neap_emit_map {
    enum neap_map_op op;
    enum neap_map_source source;
    uint32_t prot, flags;
    int32_t fd;
    uint64_t address, size, old_address, old_size;
};
/* `caller` NULL: its stack is not known. */
void neap_emit_map(struct neap_tls *tls, const struct neap_context *caller,
                   const struct neap_emit_map *map);

struct neap_emit_error {
    enum neap_memory_error kind;
    uint64_t address, block, size;
    uint64_t alloc_stack, free_stack; /* of neap_emit_stack */
};
/* MEMORY_ERROR. `caller` as above. */
void neap_emit_memory_error(struct neap_tls *tls, const struct neap_context *caller,
                            const struct neap_emit_error *error);

/* The stack alone, for a record to come: its hash, sent if it was not yet. 0: no room.
 */
uint64_t neap_emit_stack(struct neap_tls *tls, const struct neap_context *caller);

struct neap_emit_module {
    uint64_t bias, start, end;
    uint32_t generation;
    uint32_t build_id_len, path_len;
    uint8_t build_id[NEAP_BUILD_ID_MAX];
    const char *path;
};
void neap_emit_module(struct neap_tls *tls, const struct neap_emit_module *module);

/* The status the process says it ends with. */
void neap_emit_exit(struct neap_tls *tls, int status);

/* The thread ends: give its lane back. */
void neap_emit_thread_end(struct neap_tls *tls);

/* An allocation in a signal handler that interrupted us: cannot be written. */
void neap_emit_nested(struct neap_tls *tls);

#endif
