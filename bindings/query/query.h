/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to a recording, in plain C over schema/store. No Python.h here.
 *
 * A recording is opened once and asked from one thread at a time. Answers are
 * snapshots the caller owns: they stay valid after the recording is closed.
 * While neapd still writes, each question sees the last commit.
 */
#ifndef NEAP_BINDINGS_QUERY_QUERY_H
#define NEAP_BINDINGS_QUERY_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/base/error.h"

struct neap_recording;

struct neap_error *neap_recording_open(const char *path,
                                       struct neap_recording **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_recording_close(struct neap_recording *recording);

/*
 * Have `check` called every few milliseconds while a question is being answered.
 * When it returns true the question ends with CANCELLED. NULL: no more.
 */
void neap_recording_watch(struct neap_recording *recording, bool (*check)(void *data),
                          void *data);

enum neap_metric {
    NEAP_METRIC_LIVE,      /* still allocated at the end (of each process) */
    NEAP_METRIC_PEAK,      /* share in its process's peak */
    NEAP_METRIC_ALLOCATED, /* all calls */
    NEAP_METRIC_TEMPORARY, /* freed before the thread's next allocation */
};

/* What the rows of a report stand for. */
enum neap_report_by {
    NEAP_BY_STACK,
    NEAP_BY_THREAD, /* that allocated the blocks */
    NEAP_BY_SIZE,   /* powers of two */
};

enum neap_recording_state {
    NEAP_RECORDING_FINISHED, /* whole: every process had ended */
    NEAP_RECORDING_RUNNING,  /* neapd still writes it */
    NEAP_RECORDING_LOST,     /* neapd ended before its processes did */
};

/* What the rest of a report is about: the JSON's "recording" and "loss". */
struct neap_summary {
    char *path;
    char *version;
    char *command; /* JSON array */
    int64_t pid;   /* of CMD; 0 where CMD itself was never seen */
    char *start_utc;
    int64_t start_ns; /* of CMD's first image, since the recording's start */
    int64_t duration_ns;
    int64_t
        on_ns;  /* of these it was switched on; less: what happened else is unknown */
    char *mode; /* exact, sampled */
    int64_t interval;
    char *allocator; /* app, neap */
    char *exit_kind; /* exited, signaled, running, lost */
    int64_t exit_code;
    bool has_exit_code;
    enum neap_recording_state state;
    int64_t processes; /* different pids */
    int64_t images;    /* programs run by them: a process that execs has two */
    int64_t loss_events, loss_bytes, loss_stacks;
};

struct neap_frame {
    const char *function; /* NULL where unknown */
    const char *file;     /* NULL where unknown */
    const char *module;   /* NULL where no file is mapped */
    int64_t line;         /* 0 where unknown */
    int64_t offset;       /* in the module; where there is none, the address */
    bool python;
    bool inlined;
};

struct neap_row {
    int64_t stack_id;            /* by stack */
    int64_t pid, tid;            /* by thread */
    const char *name;            /* of the thread; NULL where it is not known */
    uint64_t min_size, max_size; /* by size: of the class, in bytes */
    int64_t value;               /* bytes */
    int64_t count;               /* blocks for live and peak, calls otherwise */
    double ci95; /* half the width of the 95 % interval; 0 in exact mode */
    uint32_t depth;
    bool truncated;                         /* outer frames are missing */
    const struct neap_frame *const *frames; /* innermost first */
};

struct neap_report {
    enum neap_metric metric;
    enum neap_report_by by;
    int64_t total_value, /* over all stacks asked about, not the rows only */
        total_count;
    double total_ci95;
    int64_t suppressed_value, suppressed_count; /* leaks: not in total, not in rows */
    double suppressed_ci95;
    int64_t stacks; /* or threads, or classes: in the total; `count` are here */
    int64_t processes, images; /* that the total covers, see neap_summary */
    uint32_t count;
    const struct neap_row *rows; /* by value, largest first, then by stack_id */
};

/*
 * Without times, tid, sizes and `by` a report is read off the aggregates. With any of
 * them it is a scan of the events.
 *
 * At a time: what had happened up to then. From one time to another: what happened
 * after the one and up to the other; `live` is then what was allocated in between and
 * not freed, `peak` the highest point in between.
 */
struct neap_report_query {
    enum neap_metric metric;
    enum neap_report_by by;
    int64_t limit;                 /* rows; < 0 = all */
    int64_t pid;                   /* with has_pid: of this process only */
    int64_t at_ns, from_ns, to_ns; /* with has_… */
    int64_t tid;                   /* with has_tid: blocks this thread allocated */
    int64_t min_size, max_size;    /* with has_…: blocks of these sizes */
    bool has_pid, has_at, has_from, has_to, has_tid, has_min_size, has_max_size;
    bool builtin_suppressions; /* what the C and C++ runtimes keep on purpose */
    const char *suppressions;  /* text of an LSan suppression file, or NULL */
};

struct neap_error *neap_recording_summary(struct neap_recording *recording,
                                          struct neap_summary *ret) NEAP_MUST_CHECK;
void neap_summary_deinit(struct neap_summary *summary);

struct neap_error *neap_recording_report(struct neap_recording *recording,
                                         const struct neap_report_query *query,
                                         struct neap_report **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_report_destroy(struct neap_report *report);

/*
 * One line a row, "outermost;…;innermost value\n". Bytes that would end a frame or a
 * line are written as \xHH; a function without a name is module+0xoffset.
 * The caller frees `*ret`.
 */
struct neap_error *neap_report_collapsed(const struct neap_report *report, char **ret,
                                         size_t *length) NEAP_MUST_CHECK;

/* A stack of an answer. */
struct neap_trace {
    bool known;       /* else there is none, and nothing below holds */
    bool truncated;   /* outer frames are missing */
    int64_t stack_id; /* in the recording */
    uint32_t depth;
    const struct neap_frame *const *frames; /* innermost first */
};

/* What is mapped. */
enum neap_mapped {
    NEAP_MAPPED_ANONYMOUS, /* memory: also what the break grew by */
    NEAP_MAPPED_RESERVED,  /* anonymous, without access (PROT_NONE) */
    NEAP_MAPPED_FILE,
    NEAP_MAPPED_KINDS,
};

struct neap_mapped_bytes {
    int64_t grown;
    int64_t returned; /* unmapped, or mapped over, whoever had grown it */
    int64_t kept;     /* of `grown`, still mapped at the end of its process */
};

struct neap_map_sums {
    struct neap_mapped_bytes bytes[NEAP_MAPPED_KINDS];
    int64_t unseen;  /* returned, and not seen to grow: not in `bytes` */
    int64_t advised; /* MADV_DONTNEED and MADV_FREE */
    int64_t grow_count, return_count, advise_count; /* calls */
};

struct neap_map_row {
    struct neap_trace trace;
    struct neap_map_sums sums;
};

/* Who changed the address space, by stack; in whole pages, as the kernel counts. */
struct neap_map_report {
    struct neap_map_sums total; /* of all stacks asked about, not the rows only */
    int64_t stacks;             /* in the total; `count` are here */
    int64_t processes, images;  /* that the total covers, see neap_summary */
    uint32_t count;
    const struct neap_map_row *rows; /* the most grown first */
};

struct neap_map_query {
    int64_t limit; /* rows; < 0 = all */
    int64_t pid;   /* with has_pid: of this process only */
    bool has_pid;
    const char *source; /* "hook" or "heap", see the view map_event; NULL: both */
};

struct neap_error *neap_recording_maps(struct neap_recording *recording,
                                       const struct neap_map_query *query,
                                       struct neap_map_report **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_map_report_destroy(struct neap_map_report *report);

/* A mistake of the program's. */
struct neap_memory_error {
    int64_t ts_ns, pid, tid;
    const char *kind; /* double-free ... */
    int64_t address;  /* that was freed, or the first byte that was written */
    bool has_block;   /* it belongs to one */
    int64_t block, size;
    struct neap_trace alloc, free; /* of the block; its first free */
    struct neap_trace found;       /* the call that found it */
};

struct neap_memory_errors {
    int64_t total;             /* `count` are here */
    int64_t processes, images; /* asked about */
    uint32_t count;
    const struct neap_memory_error *rows; /* as they happened */
};

struct neap_error *
neap_recording_errors(struct neap_recording *recording, int64_t limit,
                      const int64_t *pid,
                      struct neap_memory_errors **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_memory_errors_destroy(struct neap_memory_errors *errors);

/* The word for a metric and back. */
const char *neap_metric_name(enum neap_metric metric);
struct neap_error *neap_metric_parse(const char *name,
                                     enum neap_metric *ret) NEAP_MUST_CHECK;
/* The same for what rows stand for: stack, thread, size. */
const char *neap_by_name(enum neap_report_by by);
struct neap_error *neap_by_parse(const char *name,
                                 enum neap_report_by *ret) NEAP_MUST_CHECK;

enum neap_cell_type {
    NEAP_CELL_NULL = 0,
    NEAP_CELL_INTEGER,
    NEAP_CELL_REAL,
    NEAP_CELL_TEXT,
    NEAP_CELL_BLOB,
};

struct neap_cell {
    union {
        int64_t integer;
        double real;
        const char *bytes; /* of text and blobs; a zero follows */
    };
    uint32_t length; /* of bytes */
    enum neap_cell_type type;
};

struct neap_table {
    uint32_t columns;
    size_t rows;
    const char *const *names; /* of the columns */
};

/*
 * One statement that only reads, with `count` parameters. Errors: SQL, with what
 * SQLite says about it; DAMAGED; CANCELLED.
 */
struct neap_error *neap_recording_sql(struct neap_recording *recording, const char *sql,
                                      const struct neap_cell *parameters, size_t count,
                                      struct neap_table **ret) NEAP_MUST_CHECK;
/* The `table->columns` cells of a row. */
const struct neap_cell *neap_table_row(const struct neap_table *table, size_t row);
/* Takes NULL. */
void neap_table_destroy(struct neap_table *table);

#endif
