/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included before everything else of libneapsql.so: calls of SQLite go through the
 * table that the program which loads it hands over, not to a library of our own
 * choosing.
 */
#ifndef NEAP_BINDINGS_LOADABLE_API_H
#define NEAP_BINDINGS_LOADABLE_API_H

#include <sqlite3ext.h>

SQLITE_EXTENSION_INIT3

#endif
