/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table behind the view `event`: raw_events of the connection's main database, one
 * row an event. Made by this library for its own connections, and by libneapsql.so for
 * everybody else's.
 */
#ifndef NEAP_BINDINGS_QUERY_EVENT_TABLE_H
#define NEAP_BINDINGS_QUERY_EVENT_TABLE_H

#include <sqlite3.h>

/* Make the table `neap_events` known to a connection. Returns SQLite's status. */
int neap_event_table_register(sqlite3 *db);

#endif
