/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of a test's own, and the few things tests do to files in it. Include
 * after cmocka.h. Links: tests/unit/scratch.c
 */
#ifndef NEAP_TESTS_UNIT_SCRATCH_H
#define NEAP_TESTS_UNIT_SCRATCH_H

#include <stddef.h>

/* Fixtures for cmocka_unit_test_setup_teardown: make an empty directory, remove it. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* The directory, and the path of `name` in it; valid for the next seven calls. */
const char *scratch_dir(void);
const char *scratch_path(const char *name);

void scratch_write(const char *name, const void *bytes, size_t length);
/* The caller frees it. */
unsigned char *scratch_read(const char *name, size_t *ret_length);
/* Change bytes of a file in place. */
void scratch_patch(const char *name, long offset, const void *bytes, size_t length);
/* How many entries the directory has. */
int scratch_count(void);

#endif
