/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that allocates at random in several threads: its records are fed to ingest,
 * and naive books say which events and which totals must come of them.
 *
 * Its 40 stacks have a frame each: that of hash H is the call before 0x100011 + 16 H.
 * Links: tests/unit/event_model.c tests/unit/feed.c
 */
#ifndef NEAP_TESTS_UNIT_EVENT_MODEL_H
#define NEAP_TESTS_UNIT_EVENT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ingest/ingest.h"
#include "schema/store/chunk.h"

#define EVENT_MODEL_HASHES    40u
#define EVENT_MODEL_THREADS   3u
#define EVENT_MODEL_ADDRESSES 600u

struct event_sums {
    uint64_t alloc_count, alloc_bytes;
    uint64_t free_count, free_bytes;
    uint64_t temporary_count, temporary_bytes;
};

struct event_block {
    bool live;
    uint64_t size;
    uint32_t hash, owner;
};

struct event_model {
    struct neap_ingest_process *process;
    uint64_t state; /* of its chance */
    uint64_t now;
    struct event_block blocks[EVENT_MODEL_ADDRESSES];
    uint64_t last[EVENT_MODEL_THREADS]; /* address of the latest allocation */
    struct event_pending {
        bool open, foreign, temporary;
        uint64_t address;
        struct event_block block;
    } pending[EVENT_MODEL_THREADS];
    /* What must come of it. In events `site` is the hash. */
    struct neap_chunk_event *events;
    uint64_t count, room;
    struct event_sums sums[EVENT_MODEL_HASHES];
    uint64_t live_bytes, peak_bytes, peak_event, foreign;
};

/* Room for as many events as any test needs, so that it needs none later. */
struct event_model *event_model_create(void);
void event_model_destroy(struct event_model *model);
/* As it was when it was created. */
void event_model_reset(struct event_model *model);

/* Say which threads and stacks there are. */
void event_model_start(struct event_model *model, struct neap_ingest_process *process);
void event_model_steps(struct event_model *model, int steps);
/* The process ends; reallocs under way came to nothing. */
void event_model_end(struct event_model *model);

/* What an event does to live bytes in a recording of this interval. */
int64_t event_delta(const struct neap_chunk_event *event, uint64_t interval);
/* And to the sums of its site. */
void event_sum(struct event_sums *sums, const struct neap_chunk_event *event);

#endif
