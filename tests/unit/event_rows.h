/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of raw_events, decoded and held against a model, or against themselves.
 * Links: tests/unit/event_rows.c tests/unit/event_model.c tests/unit/feed.c
 */
#ifndef NEAP_TESTS_UNIT_EVENT_ROWS_H
#define NEAP_TESTS_UNIT_EVENT_ROWS_H

#include <sqlite3.h>
#include <stdint.h>

#include "tests/unit/event_model.h"

/*
 * Insist that the events from event_first to event_count are there, without a gap, that
 * times do not fall, that live bytes add up from row to row and to the process's, and,
 * if all are there, to each of its sites. With a model: that they are its events, by
 * the stacks that their sites stand for. The number of the first one.
 */
uint64_t event_rows_check(sqlite3 *db, int64_t process,
                          const struct event_model *model);

/* The totals of a process and its sites are the model's. */
void event_rows_check_totals(sqlite3 *db, int64_t process,
                             const struct event_model *model);

#endif
