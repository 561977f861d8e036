/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector: the process that reads what targets leave and writes the recording.
 *
 * Started by the launcher (launch.h) in a session of its own, so that what a terminal
 * does to the command does not reach it. It lives as long as there is anything to
 * record, whether or not anybody waits for it.
 */
#ifndef NEAP_DAEMON_COLLECT_H
#define NEAP_DAEMON_COLLECT_H

#include <stdbool.h>

#include "daemon/config.h"

struct neap_collect_config {
    const char *directory; /* private, for the socket; removed at the end */
    const char *output;
    bool force;
    bool follow;
    struct neap_settings settings;
    char **command; /* of the user, NULL-terminated */
};

#define NEAP_COLLECT_VERB       "collect"    /* what the launcher runs neapd with */
#define NEAP_COLLECT_CONTROL_FD 3            /* the socket to the launcher */
#define NEAP_COLLECT_SOCKET     "socket"     /* within the directory */
#define NEAP_COLLECT_HOOK       "libneap.so" /* ... and, maybe, a link to the hook */

#define NEAP_COLLECT_TEXT       96
/* The words after the verb; NULL at the end. */
#define NEAP_COLLECT_WORDS 6 /* before those of the command */
/* False: not words that the launcher would give. */
bool neap_collect_parse(char **words, struct neap_collect_config *ret);
/* The same backwards. `ret` has room for NEAP_COLLECT_WORDS and leads into `text`. */
void neap_collect_words(const struct neap_collect_config *config,
                        char text[NEAP_COLLECT_TEXT], char *ret[NEAP_COLLECT_WORDS]);

/* The whole life of a collector. Returns its exit status. */
int neap_collect_run(const struct neap_collect_config *config);

#endif
