/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The validating decoder: the only way from a target's bytes to a record.
 *
 * A pure function of (bytes, length). The target may write anything, at any
 * time, so the caller hands in a private copy (or bytes that nobody else writes)
 * and nothing here trusts a length, a count or an enum it has not checked.
 */
#ifndef NEAP_SCHEMA_WIRE_CODEC_H
#define NEAP_SCHEMA_WIRE_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/wire/event.h"

/* One decoded record. The pointers lead into the bytes handed in. */
struct neap_event {
    enum neap_ev_kind kind;
    uint32_t seq;
    uint32_t delta;
    uint32_t length; /* bytes consumed */
    union {
        const struct neap_ev_time *time;
        const struct neap_ev_thread *thread;
        const struct neap_ev_stack *stack;
        const struct neap_ev_module *module;
        const struct neap_ev_alloc *alloc;
        const struct neap_ev_free *free;
        const struct neap_ev_sample *sample;
        const struct neap_ev_sample_free *sample_free;
        const struct neap_ev_map *map;
        const struct neap_ev_exit *exit;
        const struct neap_ev_memory_error *memory_error;
    };
};

enum neap_decode {
    NEAP_DECODE_OK,
    NEAP_DECODE_SHORT,   /* the record does not end within the bytes */
    NEAP_DECODE_CORRUPT, /* no such record; the lane cannot be read any further */
};

/*
 * Decode the record at `bytes` (8-byte aligned). `*ret` is touched on OK only.
 * A PAD consumes all of `length`: hand in no more than the lap holds.
 */
enum neap_decode neap_decode(const void *bytes, uint32_t length,
                             struct neap_event *ret);

/* The wire name of a kind ("alloc"), "?" for none. */
const char *neap_ev_name(unsigned kind);

/* The build-id and path of a decoded MODULE record; lengths are in the record. */
static inline const uint8_t *neap_ev_module_build_id(const struct neap_ev_module *m)
{
    return m->bytes;
}

static inline const char *neap_ev_module_path(const struct neap_ev_module *m)
{
    return (const char *)m->bytes + m->build_id_len;
}

#endif
