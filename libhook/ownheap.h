/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own allocator behind the entry points (`neap run --allocator neap`), and what it
 * tells: its changes of the address space, frees of sampled blocks, mistakes.
 *
 * It serves from the first call on that the bootstrap heap does not, for the image's
 * life, recorded or not: no block crosses from one allocator to another. A program with
 * a malloc of its own keeps it.
 */
#ifndef NEAP_LIBHOOK_OWNHEAP_H
#define NEAP_LIBHOOK_OWNHEAP_H

/* If the environment asks for it: neap_real.heap, and its functions in neap_real.
 * Caller holds NEAP_INTERNAL; before neap_real.ready. */
void neap_ownheap_begin(char *const *env);

struct neap_tls;

/* Send what could not be sent when it happened, as before there was a connection; or
 * forget it, if nothing is to be recorded. */
void neap_ownheap_flush(struct neap_tls *tls);

/* This process is a forked child: what its parent was about to tell is none of its. */
void neap_ownheap_forked(void);

#endif
