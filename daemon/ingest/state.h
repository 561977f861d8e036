/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ingest knows: one recording, its processes, their lanes and threads.
 *
 *   process.c   changes it as events come in; never fails, never writes
 *   plain.c     what is kept as it comes, until it is written
 *   commit.c    writes what has changed; on failure all of it is still changed
 *   ingest.c    the public face
 *
 * Nothing here outlives its use: a process goes with the commit that has stored the
 * last of it, a thread some time after its end.
 */
#ifndef NEAP_DAEMON_INGEST_STATE_H
#define NEAP_DAEMON_INGEST_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ingest/ingest.h"
#include "daemon/ingest/ranges.h"
#include "daemon/ingest/stacks.h"
#include "daemon/ingest/track.h"
#include "daemon/ingest/write.h"
#include "schema/base/map.h"
#include "schema/base/vec.h"
#include "schema/wire/table.h"

#define NEAP_LANE_NONE UINT32_MAX

struct neap_loss {
    struct neap_amount amount;
    uint64_t ts_ns;
    bool dirty;
};

/* Threads are numbers; 0 is whoever has not said its name yet. */
struct neap_thread {
    struct neap_actor actor;
    uint32_t lane; /* NEAP_LANE_NONE: has ended */
    bool dirty;
    uint64_t id; /* of the row */
    uint64_t start_ns;
    uint64_t end_ns;
    char name[25];
};

struct neap_lane_state {
    uint64_t hash; /* the latest stack, as one follows another in a loop */
    uint32_t site; /* of `hash`, or NEAP_SITE_NONE */
    uint32_t thread;
    uint32_t freed_site; /* of the block it freed last, or NEAP_SITE_NONE */
    uint64_t freed;      /* where that was */
    struct neap_realloc pending;
};

/* A STACK record that waits to be resolved. */
struct neap_raw_stack {
    uint64_t since_ns; /* of the commit that missed a module first, 0 = none did */
    uint32_t generation;
    uint16_t depth;
    bool truncated;
    uint64_t pc[];
};

/* The sites of one process that turned out to have the same stack: one row. */
struct neap_group {
    uint32_t stack;
    uint32_t first_site;
    struct neap_amount stored_peak;
};

/* A row of raw_site. */
struct neap_site_row {
    struct neap_measure alloc;
    struct neap_amount free;
    struct neap_measure live;
    struct neap_measure peak;
    struct neap_measure temporary;
};

/* A row of raw_map. */
struct neap_map_row {
    struct neap_ev_map event;
    uint64_t ts_ns;
    uint32_t tid;
    uint32_t site; /* whose stack it is, or NEAP_SITE_NONE */
    uint32_t held; /* commits that left it for later, as its stack may still come */
};

/* A row of raw_memory_error. */
struct neap_memory_error_row {
    struct neap_ev_memory_error event;
    uint64_t ts_ns;
    uint32_t tid;
    uint32_t alloc_site, free_site, site; /* whose stacks they are, or NEAP_SITE_NONE */
    uint32_t held;
};

struct neap_ingest_process {
    struct neap_ingest *ingest;
    struct neap_ingest_process *next;
    uint64_t id;
    /* as started */
    int32_t pid;
    int32_t ppid;
    char *exe;
    char *command;
    char *allocator;
    char *unwinder;
    uint64_t start_ns;
    bool main;
    /* The clock of its events. Lanes have their own, each as fresh as its last record;
     * events come in order, so the latest of them is the time of all. */
    uint64_t now_ns;
    /* books */
    struct neap_track track;
    struct neap_ranges ranges;
    struct neap_process_counters counters;
    struct neap_loss losses[NEAP_LOSS_COUNT];
    NEAP_VEC(struct neap_lane_state) lanes;
    NEAP_VEC(struct neap_thread) threads;
    NEAP_VEC(uint32_t) free_threads; /* numbers of `threads` to use again */
    struct neap_map thread_of_tid;
    NEAP_VEC(struct neap_map_row) maps;
    NEAP_VEC(struct neap_memory_error_row) errors;
    uint64_t error_count; /* stored or not */
    /* stacks */
    NEAP_VEC(struct neap_group) groups;
    struct neap_map group_of_stack;
    bool unresolved;              /* a stack waits for a module */
    struct neap_site_row unknown; /* as stored: all sites without a stack, in one row */
    /* state */
    bool stored; /* its row exists */
    bool dirty;  /* something differs from what is stored */
    bool ended;
    bool has_exit_record;
    int32_t exit_record;
    struct neap_process_end end;
    struct neap_blocks_cursor live_cursor; /* how far live blocks are stored */
    struct neap_blocks_cursor live_next;   /* how far, if this commit succeeds */
    bool live_done;                        /* this commit has the last of them */
    struct neap_journal_row last_events; /* of the chunk being filled, in this commit */
    struct neap_map alive; /* of a sampled process that has ended: what it holds */
    bool alive_unknown;    /* not all of it: no memory */
};

