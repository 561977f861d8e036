/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entry points of libhook as this program's own malloc, mmap, dlclose and so on.
 * Not under a sanitizer, which stands in the same place: then there is nothing to test.
 */
#include "tests/unit/hook_entries.h"

#if HOOK_ENTRIES
/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "libhook/entry.c"
#include "libhook/hook_dl.c"
#include "libhook/hook_malloc.c"
#include "libhook/hook_vm.c"
/* NOLINTEND(bugprone-suspicious-include) */
#endif
