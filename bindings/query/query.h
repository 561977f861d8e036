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
#include <stdint.h>

#include "schema/base/error.h"

struct neap_recording;

struct neap_error *neap_recording_open(const char *path,
                                       struct neap_recording **ret) NEAP_MUST_CHECK;
void neap_recording_close(struct neap_recording *recording);

enum neap_metric {
    NEAP_METRIC_LIVE,      /* still allocated at the end (of each process) */
    NEAP_METRIC_PEAK,      /* share in its process's peak */
    NEAP_METRIC_ALLOCATED, /* all calls */
    NEAP_METRIC_TEMPORARY, /* freed before the thread's next allocation */
};

/* What the rest of a report is about: the JSON's "recording" and "loss". */
struct neap_summary {
    char *path;
    char *version;
    char *command; /* JSON array */
    int64_t pid;   /* of CMD */
    char *start_utc;
    int64_t start_ns; /* of CMD's first image, since the recording's start */
    int64_t duration_ns;
    char *mode; /* exact, sampled */
    int64_t interval;
    char *allocator; /* app, neap */
    char *exit_kind; /* exited, signaled, running, lost */
    int64_t exit_code;
    bool has_exit_code;
    int64_t processes;
    int64_t loss_events, loss_bytes, loss_stacks;
};

struct neap_frame {
    const char *function; /* NULL where unknown */
    const char *file;
    const char *module;
    int64_t line; /* 0 where unknown */
    int64_t offset;
    bool python;
    bool inlined;
};

struct neap_row {
    int64_t stack_id;
    int64_t value; /* bytes */
    int64_t count; /* blocks for live and peak, calls otherwise */
    double ci95;
    uint32_t depth;
    bool truncated;
    const struct neap_frame *frames; /* innermost first */
};

struct neap_report {
    int64_t total_value,
        total_count; /* over all stacks asked about, not the rows only */
    double total_ci95;
    int64_t suppressed_value, suppressed_count; /* leaks: not in total, not in rows */
    uint32_t count;
    const struct neap_row *rows; /* by value, largest first, then by stack_id */
};

struct neap_report_query {
    enum neap_metric metric;
    int64_t limit; /* rows; < 0 = all */
    int64_t pid;   /* < 0 = all processes */
    bool has_pid;
    const char *suppressions; /* text of an LSan suppression file, or NULL */
};

struct neap_error *neap_recording_summary(struct neap_recording *recording,
                                          struct neap_summary *ret) NEAP_MUST_CHECK;
void neap_summary_deinit(struct neap_summary *summary);

struct neap_error *neap_recording_report(struct neap_recording *recording,
                                         const struct neap_report_query *query,
                                         struct neap_report **ret) NEAP_MUST_CHECK;
void neap_report_destroy(struct neap_report *report);

/* The word for a metric and back. */
const char *neap_metric_name(enum neap_metric metric);
struct neap_error *neap_metric_parse(const char *name,
                                     enum neap_metric *ret) NEAP_MUST_CHECK;

#endif
