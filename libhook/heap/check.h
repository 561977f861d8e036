/* SPDX-License-Identifier: Apache-2.0 */
/* Mistakes of the program: found and told. docs/design/heap.md has the levels. */
#ifndef NEAP_LIBHOOK_HEAP_CHECK_H
#define NEAP_LIBHOOK_HEAP_CHECK_H

#include "libhook/heap/heap.h"
#include "libhook/heap/types.h"

extern unsigned neap_check_level;

/* A free that cannot be: tell what is wrong with it. */
void neap_check_wrong_free(void *block);

/* Is the free of so many bytes right? If not it is told, and is not to be done. */
bool neap_check_size(void *block, size_t size);
/* The block's span has marks: the observer hears of the free. */
void neap_check_marked(void *block);

void neap_check_begin(const struct neap_heap_options *options);

/* From level 1 on, instead of the plain ways. */
void *neap_check_alloc(size_t size, size_t align, bool *fresh);
/* True: the free is done, or refused; the span may be NULL. */
bool neap_check_frees(struct neap_span *span, void *block);
size_t neap_check_usable(struct neap_span *span, const void *block);

#endif
