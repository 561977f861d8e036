/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording with numbers that tests of bindings/query know, in the scratch
 * directory: process 100 and process 101, which execs once.
 *
 *   stack 1  leaf < middle < main   100: live 300/3 peak 600/6   101: live 100/1 peak
 * 400/4 stack 2  other < main           100: live   7/1 peak 100/2   101: peak 50/1
 *   stack 3  ?                      100: live   0/2, truncated
 *   stack 9  has no row             100: live   0/1
 * allocated is ten times the peak; temporary is 40/4 for stack 1 of process 100.
 * Links: tests/unit/query_sample.c tests/unit/recordings.c tests/unit/scratch.c
 */
#ifndef NEAP_TESTS_UNIT_QUERY_SAMPLE_H
#define NEAP_TESTS_UNIT_QUERY_SAMPLE_H

#include "bindings/query/query.h"

/* Make it and open it. `change` is SQL to run on it before, or NULL. */
struct neap_recording *query_sample_open(const char *change);
/* Its path. */
const char *query_sample_path(void);

#endif
