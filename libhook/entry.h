/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What entry.c does not send straight on to the real allocator. The stack is as the
 * program left it, so NEAP_CALLER speaks of the program's call; the gap is untouched.
 */
#ifndef NEAP_LIBHOOK_ENTRY_H
#define NEAP_LIBHOOK_ENTRY_H

#include <stddef.h>

#include "schema/attr.h"

#if defined(__x86_64__)
#define NEAP_ENTRY
#else
/* No entry.c: these are the entry points themselves. */
#define NEAP_ENTRY   NEAP_EXPORT
#define neap_malloc  malloc
#define neap_calloc  calloc
#define neap_realloc realloc
#define neap_free    free
#endif

NEAP_ENTRY void *neap_malloc(size_t size);
NEAP_ENTRY void *neap_calloc(size_t count, size_t size);
NEAP_ENTRY void *neap_realloc(void *old, size_t size);
NEAP_ENTRY void neap_free(void *block);

#endif
