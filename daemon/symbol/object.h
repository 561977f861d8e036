/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program or library, opened to be asked for names: its symbol tables, its
 * DWARF, and the debug files that belong to it.
 *
 * Used by the worker alone, under neap_fault_guard: files may shrink while they are
 * mapped. An object in which that happened is not to be touched again, not even to
 * be destroyed.
 */
#ifndef NEAP_DAEMON_SYMBOL_OBJECT_H
#define NEAP_DAEMON_SYMBOL_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/symbol/answers.h"
#include "daemon/symbol/debugfile.h"

struct neap_object;

#define NEAP_UNPACKED_NOT_YET (-2)

/*
 * Open what is behind `fd`, which is taken over in any case; -1 is no ELF file.
 * `path` is only the place to look for debug files from. NULL: it is no ELF file,
 * has another build-id (none, if `build_id_len` is 0), or no memory is left.
 *
 * `*unpacked` is the caller's memory of the module between two openings: it begins as
 * NEAP_UNPACKED_NOT_YET, and if it is a descriptor in the end the caller closes it.
 */

struct neap_object *neap_object_create(const struct neap_debug_places *places, int fd,
                                       const char *path, const uint8_t *build_id,
                                       size_t build_id_len, int *unpacked);
/* Takes NULL. */
void neap_object_destroy(struct neap_object *object);

/* Write the frames at `address` to the answer that was begun. */
void neap_object_name(struct neap_object *object, uint64_t address,
                      struct neap_answers *answers);

/* About how many bytes of heap it keeps. Grows as it is asked. */
size_t neap_object_weight(const struct neap_object *object);

/* Whether it has grown so much that it is better closed and opened again. */
bool neap_object_is_grown(const struct neap_object *object);

#endif
