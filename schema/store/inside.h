/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of schema/store share and nobody else needs.
 */
#ifndef NEAP_SCHEMA_STORE_INSIDE_H
#define NEAP_SCHEMA_STORE_INSIDE_H

#include <stdbool.h>
#include <stddef.h>

#include "schema/base/error.h"

#define NEAP_STORE_HEADER 100 /* bytes of SQLite's database header */

/* Do the first bytes of a file say that it is a recording? */
bool neap_store_is_recording(const unsigned char *header, size_t length);

/* `path` and `suffix` as SQLite may have it: "./" before a relative name. */
struct neap_error *neap_store_path(const char *path, const char *suffix,
                                   char **ret) NEAP_MUST_CHECK;

/* Unlink a database file with its -wal, -shm and -journal, or only those. */
void neap_store_remove(const char *path, bool sidecars_only);

#endif
