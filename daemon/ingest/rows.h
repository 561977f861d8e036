/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writers of rows share (commit.c, sites.c, events.c, plain.c). Private to
 * them: the names are short, as each is used once a column.
 */
#ifndef NEAP_DAEMON_INGEST_ROWS_H
#define NEAP_DAEMON_INGEST_ROWS_H

#include <stdint.h>

#include "daemon/ingest/state.h"

/*
 * A number as a row holds it. Targets may claim any time or address: what does not
 * fit becomes the largest number there is, and never NEAP_SQL_NULL by accident.
 */
static inline int64_t neap_integer(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

#define I(value) neap_integer((uint64_t)(value))

/* Return an error from the function around. */
#define TRY(call)                         \
    do {                                  \
        struct neap_error *err_ = (call); \
        if (err_)                         \
            return err_;                  \
    } while (0)

/* Write the rows of raw_site that changed. Changes nothing here. */
struct neap_error *
neap_sites_write(const struct neap_ingest_process *process) NEAP_MUST_CHECK;
/* A commit has stored them. */
void neap_sites_stored(struct neap_ingest_process *process);

/* Write the events of a process that are not stored yet; a commit has stored them. */
struct neap_error *
neap_events_write(struct neap_ingest_process *process) NEAP_MUST_CHECK;
void neap_events_stored(struct neap_ingest_process *process);

/* Write the maps and memory errors that are ready; a commit has stored them. */
struct neap_error *
neap_plain_write(const struct neap_ingest_process *process) NEAP_MUST_CHECK;
void neap_plain_stored(struct neap_ingest_process *process);

/* Delete the oldest events beyond what is to be kept; a commit has done so. */
struct neap_error *neap_events_trim(struct neap_ingest *ingest) NEAP_MUST_CHECK;
void neap_events_trimmed(struct neap_ingest *ingest);

#endif
