/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of the calling thread, from a hooked function's caller outwards.
 *
 * Two engines behind one face. The usual one is our own walker: a table from program
 * counter to one 8-byte rule, filled from .eh_frame on a miss; it takes no lock, so
 * it may run in a dl_iterate_phdr callback, a signal handler or a forked child, and
 * forgets what dlclose unmapped. libunwind serves where glibc has no lock-free
 * module look-up (before 2.35), and as a second opinion (NEAP_VERIFY).
 * docs/design/unwinding.md says why libunwind is not the hot path.
 */
#ifndef NEAP_LIBHOOK_UNWIND_H
#define NEAP_LIBHOOK_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"

enum neap_unwinder {
    NEAP_UNWINDER_NONE = 0, /* stacks are one frame deep */
    NEAP_UNWINDER_CFI,
    NEAP_UNWINDER_LIBUNWIND,
};

struct neap_walk {
    uint64_t hash; /* never 0 */
    uint16_t depth;
    uint16_t flags;  /* NEAP_STACK_* */
    bool fallback;   /* it needed more than plain rules */
    bool remembered; /* the frames are in the thread's memo, not in pcs */
};

/* The environment's wishes, NULL where there are none. Before neap_unwind_init. */
void neap_unwind_configure(const char *engine, const char *verify);
/* Make the tables. Caller holds NEAP_INTERNAL; once per image. */
bool neap_unwind_init(void);
/* Load libunwind if this image needs it. Only from the constructor: it is a dlopen. */
void neap_unwind_load(void);
enum neap_unwinder neap_unwind_engine(void);

/* What a thread keeps of its last walk; NULL if there is no memory. Never freed: it
 * goes with the lane from thread to thread. */
struct neap_memo *neap_unwind_memo(void);

/* `epoch` is the process's. Frames from `context` outwards into
 * pcs[NEAP_STACK_DEPTH_MAX], innermost first; or, if ret->remembered, into tls->memo,
 * whence neap_unwind_frames gets them. */
void neap_unwind(struct neap_tls *tls, const struct neap_context *context,
                 uint64_t epoch, uint64_t *pcs, struct neap_walk *ret);
/* Remembered frames into pcs; nothing to do for others. Before the next walk. */
void neap_unwind_frames(const struct neap_tls *tls, const struct neap_walk *walked,
                        uint64_t *pcs);

/* From one of libneap.so's own functions out to the program's call of it. False: the
 * way could not be found; `*context` is as it was. */
bool neap_unwind_out(struct neap_tls *tls, struct neap_context *context);

/* A module has gone: forget all rules. */
void neap_unwind_forget(void);

#endif
