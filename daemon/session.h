/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One recording while it goes on: the processes in it, from HELLO to their end.
 *
 * A process here is one program image. A pid that says HELLO again has exec'ed: the
 * old image ends and a new one starts. Ends are learnt from pidfds, so a process
 * cannot leave unnoticed, and its number cannot be mistaken for another's.
 *
 * All calls come from the thread that owns the loop.
 */
#ifndef NEAP_DAEMON_SESSION_H
#define NEAP_DAEMON_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "daemon/ingest/ingest.h"
#include "daemon/loop.h"
#include "daemon/source/ctl.h"
#include "schema/wire/hello.h"

struct neap_session;

struct neap_session_config {
    struct neap_ingest *ingest; /* these three outlive the session */
    struct neap_loop *loop;
    struct neap_ctl *ctl;
    struct neap_settings settings;
    bool follow; /* false: nobody but CMD's own pid is welcome */
};

struct neap_error *neap_session_create(const struct neap_session_config *config,
                                       struct neap_session **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_session_destroy(struct neap_session *session);

/* The pid of CMD, once it is known, and how it ended, as of waitpid. */
struct neap_error *neap_session_command(struct neap_session *session,
                                        pid_t pid) NEAP_MUST_CHECK;
void neap_session_command_status(struct neap_session *session, int status);
/* Nobody will tell that status any more. */
void neap_session_command_orphaned(struct neap_session *session);
/* CMD has ended, recorded or not. */
bool neap_session_command_ended(const struct neap_session *session);

/*
 * A process says HELLO. `pidfd` is taken over in any case. Fills in what to answer;
 * `ret_fds` (ctl, data; -1 without welcome) stay the session's.
 */
void neap_session_hello(struct neap_session *session, pid_t pid, int pidfd,
                        const struct neap_hello *hello, struct neap_welcome *ret,
                        int ret_fds[2]);
/* Switch the recording on or off, for all its processes and those to come; and tell. */
void neap_session_switch(struct neap_session *session, const struct neap_switch *wish,
                         struct neap_switched *ret);
/* A process that wanted to be recorded is not. */
void neap_session_lost_process(struct neap_session *session);

/* Read all processes once, and settle those that have ended. */
enum neap_activity neap_session_drain(struct neap_session *session, uint64_t now_ns);
/* Whether anything came in since. */
bool neap_session_waiting(const struct neap_session *session);
/* Hand the losses and counters of the processes on. */
void neap_session_counters(struct neap_session *session);
/* End every process as it stands: the recording stops before they do. */
void neap_session_stop(struct neap_session *session);

/* Processes not ended yet. */
size_t neap_session_alive(const struct neap_session *session);
bool neap_session_knows(const struct neap_session *session, pid_t pid);
/* True if processes came or went since the last call. */
bool neap_session_changed(struct neap_session *session);

#endif
