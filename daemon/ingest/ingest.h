/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of events: from decoded records to rows of a recording.
 *
 *   session ──events in order──▶ ingest ──▶ track   live blocks, peak, temporaries
 *                                       ├─▶ stacks  hash → frames → stack_id
 *                                       └─▶ write   transactions
 *
 * One thread calls all of this (the loop's). Memory: 64 bytes a live block at the
 * most, plus what the number of distinct stacks and frames asks for, whatever the
 * length of the recording.
 *
 * Nothing here fails while events come in: a failed commit (disk full) keeps its
 * rows dirty, and the next one tries again. What could not be stored by the end is
 * an error of neap_ingest_finish and a row of `loss` if even that can be written.
 */
#ifndef NEAP_DAEMON_INGEST_INGEST_H
#define NEAP_DAEMON_INGEST_INGEST_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/base/error.h"
#include "schema/wire/codec.h"
#include "schema/wire/table.h"

struct neap_ingest;
struct neap_ingest_process; /* one program image: a process that execs has two */

struct neap_recording_info { /* copied */
    const char *version;
    const char *command; /* JSON array */
    const char *start_utc;
    const char *policy;
    const char *socket; /* where the collector listens */
    uint64_t interval;  /* mean bytes between samples, 0 = exact */
    uint64_t max_size;  /* bytes of events kept one by one, 0 = none */
};

struct neap_process_info { /* copied */
    int32_t pid;
    int32_t ppid;
    const char *exe;
    const char *command; /* JSON array */
    const char *allocator;
    const char *unwinder; /* cfi, libunwind, none */
    uint64_t start_ns;
    bool main; /* CMD's own first image */
};

enum neap_exit_kind {
    NEAP_EXIT_RUNNING,
    NEAP_EXIT_EXITED,
    NEAP_EXIT_SIGNALED,
    NEAP_EXIT_EXEC,
    NEAP_EXIT_LOST
};

struct neap_process_end {
    uint64_t end_ns;
    enum neap_exit_kind kind;
    bool has_code; /* false: nobody could say; an EXIT record fills it in */
    int32_t code;  /* exit status or signal */
};

/* Counters the target keeps in shared memory; absolute values. */
struct neap_process_counters {
    uint64_t truncated_stacks;
    uint64_t verified;
    uint64_t verify_differences;
    uint64_t fallbacks;
    uint64_t waits;
};

/* The words of raw_loss.what. */
#define NEAP_LOSSES(X)                                                                \
    X(EVENTS, events)   /* never reached us, or found no memory here */               \
    X(STACKS, stacks)   /* stacks whose frames never came */                          \
    X(SAMPLES, samples) /* that found no room among the live ones of their process */ \
    X(LANES, lanes)     /* events of threads that found no lane */                    \
    X(CORRUPT, corrupt) /* garbage; bytes of a lane that could not be read */         \
    X(ORDER, order)     /* events that were waited for in vain */                     \
    X(STORE, store)     /* rows that could not be kept until they were written */     \
    X(PROCESS, process) /* processes that gave up connecting */

enum neap_loss_what {
#define NEAP_LOSS_ENUM(upper, lower) NEAP_LOSS_##upper,
    NEAP_LOSSES(NEAP_LOSS_ENUM)
#undef NEAP_LOSS_ENUM
    NEAP_LOSS_COUNT
};

/* The final lines for people. */
struct neap_tally {
    uint64_t processes; /* a process that execs is one */
    uint64_t programs;  /* and has several of these */
    uint64_t running;   /* processes not ended yet */
    uint64_t alloc_count;
    uint64_t alloc_bytes;
    uint64_t peak_bytes; /* sum of each process's own peak */
    uint64_t live_count; /* never freed */
    uint64_t live_bytes;
    /* Of samples: the largest interval of any process, and the variances of the sums.
     */
    uint64_t interval;
    double alloc_variance, peak_variance, live_variance;
    uint64_t errors;                /* memory errors of the programs */
    bool switched;                  /* it was off for a while */
    uint64_t on_ns;                 /* then: how long it was on */
    uint64_t lost[NEAP_LOSS_COUNT]; /* all 0 = exact */
};

/* `db` stays the caller's and must outlive the ingest. Writes the recording row. */
struct neap_error *neap_ingest_create(sqlite3 *db,
                                      const struct neap_recording_info *info,
                                      struct neap_ingest **ret) NEAP_MUST_CHECK;
/* Takes NULL. Commits nothing. */
void neap_ingest_destroy(struct neap_ingest *ingest);

/* The process belongs to the ingest. */
struct neap_error *neap_ingest_start(struct neap_ingest *ingest,
                                     const struct neap_process_info *info,
                                     struct neap_ingest_process **ret) NEAP_MUST_CHECK;

/*
 * One record of `lane`, in the order the session settled. PAD and the order fields
 * (seq, delta) mean nothing here. Garbage that decodes (a free of what was never
 * allocated, a REALLOC_ALLOC out of nowhere, a hash without frames) is counted or
 * made the best of, never trusted.
 */
void neap_ingest_event(struct neap_ingest_process *process, uint32_t lane,
                       const struct neap_event *event);

/*
 * Add to what was lost. `what` is one of the words of raw_loss.what; `process` NULL
 * for the recording as a whole. Nothing happens for a count of 0.
 */
void neap_ingest_loss(struct neap_ingest *ingest, struct neap_ingest_process *process,
                      const char *what, uint64_t count, uint64_t bytes);

/*
 * What the table of a sampled process holds, when its last event is in: a block that is
 * live, for each; then heal, which ends those it does not hold. Lost events are made
 * good by that, as far as they are about blocks that are live at the end.
 */
void neap_ingest_alive(struct neap_ingest_process *process, uint64_t address,
                       const struct neap_table_slot *slot);
void neap_ingest_heal(struct neap_ingest_process *process);

/* What is recorded from now on; "off", "exact" or "sampled". */
void neap_ingest_switched(struct neap_ingest *ingest, uint64_t now_ns,
                          const char *mode);

/* Samples there have been. */
uint64_t neap_ingest_samples(const struct neap_ingest *ingest);

void neap_ingest_counters(struct neap_ingest_process *process,
                          const struct neap_process_counters *counters);

/*
 * No more of this process: it must not be used again, so counters and losses come
 * before. Its live blocks are written with the next commit, or, if there are hundreds
 * of thousands, with the next few; its row says `running` until the last of them.
 */
void neap_ingest_end(struct neap_ingest_process *process,
                     const struct neap_process_end *end);

/* A transaction with all that changed. On error all of it is still to be written. */
struct neap_error *neap_ingest_commit(struct neap_ingest *ingest,
                                      uint64_t now_ns) NEAP_MUST_CHECK;

/*
 * Wait for the names of all frames, write the rest. `finished` = every process has
 * ended and the recording is whole; otherwise events and commits may follow.
 */
struct neap_error *neap_ingest_finish(struct neap_ingest *ingest, uint64_t now_ns,
                                      bool finished) NEAP_MUST_CHECK;

/* Are there stacks whose names are not in the recording yet? */
bool neap_ingest_unnamed(const struct neap_ingest *ingest);

void neap_ingest_tally(const struct neap_ingest *ingest, struct neap_tally *ret);

#endif
