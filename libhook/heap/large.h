/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of a span of their own: above 32 KiB, or aligned to more than a page. From 1
 * MiB on they have a mapping, which a realloc can grow without copying.
 */
#ifndef NEAP_LIBHOOK_HEAP_LARGE_H
#define NEAP_LIBHOOK_HEAP_LARGE_H

#include "libhook/heap/types.h"

/* NULL: no memory, errno untouched. `size` up to NEAP_SIZE_MAX, `align` a power of two.
 * `*fresh`: whether it should read as zero; then, whether it does. */
void *neap_large_alloc(size_t size, size_t align, bool *fresh);

/* False: it is no large block's start, or not in use. */
bool neap_large_free(void *block);

/* The same block with another size, moved if need be but never copied. NULL: that
 * cannot be, and the block is as it was. */
void *neap_large_resize(void *block, size_t size);

#endif
