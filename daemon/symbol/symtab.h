/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names from ELF symbol tables.
 *
 * A symbol names the addresses in [value, value + size) and no others: an address
 * between the symbols of a stripped file belongs to a function whose name is gone.
 * A symbol without a size (labels of hand-written assembly) names what follows it up
 * to the next symbol, within its own section.
 *
 * The tables stay where libelf has them; kept here are 32 bytes a function.
 */
#ifndef NEAP_DAEMON_SYMBOL_SYMTAB_H
#define NEAP_DAEMON_SYMBOL_SYMTAB_H

#include <gelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/symbol/span.h"

#define NEAP_SYMTAB_SOURCES 3u /* .symtab, .dynsym, that of .gnu_debugdata */

struct neap_symtab {
    const struct neap_spans *text; /* sections with code, the owner's */
    struct neap_spans symbols;     /* value: source << 32 | index */
    struct {
        Elf *elf;
        Elf_Data *data;
        size_t strings; /* section with the names */
    } sources[NEAP_SYMTAB_SOURCES];
    uint32_t count;
};

/*
 * Add the table of section type `type` (SHT_SYMTAB, SHT_DYNSYM) of `elf`, if it has
 * one with code in it; `shift` is added to its addresses. True if it has.
 */
bool neap_symtab_add(struct neap_symtab *symtab, Elf *elf, unsigned type,
                     uint64_t shift);
/* After the last table. */
void neap_symtab_ready(struct neap_symtab *symtab);
void neap_symtab_deinit(struct neap_symtab *symtab);

/* The name of the symbol that holds `address`, or NULL. Valid as long as its ELF. */
const char *neap_symtab_find(const struct neap_symtab *symtab, uint64_t address);

#endif
