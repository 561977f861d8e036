/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading DWARF, see dwarf.h.
 *
 * Three steps, each on a table that is made when it is first asked:
 *
 *   address → unit       .debug_aranges, and for units that are not in there (clang
 *                        writes none) the ranges of the unit itself
 *   address → function   all functions of the unit with code of their own
 *   function → inlined   down the tree: lexical blocks and inlined functions
 *
 * Code the linker threw away keeps its DWARF, at address 0 or near it. Ranges that do
 * not begin in a section with code are therefore left out.
 *
 * A debugging entry is only believed to follow another if it stands behind it in the
 * file, and trees are walked DEPTH_MAX deep at most, so no file can make this loop.
 */
#include <dwarf.h>
#include <stdlib.h>

#include "daemon/symbol/dwarf.h"
#include "schema/base/map.h"

#define DEPTH_MAX    64u
#define GROWTH_MAX   (8u << 20)
#define PATH_MAX_LEN 128u /* nested inlined functions */

/* What libdw keeps for each, about. */
#define UNIT_BYTES 2048u
#define LINE_BYTES 48u
#define FILE_BYTES 96u

struct unit {
    Dwarf_Die die;      /* holds the line table */
    Dwarf_Die contents; /* holds the functions: that of the .dwo, or the same */
    bool ready;
    struct neap_spans functions; /* value: offset of the entry */
};

struct neap_dwarf {
    Dwarf *dwarf;
    const struct neap_spans *text;
    struct neap_spans ranges; /* value: index of the unit */
    struct neap_map by_offset;
    NEAP_VEC(struct unit) units;
    bool complete; /* all units are in `ranges`, not only those of .debug_aranges */
    size_t weight;
    size_t grown; /* how much of it units have added as they were read */
    uint32_t units_read;
};

/* ---- entries ---- */

/* The entry after `die` on its level. */
static bool next_entry(Dwarf_Die *die)
{
    Dwarf_Off before = dwarf_dieoffset(die);
    Dwarf_Die next;

    if (dwarf_siblingof(die, &next) != 0 || dwarf_dieoffset(&next) <= before)
        return false;
    *die = next;
    return true;
}

static bool first_child(Dwarf_Die *die, Dwarf_Die *ret)
{
    return dwarf_child(die, ret) == 0 && dwarf_dieoffset(ret) > dwarf_dieoffset(die);
}

/* Add the ranges of `die` that begin in code. False: it has none. */
static bool add_ranges(const struct neap_dwarf *dwarf, Dwarf_Die *die,
                       struct neap_spans *spans, uint64_t value)
{
    Dwarf_Addr base = 0;
    Dwarf_Addr low = 0;
    Dwarf_Addr high = 0;
    ptrdiff_t at = 0;
    bool any = false;

    while ((at = dwarf_ranges(die, at, &base, &low, &high)) > 0) {
        if (low < high && neap_spans_find(dwarf->text, low))
            any |= neap_spans_add(spans, low, high, value);
    }
    return any;
}

/* ---- units ---- */

static uint64_t add_unit(struct neap_dwarf *dwarf, Dwarf_Off offset)
{
    struct unit unit = {.ready = false};
    uint64_t index = dwarf->units.count;

    if (!dwarf_offdie(dwarf->dwarf, offset, &unit.die) ||
        !neap_vec_push(&dwarf->units, unit))
        return NEAP_MAP_NONE;
    if (!neap_map_put(&dwarf->by_offset, offset, index)) {
        dwarf->units.count--;
        return NEAP_MAP_NONE;
    }
    dwarf->weight += sizeof(unit) + UNIT_BYTES;
    return index;
}

static void read_aranges(struct neap_dwarf *dwarf)
{
    Dwarf_Aranges *aranges = NULL;
    size_t count = 0;

    if (dwarf_getaranges(dwarf->dwarf, &aranges, &count) != 0)
        return;
    for (size_t i = 0; i < count; i++) {
        Dwarf_Arange *arange = dwarf_onearange(aranges, i);
        Dwarf_Addr low;
        Dwarf_Word length;
        Dwarf_Off offset;
        uint64_t index;

        if (!arange || dwarf_getarangeinfo(arange, &low, &length, &offset) != 0 ||
            length == 0 || low + length < low || !neap_spans_find(dwarf->text, low))
            continue;
        index = neap_map_get(&dwarf->by_offset, offset);
        if (index == NEAP_MAP_NONE)
            index = add_unit(dwarf, offset);
        if (index != NEAP_MAP_NONE)
            neap_spans_add(&dwarf->ranges, low, low + length, index);
    }
    dwarf->weight += count * 32;
}

