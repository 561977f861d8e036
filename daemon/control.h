/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What launcher and collector say to one another, over a pair of SOCK_SEQPACKET
 * sockets. Both are the same program; the end of either is an end of file.
 *
 *   collector  READY or ERROR, once
 *   launcher   STARTED (CMD's pid, before it execs); the collector answers READY, so
 *              that it knows CMD when CMD says HELLO
 *   launcher   ENDED (CMD's waitpid status), or ABORT
 *   collector  TALLY, once, when CMD's part is written
 */
#ifndef NEAP_DAEMON_CONTROL_H
#define NEAP_DAEMON_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ingest/ingest.h"

enum neap_control_kind {
    NEAP_CONTROL_READY = 1,
    NEAP_CONTROL_ERROR,   /* text: why nothing can be recorded */
    NEAP_CONTROL_STARTED, /* value: pid */
    NEAP_CONTROL_ENDED,   /* value: status of waitpid */
    NEAP_CONTROL_ABORT,   /* CMD could not be run: leave no file behind */
    NEAP_CONTROL_TALLY,   /* tally; text: what could not be written, or "" */
};

struct neap_control_message {
    enum neap_control_kind kind;
    int32_t value;
    struct neap_tally tally;
    char text[2048];
};

enum neap_control_result {
    NEAP_CONTROL_GOT,
    NEAP_CONTROL_NOTHING, /* now; only with `wait` false */
    NEAP_CONTROL_CLOSED,  /* the other side is gone */
};

/* False: nobody there. Never raises SIGPIPE. */
bool neap_control_send(int fd, const struct neap_control_message *message);
enum neap_control_result neap_control_receive(int fd, bool wait,
                                              struct neap_control_message *ret);

#endif
