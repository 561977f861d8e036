/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules, and which of their files are open to be read: the worker's side.
 *
 * A module is made by the caller's thread and then never changes, but for the
 * fields marked as the worker's.
 *
 * Open objects weigh NEAP_CACHE_WEIGHT_MAX in all, and one that has grown much is
 * closed to be opened again: libdw frees nothing before.
 */
#ifndef NEAP_DAEMON_SYMBOL_CACHE_H
#define NEAP_DAEMON_SYMBOL_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "daemon/symbol/answers.h"
#include "daemon/symbol/debugfile.h"
#include "daemon/symbol/object.h"

#define NEAP_CACHE_OBJECTS_MAX 32u
#define NEAP_CACHE_WEIGHT_MAX  (16u << 20)

struct neap_symbol_module {
    char *path;
    uint8_t *build_id;
    uint32_t build_id_len;
    uint32_t number;
    uint64_t hash;    /* of path and build_id */
    int fd;           /* -1: none, or too many were open */
    struct stat stat; /* st_ino 0: it was not there */
    /* the worker's */
    struct neap_object *object; /* NULL: not open */
    int unpacked;               /* of the object, see object.h */
    uint64_t used;
    bool dead; /* no names from here */
};

struct neap_symbol_cache {
    struct neap_debug_places places;
    struct neap_symbol_module *open[NEAP_CACHE_OBJECTS_MAX];
    uint32_t count;
    uint64_t clock;
};

/* Write the frames at `offset` of `module` as one whole answer. */
void neap_symbol_cache_answer(struct neap_symbol_cache *cache,
                              struct neap_symbol_module *module, uint64_t offset,
                              uint64_t token, struct neap_answers *answers);
/* Close all objects. */
void neap_symbol_cache_deinit(struct neap_symbol_cache *cache);

#endif