/* Units that .debug_aranges does not mention. */
static void read_units(struct neap_dwarf *dwarf)
{
    Dwarf_Off offset = 0;
    Dwarf_Off next;
    size_t header;

    while (dwarf_nextcu(dwarf->dwarf, offset, &next, &header, NULL, NULL, NULL) == 0 &&
           next > offset) {
        Dwarf_Off entry = offset + header;
        Dwarf_Die die;

        offset = next;
        if (neap_map_get(&dwarf->by_offset, entry) != NEAP_MAP_NONE ||
            !dwarf_offdie(dwarf->dwarf, entry, &die) ||
            (dwarf_tag(&die) != DW_TAG_compile_unit &&
             dwarf_tag(&die) != DW_TAG_skeleton_unit))
            continue;
        if (add_ranges(dwarf, &die, &dwarf->ranges, dwarf->units.count) &&
            add_unit(dwarf, entry) == NEAP_MAP_NONE)
            break;
        dwarf->weight += UNIT_BYTES;
    }
}

struct neap_dwarf *neap_dwarf_create(Dwarf *handle, const struct neap_spans *text)
{
    struct neap_dwarf *dwarf = calloc(1, sizeof(*dwarf));

    if (!dwarf) {
        dwarf_end(handle);
        return NULL;
    }
    dwarf->dwarf = handle;
    dwarf->text = text;
    read_aranges(dwarf);
    neap_spans_sort(&dwarf->ranges);
    return dwarf;
}

void neap_dwarf_destroy(struct neap_dwarf *dwarf)
{
    if (!dwarf)
        return;
    for (size_t i = 0; i < dwarf->units.count; i++)
        neap_spans_deinit(&dwarf->units.data[i].functions);
    neap_vec_deinit(&dwarf->units);
    neap_map_deinit(&dwarf->by_offset);
    neap_spans_deinit(&dwarf->ranges);
    dwarf_end(dwarf->dwarf);
    free(dwarf);
}

size_t neap_dwarf_weight(const struct neap_dwarf *dwarf)
{
    return dwarf->weight + dwarf->ranges.vec.capacity * sizeof(struct neap_span);
}

bool neap_dwarf_is_grown(const struct neap_dwarf *dwarf)
{
    return dwarf->units_read > 1 && dwarf->grown > GROWTH_MAX;
}

/* ---- functions ---- */

static void add_functions(struct neap_dwarf *dwarf, struct unit *unit,
                          Dwarf_Die *parent, unsigned depth)
{
    Dwarf_Die die;

    if (depth == DEPTH_MAX || !first_child(parent, &die))
        return;
    do {
        switch (dwarf_tag(&die)) {
        case DW_TAG_subprogram:
            /* Only one with code can hold nested functions that have code. */
            if (add_ranges(dwarf, &die, &unit->functions, dwarf_dieoffset(&die)))
                add_functions(dwarf, unit, &die, depth + 1);
            break;
        case DW_TAG_namespace:
        case DW_TAG_module:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
        case DW_TAG_union_type:
        case DW_TAG_enumeration_type:
        case DW_TAG_lexical_block:
            add_functions(dwarf, unit, &die, depth + 1);
            break;
        default:
            break;
        }
    } while (next_entry(&die));
}

static void ready_unit(struct neap_dwarf *dwarf, struct unit *unit)
{
    Dwarf_Lines *lines;
    Dwarf_Files *files;
    Dwarf_Die contents;
    uint8_t type = 0;
    size_t grown = 0;
    size_t count;

    if (unit->ready)
        return;
    unit->ready = true;
    unit->contents = unit->die;
    if (dwarf_cu_info(unit->die.cu, NULL, &type, NULL, &contents, NULL, NULL, NULL) ==
            0 &&
        type == DW_UT_skeleton && contents.addr)
        unit->contents = contents;
    add_functions(dwarf, unit, &unit->contents, 0);
    neap_spans_sort(&unit->functions);
    grown = unit->functions.vec.capacity * sizeof(struct neap_span);
    if (dwarf_getsrclines(&unit->die, &lines, &count) == 0)
        grown += count * LINE_BYTES;
    if (dwarf_getsrcfiles(&unit->contents, &files, &count) == 0)
        grown += count * FILE_BYTES;
    dwarf->weight += grown;
    dwarf->grown += grown;
    dwarf->units_read++;
}

static struct unit *find_unit(struct neap_dwarf *dwarf, uint64_t address)
{
    const struct neap_span *span = neap_spans_find(&dwarf->ranges, address);

