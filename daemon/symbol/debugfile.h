/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the debugging information of a stripped file is.
 *
 * Looked for in this order: by build-id under the debug directories; by the name in
 * .gnu_debuglink next to the file, in .debug/ there, and under the debug directories,
 * accepted only if the build-id, or without one the checksum, is right; and, only if
 * asked for, by build-id from the servers of DEBUGINFOD_URLS. Nothing else here ever
 * touches the network: libdwfl, which would, is not used.
 *
 * Only ordinary files are opened, and never so that opening could wait.
 */
#ifndef NEAP_DAEMON_SYMBOL_DEBUGFILE_H
#define NEAP_DAEMON_SYMBOL_DEBUGFILE_H

#include <gelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct neap_debug_places {
    const char *dirs; /* separated by colons; NULL = /usr/lib/debug */
    bool debuginfod;
};

/* Open an ordinary file for reading; -1 for anything else. `ret` may be NULL. */
int neap_debug_open(const char *path, struct stat *ret);

/* The build-id of a file; 0 if it has none. */
size_t neap_debug_build_id(Elf *elf, const void **ret);

/* A descriptor of the debug file of `elf`, which came from `path`; -1: none found. */
int neap_debug_find(const struct neap_debug_places *places, Elf *elf, const char *path);

/* The same by a build-id alone, which is checked; -1: none found. */
int neap_debug_by_id(const struct neap_debug_places *places, const void *id,
                     size_t length);

#endif
