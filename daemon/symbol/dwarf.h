/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions, files, lines and inlined frames from DWARF, through libdw.
 *
 * libdw keeps what it has decoded of a unit until the whole file is closed. What is
 * kept is estimated, so that the owner can close files that have grown and open them
 * anew.
 *
 * Addresses are those of the DWARF. Texts belong to it and end with it.
 */
#ifndef NEAP_DAEMON_SYMBOL_DWARF_H
#define NEAP_DAEMON_SYMBOL_DWARF_H

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/symbol/span.h"

struct neap_dwarf;

struct neap_dwarf_place {
    const char *linkage; /* mangled; NULL where there is none */
    const char *name;    /* as declared, without its scope; NULL where unknown */
    const char *dir;     /* what a relative `file` is relative to, or NULL */
    const char *file;    /* NULL where unknown */
    uint32_t line;       /* 0 where unknown */
};

/*
 * Takes `dwarf` over, also when it fails: NULL, no memory. `text` holds the sections
 * with code, in the addresses of `dwarf`, and must outlive it.
 */
struct neap_dwarf *neap_dwarf_create(Dwarf *dwarf, const struct neap_spans *text);
/* Takes NULL. */
void neap_dwarf_destroy(struct neap_dwarf *dwarf);

/*
 * The frames at `address`, innermost first, at most `room`. All but the last are
 * inlined into the next. 0: no DWARF covers it.
 */
uint32_t neap_dwarf_find(struct neap_dwarf *dwarf, uint64_t address,
                         struct neap_dwarf_place *ret, uint32_t room);

/* About how many bytes it keeps on the heap. */
size_t neap_dwarf_weight(const struct neap_dwarf *dwarf);

/*
 * Whether closing would free much: more than one unit has been read since it was
 * opened, and they weigh more than 8 MiB. A single large unit is no reason: it would
 * be read again for the next address.
 */
bool neap_dwarf_is_grown(const struct neap_dwarf *dwarf);

#endif