/* A stored row of raw_events. */
struct neap_kept {
    uint64_t id;
    uint64_t process;
    uint64_t end; /* number of the event behind its last */
    uint64_t t1;
    uint64_t bytes;
    bool going; /* deleted by the commit under way */
};

/* A row of raw_switch. */
struct neap_switch_row {
    uint64_t ts_ns;
    const char *mode; /* a literal */
};

struct neap_ingest {
    struct neap_write write;
    NEAP_VEC(struct neap_switch_row) switches; /* not stored yet */
    bool off, switched;                        /* now; ever */
    uint64_t since_ns, on_ns;                  /* of the last switch; before it */
    uint64_t interval;                         /* of samples at the start, 0 = exact */
    uint64_t max_size;                         /* of raw_events.data */
    struct neap_journals journals;
    NEAP_VEC(struct neap_kept) kept; /* what is stored, the oldest first */
    size_t kept_first;               /* those before are gone */
    uint64_t kept_bytes;
    struct neap_stacks stacks;
    struct neap_ingest_process *first;
    struct neap_ingest_process **last;
    struct neap_loss losses[NEAP_LOSS_COUNT];
    uint64_t next_process;
    uint64_t next_thread;
    uint64_t now_ns;        /* the latest heard of */
    uint64_t plain_rows;    /* maps and errors that wait to be stored */
    uint64_t samples;       /* there have been */
    bool commit_failed;     /* the last one; the next regular one tries again */
    bool finished;          /* the recording is whole: say so with the next commit */
    bool closing;           /* nothing is waited for any more */
    struct neap_tally gone; /* of the processes that are stored and forgotten */
};

/* process.c */
void neap_process_event(struct neap_ingest_process *process, uint32_t lane,
                        const struct neap_event *event);
/* A block that the table of a sampled process holds, after its last event; then what
 * the table does not hold was freed by events that were lost. */
void neap_process_alive(struct neap_ingest_process *process, uint64_t address,
                        const struct neap_table_slot *slot);
void neap_process_heal(struct neap_ingest_process *process);
/* No lane goes on: settle what is pending. */
void neap_process_settle(struct neap_ingest_process *process);
void neap_process_destroy(struct neap_ingest_process *process);

/* threads.c */
/* The thread of a THREAD record, made or found again. 0: no memory for a new one. */
uint32_t neap_thread_enter(struct neap_ingest_process *process, uint32_t lane,
                           const struct neap_ev_thread *record, uint64_t now_ns);
void neap_thread_leave(struct neap_ingest_process *process, uint32_t thread,
                       uint64_t now_ns);
/* A commit has stored them all: forget those that ended some time ago. */
void neap_threads_stored(struct neap_ingest_process *process, uint64_t now_ns);

/* resolve.c */
/* Find the stacks of sites whose frames have come. Without memory: the next time. */
void neap_process_resolve(struct neap_ingest_process *process);
/* The stack of a site, the recording's unknown one if it has none. */
uint32_t neap_site_stack(const struct neap_ingest_process *process, uint32_t site);

/* plain.c */
void neap_plain_map(struct neap_ingest_process *process, uint32_t lane,
                    const struct neap_ev_map *event);
void neap_plain_error(struct neap_ingest_process *process, uint32_t lane,
                      const struct neap_ev_memory_error *event);

/* ingest.c */
void neap_loss_add(struct neap_ingest *ingest, struct neap_ingest_process *process,
                   enum neap_loss_what what, uint64_t count, uint64_t bytes);

#endif
