/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher's last words: what was recorded, where, and what to type next. */
#ifndef NEAP_DAEMON_TALLY_H
#define NEAP_DAEMON_TALLY_H

#include "daemon/ingest/ingest.h"

/* `dormant`: the recording began switched off. */
void neap_tally_say(const struct neap_tally *tally, const char *output, bool dormant);

#endif
