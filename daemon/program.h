/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command before it is run: which file it is, and whether it can be recorded.
 */
#ifndef NEAP_DAEMON_PROGRAM_H
#define NEAP_DAEMON_PROGRAM_H

#include "schema/base/error.h"

/* Exit statuses of `run` that are not the command's own. */
#define NEAP_STATUS_USAGE     2
#define NEAP_STATUS_FAILED    125
#define NEAP_STATUS_CANNOT    126
#define NEAP_STATUS_NOT_FOUND 127

/*
 * The file that execvp would run for `name`. On error `*ret_status` says with what to
 * end: NOT_FOUND or CANNOT.
 */
struct neap_error *neap_program_find(const char *name, char **ret,
                                     int *ret_status) NEAP_MUST_CHECK;

/*
 * Look at the file, and at the interpreter if it is a script. An error is a program
 * that must not be started, because libneap.so cannot be loaded into it (`*ret_status`
 * is FAILED), or that cannot be, because its interpreter is missing (NOT_FOUND) or
 * cannot be run (CANNOT). `*ret_note` (the caller's) is a line for people about what
 * will not be seen, or NULL.
 */
struct neap_error *neap_program_inspect(const char *path, char **ret_note,
                                        int *ret_status) NEAP_MUST_CHECK;

#endif
