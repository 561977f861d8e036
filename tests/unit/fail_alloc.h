/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out on demand, for the code linked into a test (not for shared
 * libraries). A test that uses it links
 *     -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 *     -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#ifndef NEAP_TESTS_UNIT_FAIL_ALLOC_H
#define NEAP_TESTS_UNIT_FAIL_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

/* The n-th allocation from now on fails, 1 = the next. 0: none does. */
void fail_alloc_at(uint64_t n);
/* The n-th and every later one fails. */
void fail_alloc_from(uint64_t n);
/* Has one failed since the last of the above? */
bool fail_alloc_happened(void);

#endif
