/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libunwind: the second opinion on our own walks (NEAP_VERIFY), and the engine where
 * ours cannot work. Its traps are told in docs/design/unwinding.md.
 */
#ifndef NEAP_LIBHOOK_ORACLE_H
#define NEAP_LIBHOOK_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"
#include "libhook/unwind.h"

/* NEAP_VERIFY's value, or NULL. */
void neap_oracle_configure(const char *every);
/* Load libunwind if it is `wanted` or verification is on. Only from the constructor:
 * it is a dlopen. False: not loaded. */
bool neap_oracle_load(bool wanted);
bool neap_oracle_ready(void);
extern bool neap_oracle_verifies; /* it is there, and some stacks are to be compared */

/* libunwind's frames from `context` outwards into pcs[NEAP_STACK_DEPTH_MAX]; how many.
 */
unsigned neap_oracle_frames(const struct neap_context *context, uint64_t *pcs);

/* The first frame from here outwards that is not in [start, end), its pc alone. */
bool neap_oracle_out(struct neap_context *context, uint64_t start, uint64_t end);

/* Compare this walk with libunwind's, if its turn has come. 0 = not compared, 1 =
 * equal, -1 = different. */
int neap_oracle_verify(const struct neap_context *context, const uint64_t *pcs,
                       const struct neap_walk *walk);

#endif
