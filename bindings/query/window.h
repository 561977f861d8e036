/* SPDX-License-Identifier: Apache-2.0 */
/* Does a question about times, threads and sizes make sense? */
#ifndef NEAP_BINDINGS_QUERY_WINDOW_H
#define NEAP_BINDINGS_QUERY_WINDOW_H

#include "bindings/query/recording.h"

/* Does the question take the events? */
static inline bool neap_window_asked(const struct neap_report_query *query)
{
    return query->has_at || query->has_from || query->has_to || query->has_tid ||
           query->has_min_size || query->has_max_size || query->by != NEAP_BY_STACK;
}

/* Errors: USAGE, with what would make sense. */
struct neap_error *
neap_window_check(struct neap_recording *recording,
                  const struct neap_report_query *query) NEAP_MUST_CHECK;

/* "no WHAT 7 in app.neap: choose one of 3, 4 and 5 more", of the numbers that `sql`,
 * whose last parameters ?1 and ?2 are has_pid and pid, selects. */
struct neap_error *
neap_window_choose(struct neap_recording *recording, const char *what, int64_t number,
                   const char *sql,
                   const struct neap_report_query *query) NEAP_MUST_CHECK;

/* What an answer covers. */
struct neap_window_covered {
    int64_t processes, images; /* see neap_summary */
    uint64_t interval;         /* the largest they were sampled with */
};

/* `pid` NULL: all processes. Errors: USAGE, for a process that is not there. */
struct neap_error *neap_window_covers(struct neap_recording *recording,
                                      const int64_t *pid,
                                      struct neap_window_covered *ret) NEAP_MUST_CHECK;

#endif
