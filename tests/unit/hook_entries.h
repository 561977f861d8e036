/* SPDX-License-Identifier: Apache-2.0 */
/* Are libhook's entry points this program's? See hook_entries.c. */
#ifndef NEAP_TESTS_UNIT_HOOK_ENTRIES_H
#define NEAP_TESTS_UNIT_HOOK_ENTRIES_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOOK_ENTRIES 0
#else
#define HOOK_ENTRIES 1
#endif

#endif
