/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small recordings for tests, in the scratch directory. What a recording holds is
 * one number: the count of its only row of raw_loss.
 * Links: tests/unit/recordings.c tests/unit/scratch.c
 */
#ifndef NEAP_TESTS_UNIT_RECORDINGS_H
#define NEAP_TESTS_UNIT_RECORDINGS_H

#include <stdint.h>

#include "schema/store/store.h"

void assert_ok(struct neap_error *error);

/* The error has this code and says these words; ends it. */
void assert_error(struct neap_error *error, enum neap_error_code code,
                  const char *words);

/* The first column of the first row. */
int64_t recording_number(sqlite3 *db, const char *sql);

void recording_put(sqlite3 *db, int count);

/* A finished recording that holds `count`; returns its path. */
const char *recording_make(const char *name, int count);

/* What a collector leaves that died: a log beside the file. */
void recording_crashed(const char *name, int count);

/* The recording opens and holds `count`. */
void recording_holds(const char *name, int count);

#endif
