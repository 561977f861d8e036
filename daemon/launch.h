/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `neapd run`: the process the person started.
 *
 * It starts the collector, then the command, passes signals on, and ends as the
 * command ended. It touches no event and no recording; if the collector dies, or
 * never answers, the command does not notice.
 */
#ifndef NEAP_DAEMON_LAUNCH_H
#define NEAP_DAEMON_LAUNCH_H

#include "daemon/config.h"

/* The exit status of `run`: the command's, 128 + N for signal N, or NEAP_STATUS_*. */
int neap_launch_run(const struct neap_config *config);

#endif
