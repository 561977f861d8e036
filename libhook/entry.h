/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What entry.c does not send straight on to the real allocator. The stack is as the
 * program left it, so NEAP_CALLER speaks of the program's call; the gap is untouched.
 */
#ifndef NEAP_LIBHOOK_ENTRY_H
#define NEAP_LIBHOOK_ENTRY_H

#include <stddef.h>

void *neap_malloc(size_t size);
void *neap_calloc(size_t count, size_t size);
void *neap_realloc(void *old, size_t size);
void neap_free(void *block);

#endif
