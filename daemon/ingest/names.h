/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules, locations and frames of a recording, and what the symbolizer says of them.
 *
 * A location is (module, offset). offset is the return address - 1 - the module's
 * bias: an address inside the call instruction, in the module's own addresses, so
 * that `addr2line -e MODULE OFFSET` gives the line of the call. Every pc is taken for
 * a return address; the one frame where that is wrong, the one a signal interrupted,
 * cannot be told and is off by one byte. Where no module is mapped (generated code)
 * offset is the pc itself.
 *
 * A location has one physical frame from the start and, once answered, maybe inlined
 * ones. Each location is asked once in a recording. Names are kept until they are
 * stored, and then only the role each frame plays in trimming.
 *
 * Numbers are indices from 0; ids in the recording are these plus 1.
 */
#ifndef NEAP_DAEMON_INGEST_NAMES_H
#define NEAP_DAEMON_INGEST_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/symbol/symbol.h"
#include "schema/base/error.h"
#include "schema/base/map.h"
#include "schema/base/vec.h"

#define NEAP_MODULE_NONE   UINT32_MAX /* no file is mapped there */
#define NEAP_LOCATION_NONE UINT32_MAX

struct neap_module {
    char *path;
    char *build_id;      /* lower-case hex, "" for none */
    uint32_t symbolizer; /* its number there */
    bool askable;        /* the symbolizer knows it */
    bool libc;
};

struct neap_location {
    uint64_t offset;
    uint32_t module;        /* or NEAP_MODULE_NONE */
    uint32_t frame;         /* the physical one */
    uint32_t inlined;       /* the innermost of the inlined ones */
    uint32_t inlined_count; /* they are numbered in a row */
    bool answered;
};

struct neap_frame {
    char *function; /* NULL where unknown, or stored already */
    char *file;
    uint32_t line;
    uint32_t location;
    uint8_t role; /* enum neap_frame_role */
    bool inlined;
};

struct neap_names {
    struct neap_symbolizer *symbolizer;
    NEAP_VEC(struct neap_module) modules;
    NEAP_VEC(struct neap_location) locations;
    NEAP_VEC(struct neap_frame) frames;
    NEAP_VEC(uint32_t) renamed; /* frames that were stored before they had a name */
    struct neap_map module_index;
    struct neap_map location_index;
    uint32_t modules_stored; /* those below are in the recording */
    uint32_t frames_stored;
};

struct neap_error *neap_names_init(struct neap_names *names) NEAP_MUST_CHECK;
void neap_names_deinit(struct neap_names *names);

/* The number of a module. NEAP_MODULE_NONE: no memory. */
uint32_t neap_names_module(struct neap_names *names, const char *path, size_t path_len,
                           const uint8_t *build_id, size_t build_id_len);

/* The number of a location, which is asked for if new. NEAP_LOCATION_NONE: no memory.
 */
uint32_t neap_names_location(struct neap_names *names, uint32_t module,
                             uint64_t offset);

/* Take the answers that are there; with `wait`, all of them. */
void neap_names_poll(struct neap_names *names, bool wait);

/* A commit has stored all modules, frames and names there are. */
void neap_names_stored(struct neap_names *names);

#endif
