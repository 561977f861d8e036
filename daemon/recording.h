/* SPDX-License-Identifier: Apache-2.0 */
/* The file a collector writes: its making, its end, its removal. */
#ifndef NEAP_DAEMON_RECORDING_H
#define NEAP_DAEMON_RECORDING_H

#include <sqlite3.h>

#include "daemon/collect.h"
#include "daemon/ingest/ingest.h"
#include "schema/base/error.h"

struct neap_recording {
    const char *path; /* the caller's */
    sqlite3 *db;
    struct neap_ingest *ingest;
};

/*
 * Create the file and its first rows; on disk when this returns. After an error the
 * file is there only if `db` is, and deinit is for both.
 */
struct neap_error *neap_recording_init(struct neap_recording *recording,
                                       const struct neap_collect_config *config,
                                       const char *socket_path) NEAP_MUST_CHECK;
/* Close it, so that the one file is all there is. Zeroed memory is fine. */
void neap_recording_deinit(struct neap_recording *recording);
/* Remove the file of a recording that has been closed. */
void neap_recording_remove(const char *path);

#endif
