/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as a target would write them, decoded and handed to ingest, and questions
 * to the recording that comes of it. Links: tests/unit/feed.c
 */
#ifndef NEAP_TESTS_UNIT_FEED_H
#define NEAP_TESTS_UNIT_FEED_H

#include <sqlite3.h>
#include <stdint.h>

#include "daemon/ingest/ingest.h"

/* An empty recording; `path` is replaced. */
sqlite3 *feed_open(const char *path);
struct neap_ingest *feed_create(sqlite3 *db);
/* With the interval of its samples, and the bytes of events that are kept. */
struct neap_ingest *feed_create_with(sqlite3 *db, uint64_t interval, uint64_t max_size);
/* A process of some pid, started at 1000 ns. The first one is main. */
struct neap_ingest_process *feed_start(struct neap_ingest *ingest, int32_t pid);
void feed_end(struct neap_ingest_process *process, enum neap_exit_kind kind,
              int32_t code);
/* Commit, or finish, and insist on success. */
void feed_commit(struct neap_ingest *ingest, uint64_t now_ns);
void feed_finish(struct neap_ingest *ingest, uint64_t now_ns);

/* Losses of every kind. */
uint64_t feed_lost(const struct neap_tally *tally);

void feed_time(struct neap_ingest_process *process, uint32_t lane, uint64_t now_ns);
void feed_thread(struct neap_ingest_process *process, uint32_t lane, uint32_t tid,
                 const char *name);
void feed_thread_end(struct neap_ingest_process *process, uint32_t lane);
void feed_module(struct neap_ingest_process *process, uint32_t lane,
                 uint32_t generation, uint64_t start, uint64_t end, const char *path);
/* `pcs` ends with 0. */
void feed_stack(struct neap_ingest_process *process, uint32_t lane, uint64_t hash,
                uint32_t generation, unsigned flags, const uint64_t *pcs);
/* `kind` is ALLOC or REALLOC_ALLOC. */
void feed_alloc(struct neap_ingest_process *process, uint32_t lane,
                enum neap_ev_kind kind, uint64_t address, uint64_t size, uint64_t hash);
/* `kind` is FREE, REALLOC_FREE or REALLOC_FAIL. */
void feed_free(struct neap_ingest_process *process, uint32_t lane,
               enum neap_ev_kind kind, uint64_t address);
/* `flags` of NEAP_SAMPLE_*. */
void feed_sample(struct neap_ingest_process *process, uint32_t lane, uint64_t address,
                 uint64_t size, uint64_t hash, uint64_t interval, uint32_t flags);
void feed_sample_free(struct neap_ingest_process *process, uint32_t lane,
                      uint64_t address, uint32_t flags);
void feed_realloc_done(struct neap_ingest_process *process, uint32_t lane);
void feed_map(struct neap_ingest_process *process, uint32_t lane, enum neap_map_op op,
              uint64_t address, uint64_t size, uint64_t hash);
/* With the other fields of a map; `event` needs no head. */
void feed_map_event(struct neap_ingest_process *process, uint32_t lane,
                    const struct neap_ev_map *event);
void feed_memory_error(struct neap_ingest_process *process, uint32_t lane,
                       const struct neap_ev_memory_error *event);
void feed_exit(struct neap_ingest_process *process, uint32_t lane, int64_t code);

/* The only number, or text, that `sql` gives. The text is good until the next call. */
int64_t ask_number(sqlite3 *db, const char *sql);
const char *ask_text(sqlite3 *db, const char *sql);

/*
 * Do the numbers of a recording agree with each other: sites with processes, live
 * rows with sites, frames and stacks with what refers to them?
 */
void ask_consistent(sqlite3 *db);

#endif