    if (!span && !dwarf->complete) {
        dwarf->complete = true;
        read_units(dwarf);
        neap_spans_sort(&dwarf->ranges);
        span = neap_spans_find(&dwarf->ranges, address);
    }
    if (!span || span->value >= dwarf->units.count)
        return NULL;
    ready_unit(dwarf, &dwarf->units.data[span->value]);
    return &dwarf->units.data[span->value];
}

/* ---- inlined functions ---- */

struct path {
    Dwarf_Die dies[PATH_MAX_LEN]; /* outermost first */
    uint32_t count;
};

/* Append the inlined functions below `parent` that hold `address`. */
static bool descend(Dwarf_Die *parent, uint64_t address, struct path *path,
                    unsigned depth)
{
    Dwarf_Die die;

    if (depth == 4 * DEPTH_MAX || !first_child(parent, &die))
        return false;
    do {
        int tag = dwarf_tag(&die);

        if (tag != DW_TAG_lexical_block && tag != DW_TAG_inlined_subroutine &&
            tag != DW_TAG_try_block && tag != DW_TAG_catch_block)
            continue;
        if (dwarf_haspc(&die, address) == 1) {
            if (tag == DW_TAG_inlined_subroutine && path->count < PATH_MAX_LEN)
                path->dies[path->count++] = die;
            descend(&die, address, path, depth + 1);
            return true;
        }
        /* A block may be there for its names alone, without addresses. */
        if (tag == DW_TAG_lexical_block && !dwarf_hasattr(&die, DW_AT_low_pc) &&
            !dwarf_hasattr(&die, DW_AT_ranges) &&
            descend(&die, address, path, depth + 1))
            return true;
    } while (next_entry(&die));
    return false;
}

static void find_path(const struct unit *unit, uint64_t address, struct path *path)
{
    const struct neap_span *span = neap_spans_find(&unit->functions, address);
    Dwarf *owner = dwarf_cu_getdwarf(unit->contents.cu);

    path->count = 0;
    if (!span || !dwarf_offdie(owner, span->value, &path->dies[0]))
        return;
    path->count = 1;
    descend(&path->dies[0], address, path, 0);
}

/* ---- answers ---- */

static const char *text_of(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;

    return dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
}

static uint64_t number_of(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value = 0;

    if (dwarf_formudata(dwarf_attr(die, name, &attribute), &value) != 0)
        return 0;
    return value;
}

static void name_place(Dwarf_Die *die, struct neap_dwarf_place *place)
{
    place->linkage = text_of(die, DW_AT_linkage_name);
    if (!place->linkage)
        place->linkage = text_of(die, DW_AT_MIPS_linkage_name);
    place->name = text_of(die, DW_AT_name);
}

/* Where `inlined` was called: what its caller's frame shows. */
static void call_place(const struct unit *unit, Dwarf_Die *inlined,
                       struct neap_dwarf_place *place)
{
    Dwarf_Die contents = unit->contents;
    uint64_t line = number_of(inlined, DW_AT_call_line);
    Dwarf_Files *files;
    size_t count;

    place->line = line <= UINT32_MAX ? (uint32_t)line : 0;
    if (dwarf_hasattr(inlined, DW_AT_call_file) &&
        dwarf_getsrcfiles(&contents, &files, &count) == 0)
        place->file =
            dwarf_filesrc(files, number_of(inlined, DW_AT_call_file), NULL, NULL);
}

static void line_place(const struct unit *unit, uint64_t address,
                       struct neap_dwarf_place *place)
{
    Dwarf_Die die = unit->die;
    Dwarf_Line *line = dwarf_getsrc_die(&die, address);
    int number = 0;
    bool end = false;

    if (!line || dwarf_lineendsequence(line, &end) != 0 || end)
        return;
    place->file = dwarf_linesrc(line, NULL, NULL);
    if (dwarf_lineno(line, &number) == 0 && number > 0)
        place->line = (uint32_t)number;
}

uint32_t neap_dwarf_find(struct neap_dwarf *dwarf, uint64_t address,
                         struct neap_dwarf_place *ret, uint32_t room)
{
    struct unit *unit = find_unit(dwarf, address);
    struct path path;
    const char *dir;
    uint32_t count;

    if (!unit || room == 0)
        return 0;
    find_path(unit, address, &path);
    count = path.count ? path.count : 1;
    if (count > room)
        count = room;
    dir = text_of(&unit->die, DW_AT_comp_dir);
    for (uint32_t i = 0; i < count; i++) {
        struct neap_dwarf_place *place = &ret[i];

        *place = (struct neap_dwarf_place){.dir = dir};
        if (path.count)
            name_place(&path.dies[path.count - 1 - i], place);
        if (i == 0)
            line_place(unit, address, place);
        else
            call_place(unit, &path.dies[path.count - i], place);
    }
    return count;
}
