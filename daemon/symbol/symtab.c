/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names from ELF symbol tables, see symtab.h.
 *
 * Several symbols may stand for one piece of code (malloc and __libc_malloc). The
 * choice is always the same, whatever the order in the file: functions before
 * labels, few leading underscores, global before weak before local, short, and at
 * last the alphabet.
 */
#include <string.h>

#include "daemon/symbol/symtab.h"

static bool is_code(const GElf_Sym *symbol)
{
    unsigned type = GELF_ST_TYPE(symbol->st_info);

    return (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE) &&
           symbol->st_shndx != SHN_UNDEF && symbol->st_name != 0 &&
           (symbol->st_shndx < SHN_LORESERVE || symbol->st_shndx == SHN_XINDEX);
}

static Elf_Scn *find_section(Elf *elf, unsigned type, GElf_Shdr *ret)
{
    Elf_Scn *section = NULL;

    while ((section = elf_nextscn(elf, section)) != NULL) {
        if (gelf_getshdr(section, ret) && ret->sh_type == type)
            return section;
    }
    return NULL;
}

bool neap_symtab_add(struct neap_symtab *symtab, Elf *elf, unsigned type,
                     uint64_t shift)
{
    uint64_t source = symtab->count;
    size_t before = symtab->symbols.vec.count;
    GElf_Shdr header;
    Elf_Scn *section = find_section(elf, type, &header);
    Elf_Data *data = section ? elf_getdata(section, NULL) : NULL;
    size_t count;

    if (!data || !data->d_buf || header.sh_entsize == 0 ||
        symtab->count == NEAP_SYMTAB_SOURCES)
        return false;
    count = data->d_size / header.sh_entsize;
    if (count > INT32_MAX)
        return false;
    for (size_t i = 1; i < count; i++) {
        GElf_Sym symbol;
        uint64_t low;

        if (!gelf_getsym(data, (int)i, &symbol) || !is_code(&symbol))
            continue;
        low = symbol.st_value + shift;
        if (low + symbol.st_size < low || !neap_spans_find(symtab->text, low))
            continue;
        if (!neap_spans_add(&symtab->symbols, low, low + symbol.st_size,
                            source << 32 | i))
            break;
    }
    if (symtab->symbols.vec.count == before)
        return false;
    symtab->sources[source].elf = elf;
    symtab->sources[source].data = data;
    symtab->sources[source].strings = header.sh_link;
    symtab->count++;
    return true;
}

void neap_symtab_ready(struct neap_symtab *symtab)
{
    neap_spans_sort(&symtab->symbols);
}

void neap_symtab_deinit(struct neap_symtab *symtab)
{
    neap_spans_deinit(&symtab->symbols);
}

struct candidate {
    const char *name;
    bool label;
    size_t underscores;
    unsigned binding; /* 0 global, 1 weak, 2 local */
};

static bool read_symbol(const struct neap_symtab *symtab, uint64_t value,
                        struct candidate *ret)
{
    uint32_t source = (uint32_t)(value >> 32);
    GElf_Sym symbol;
    const char *name;

    if (!gelf_getsym(symtab->sources[source].data, (int)(uint32_t)value, &symbol))
        return false;
    name = elf_strptr(symtab->sources[source].elf, symtab->sources[source].strings,
                      symbol.st_name);
    /* $x, $d: marks of what is code and what is data, on some machines */
    if (!name || !*name || *name == '$')
        return false;
    *ret = (struct candidate){
        .name = name,
        .label = GELF_ST_TYPE(symbol.st_info) == STT_NOTYPE,
        .underscores = strspn(name, "_"),
        .binding = GELF_ST_BIND(symbol.st_info) == STB_WEAK    ? 1
                   : GELF_ST_BIND(symbol.st_info) == STB_LOCAL ? 2
                                                               : 0,
    };
    return true;
}

static bool is_better(const struct candidate *a, const struct candidate *b)
{
    size_t a_length;
    size_t b_length;

    if (!b->name)
        return true;
    if (a->label != b->label)
        return b->label;
    if (a->underscores != b->underscores)
        return a->underscores < b->underscores;
    if (a->binding != b->binding)
        return a->binding < b->binding;
    a_length = strlen(a->name);
    b_length = strlen(b->name);
    return a_length != b_length ? a_length < b_length : strcmp(a->name, b->name) < 0;
}

/* Of the symbols that start together, and hold `address`, the best name. */
static const char *sized(const struct neap_symtab *symtab, uint64_t address)
{
    size_t cursor = neap_spans_below(&symtab->symbols, address);
    struct candidate best = {0};
    const struct neap_span *span;
    uint64_t low = 0;

    while ((span = neap_spans_next(&symtab->symbols, address, &cursor)) != NULL) {
        struct candidate candidate;

        if (best.name && span->low != low)
            break;
        if (read_symbol(symtab, span->value, &candidate) &&
            is_better(&candidate, &best)) {
            best = candidate;
            low = span->low;
        }
    }
    return best.name;
}

/* The nearest symbol before `address`, if nobody knows where it ends. */
static const char *sizeless(const struct neap_symtab *symtab, uint64_t address)
{
    size_t below = neap_spans_below(&symtab->symbols, address);
    const struct neap_span *spans = symtab->symbols.vec.data;
    const struct neap_span *section = neap_spans_find(symtab->text, address);
    struct candidate best = {0};
    uint64_t low;

    if (below == 0 || !section || spans[below - 1].low < section->low)
        return NULL;
    low = spans[below - 1].low;
    for (size_t i = below; i-- > 0 && spans[i].low == low;) {
        struct candidate candidate;

        if (spans[i].high != low)
            return NULL;
        if (read_symbol(symtab, spans[i].value, &candidate) &&
            is_better(&candidate, &best))
            best = candidate;
    }
    return best.name;
}

const char *neap_symtab_find(const struct neap_symtab *symtab, uint64_t address)
{
    const char *name = sized(symtab, address);

    return name ? name : sizeless(symtab, address);
}
