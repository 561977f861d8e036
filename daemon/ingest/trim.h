/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames of a stack say something about the program.
 *
 * Innermost, `operator new` says nothing that the allocation itself does not. Outside
 * of `main`, or of a thread's start function, there is only the C library's start-up
 * code, the same for all programs. Both are left out, never so that nothing is left.
 *
 * Start-up code is told by name, or by position: the functions of glibc that call
 * main and thread functions (__libc_start_call_main, start_thread, clone3) are local
 * symbols, which a stripped libc.so.6 does not name. A walk that reached the root
 * ends in them, so unnamed frames of the C library at the outer end of a whole stack
 * are start-up. A truncated stack has no such end and loses no outer frames.
 */
#ifndef NEAP_DAEMON_INGEST_TRIM_H
#define NEAP_DAEMON_INGEST_TRIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum neap_frame_role {
    NEAP_ROLE_UNNAMED,
    NEAP_ROLE_OTHER,
    NEAP_ROLE_NEW,   /* C++'s operator new in any form */
    NEAP_ROLE_MAIN,  /* main itself */
    NEAP_ROLE_START, /* start-up code of a process or thread */
};

struct neap_trim_frame {
    uint8_t role; /* enum neap_frame_role */
    bool libc;    /* in the C library or its loader */
};

enum neap_frame_role neap_frame_role(const char *function);

/* Is the file at `path` the C library or its loader? */
bool neap_module_is_libc(const char *path);

/*
 * Of `count` frames (innermost first) [*ret_first, *ret_end) are worth showing. At
 * least one if there is one.
 */
void neap_trim(const struct neap_trim_frame *frames, size_t count, bool truncated,
               size_t *ret_first, size_t *ret_end);

#endif
