/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc says about a process.
 *
 * The parsers are pure functions of (bytes, length). A process chooses its name and
 * its command line freely, spaces, parentheses, newlines and broken UTF-8 included.
 * The readers take "gone" and "not allowed" for an answer like any other.
 */
#ifndef NEAP_DAEMON_SOURCE_PROCFS_H
#define NEAP_DAEMON_SOURCE_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "schema/base/error.h"

struct neap_procfs_stat {
    char state; /* R S D Z ... */
    int32_t ppid;
    uint64_t start_ticks;
    bool has_wait_status; /* field 52 is there */
    int32_t wait_status;  /* as of waitpid; 0 unless it is a zombie of ours */
};

/* /proc/PID/stat. False if it is nothing of the kind. */
bool neap_procfs_stat_parse(const char *bytes, size_t length,
                            struct neap_procfs_stat *ret);
/* /proc/PID/cmdline as a JSON array of its words. */
struct neap_error *neap_procfs_command_json(const char *bytes, size_t length,
                                            char **ret) NEAP_MUST_CHECK;
/* Whether /proc/PID/environ holds exactly `entry` ("NAME=value"). */
bool neap_procfs_environ_has(const char *bytes, size_t length, const char *entry);

struct neap_procfs_process {
    int32_t ppid;
    char *exe;     /* "" where nobody may know */
    char *command; /* JSON array */
};

struct neap_error *
neap_procfs_process_init(pid_t pid, struct neap_procfs_process *ret) NEAP_MUST_CHECK;
void neap_procfs_process_deinit(struct neap_procfs_process *process);

/*
 * How a process that has ended did so, as a waitpid status: from its zombie, or from
 * its pidfd once it is reaped (Linux 6.15). False: nobody can say any more.
 */
bool neap_procfs_wait_status(pid_t pid, int pidfd, int *ret);

/* Whether somebody stopped it (SIGSTOP, a debugger). */
bool neap_procfs_is_stopped(pid_t pid);

/* Processes alive, other than `except`, that started with `entry` in their environment.
 */
unsigned neap_procfs_count_environ(const char *entry,
                                   bool (*except)(void *context, pid_t pid),
                                   void *context);

/* Those that have the memory file `fd` mapped. */
unsigned neap_procfs_count_mapping(int fd, bool (*except)(void *context, pid_t pid),
                                   void *context);

#endif
