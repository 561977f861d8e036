/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are: this program, the hook library, the private directory with the
 * socket, the recording.
 */
#ifndef NEAP_DAEMON_PATHS_H
#define NEAP_DAEMON_PATHS_H

#include "daemon/config.h"
#include "schema/base/error.h"

#define NEAP_ENV_HOOK "NEAP_HOOK" /* another libneap.so than the one beside neapd */

struct neap_paths {
    char *self;      /* this program */
    char *hook;      /* what LD_PRELOAD is to say: no space and no colon in it */
    char *directory; /* mode 0700, ours alone */
    char *socket;
    char *output;
};

/* Makes the directory. What was found before an error is for deinit, too. */
struct neap_error *neap_paths_init(struct neap_paths *paths,
                                   const struct neap_config *config) NEAP_MUST_CHECK;
/* Leaves the directory: it belongs to the collector. Zeroed memory is fine. */
void neap_paths_deinit(struct neap_paths *paths);
/* With what we put into it. Takes NULL. */
void neap_paths_remove_directory(const char *directory);

#endif
