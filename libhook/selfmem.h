/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own memory in the target: straight from the kernel, never through an
 * allocator that we watch, never given back while the process lives.
 */
#ifndef NEAP_LIBHOOK_SELFMEM_H
#define NEAP_LIBHOOK_SELFMEM_H

#include <stddef.h>

/*
 * Zeroed pages, or NULL. A forked child finds them zeroed again (MADV_WIPEONFORK):
 * that is how it learns that it is one, and why it carries nothing of its parent's.
 */
void *neap_selfmem_wiped(size_t bytes);

/* Zeroed pages that a forked child inherits like any others, or NULL. */
void *neap_selfmem_map(size_t bytes);

/* Back to zeros, whoever reads them meanwhile. */
void neap_selfmem_clear(void *memory, size_t bytes);

#endif
