/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One transaction with all that changed since the last one (commit.c).
 */
#ifndef NEAP_DAEMON_INGEST_COMMIT_H
#define NEAP_DAEMON_INGEST_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ingest/ingest.h"
#include "daemon/ingest/state.h"

struct neap_error *neap_commit(struct neap_ingest *ingest,
                               uint64_t now_ns) NEAP_MUST_CHECK;

/* Is there a process that has ended and is not yet wholly stored? */
bool neap_commit_more(const struct neap_ingest *ingest);

/*
 * Say in the recording that the last commit has failed for good, if even that can be
 * written. A commit that succeeds after all takes it back.
 */
void neap_commit_loss(struct neap_ingest *ingest);

/* Add the totals of one process. */
void neap_tally_add(struct neap_tally *tally,
                    const struct neap_ingest_process *process);

#endif
