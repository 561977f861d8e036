/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher's two children: the collector and the command.
 *
 * The command gets what the launcher was given, unchanged: descriptors, signal mask
 * and dispositions, process group, limits. Only its environment has more in it.
 */
#ifndef NEAP_DAEMON_SPAWN_H
#define NEAP_DAEMON_SPAWN_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "daemon/collect.h"
#include "schema/base/error.h"

/* Start `self collect ...` with `control` as its end of the control socket. */
struct neap_error *neap_spawn_collector(const char *self,
                                        const struct neap_collect_config *config,
                                        int control, pid_t *ret) NEAP_MUST_CHECK;

struct neap_spawn_command {
    const char *path; /* the file */
    char **argv;
    char **envp;
    const sigset_t *mask; /* the signal mask it is to have */
    bool ignore_child;    /* SIGCHLD was ignored when we started */
    /* Called in the launcher when the pid is known and nothing of CMD runs yet. */
    void (*announce)(void *context, pid_t pid);
    void *context;
};

/*
 * Start the command. `*ret_errnum` is 0, or why the kernel would not run it: then
 * there is no child any more.
 */
struct neap_error *neap_spawn_run(const struct neap_spawn_command *command, pid_t *ret,
                                  int *ret_errnum) NEAP_MUST_CHECK;

/* What the command's environment tells the hook in it. */
struct neap_spawn_wishes {
    const char *hook; /* comes first in LD_PRELOAD */
    const char *socket;
    bool follow;
    struct neap_allocator allocator;
};

/*
 * The command's environment: ours, with the wishes in it; those that are as without a
 * word are said only where `envp` says something else. One block, freed with free().
 */
struct neap_error *neap_spawn_environment(char **envp,
                                          const struct neap_spawn_wishes *wishes,
                                          char ***ret) NEAP_MUST_CHECK;

#endif
