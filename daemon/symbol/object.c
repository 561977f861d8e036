/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An opened program or library, see object.h.
 *
 * Memory. Files are mapped, so what is read of them costs no heap. Compressed
 * debugging sections do: libdw unpacks them whole when a file is opened. Beyond
 * INFLATE_MAX bytes they are unpacked into a temporary file first (inflate.h).
 *
 * Addresses. A debug file may have been made before prelink moved its program; the
 * difference of the first segments' addresses makes up for it.
 */
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/symbol/demangle.h"
#include "daemon/symbol/dwarf.h"
#include "daemon/symbol/inflate.h"
#include "daemon/symbol/object.h"
#include "daemon/symbol/symtab.h"
#include "daemon/symbol/xz.h"
#include "schema/base/cleanup.h"
#include "schema/wire/event.h"

#define INFLATE_MAX (8u << 20)

struct elf_file {
    int fd; /* -1: none */
    Elf *elf;
};

struct neap_object {
    struct elf_file main;
    struct elf_file debug;
    struct elf_file unpacked;  /* a copy of one of these, with nothing compressed */
    struct elf_file alternate; /* what dwz moved out of several debug files */
    Dwarf *alternate_dwarf;
    void *mini_bytes; /* .gnu_debugdata, unpacked */
    Elf *mini;
    struct neap_spans text;       /* code, in the addresses of main */
    struct neap_spans dwarf_text; /* and in those of the DWARF */
    uint64_t shift;               /* address in main minus address in the DWARF */
    struct neap_symtab symtab;
    struct neap_dwarf *dwarf;
    size_t fixed; /* bytes of heap that do not change */
};

/* ---- ELF ---- */

static uint64_t first_segment(Elf *elf)
{
    size_t count = 0;

    if (elf_getphdrnum(elf, &count) != 0)
        return 0;
    for (size_t i = 0; i < count && i < INT_MAX; i++) {
        GElf_Phdr header;

        if (gelf_getphdr(elf, (int)i, &header) && header.p_type == PT_LOAD)
            return header.p_vaddr;
    }
    return 0;
}

static void read_text(Elf *elf, struct neap_spans *text)
{
    Elf_Scn *section = NULL;
    GElf_Shdr header;

    while ((section = elf_nextscn(elf, section)) != NULL) {
        if (gelf_getshdr(section, &header) && (header.sh_flags & SHF_EXECINSTR) &&
            (header.sh_flags & SHF_ALLOC) &&
            header.sh_addr + header.sh_size > header.sh_addr)
            neap_spans_add(text, header.sh_addr, header.sh_addr + header.sh_size,
                           elf_ndxscn(section));
    }
    neap_spans_sort(text);
}

static const char *section_name(Elf *elf, const GElf_Shdr *header)
{
    size_t strings;

    if (elf_getshdrstrndx(elf, &strings) != 0)
        return NULL;
    return elf_strptr(elf, strings, header->sh_name);
}

static Elf_Scn *find_section(Elf *elf, const char *name, GElf_Shdr *ret)
{
    Elf_Scn *section = NULL;

    while ((section = elf_nextscn(elf, section)) != NULL) {
        const char *found = gelf_getshdr(section, ret) ? section_name(elf, ret) : NULL;

        if (found && strcmp(found, name) == 0)
            return section;
    }
    return NULL;
}

/*
 * Whether `elf` has DWARF, and how many bytes of heap its compressed sections become
 * when it is opened.
 */
static bool has_dwarf(Elf *elf, uint64_t *ret)
{
    Elf_Scn *section = NULL;
    GElf_Shdr header;
    bool any = false;

    *ret = 0;
    while ((section = elf_nextscn(elf, section)) != NULL) {
        const char *name =
            gelf_getshdr(section, &header) ? section_name(elf, &header) : NULL;
        uint64_t size = 0;
        GElf_Chdr packed;

        if (!name || header.sh_type == SHT_NOBITS)
            continue;
        if (strcmp(name, ".debug_info") == 0 || strcmp(name, ".zdebug_info") == 0)
            any = true;
        if (strncmp(name, ".zdebug", 7) == 0) {
            ssize_t bytes = dwelf_scn_gnu_compressed_size(section);

            size = bytes > 0 ? (uint64_t)bytes : 0;
        } else if (strncmp(name, ".debug", 6) == 0 &&
                   (header.sh_flags & SHF_COMPRESSED) &&
                   gelf_getchdr(section, &packed)) {
            size = packed.ch_size;
        }
        *ret = size > UINT64_MAX - *ret ? UINT64_MAX : *ret + size;
    }
    return any;
}

static void elf_file_close(struct elf_file *file)
{
    elf_end(file->elf);
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct elf_file){.fd = -1};
}

/* Takes `fd` over. */
static bool elf_file_open(struct elf_file *file, int fd)
{
    *file = (struct elf_file){.fd = fd};
    if (fd < 0)
        return false;
    file->elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    if (file->elf && elf_kind(file->elf) == ELF_K_ELF)
        return true;
    elf_file_close(file);
    return false;
}

/* ---- DWARF ---- */

static void add_alternate(struct neap_object *object,
                          const struct neap_debug_places *places, Dwarf *dwarf)
{
    const char *name;
    const void *id;
    ssize_t length = dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &id);
    uint64_t size;

    if (length <= 0 || !elf_file_open(&object->alternate,
                                      neap_debug_by_id(places, id, (size_t)length)))
        return; /* libdw follows the name, if it is there */
    if (!has_dwarf(object->alternate.elf, &size) || size > INFLATE_MAX)
        return;
    object->alternate_dwarf =
        dwarf_begin_elf(object->alternate.elf, DWARF_C_READ, NULL);
    if (!object->alternate_dwarf)
        return;
    object->fixed += size;
    dwarf_setalt(dwarf, object->alternate_dwarf);
}

/* The unpacked copy of `elf`; made once for a module, whose `*unpacked` keeps it. */
static Elf *open_unpacked(struct neap_object *object, Elf *elf, int *unpacked)
{
    if (*unpacked == NEAP_UNPACKED_NOT_YET)
        *unpacked = neap_inflate(elf);
    if (*unpacked < 0 ||
        !elf_file_open(&object->unpacked, fcntl(*unpacked, F_DUPFD_CLOEXEC, 0)))
        return NULL;
    return object->unpacked.elf;
}

static void open_dwarf(struct neap_object *object,
                       const struct neap_debug_places *places, Elf *elf, int *unpacked)
{
    uint64_t size;
    Dwarf *dwarf;

    if (!has_dwarf(elf, &size))
        return;
    if (size > INFLATE_MAX) {
        elf = open_unpacked(object, elf, unpacked);
        if (!elf || !has_dwarf(elf, &size) || size > INFLATE_MAX)
            return;
    }
    dwarf = dwarf_begin_elf(elf, DWARF_C_READ, NULL);
    if (!dwarf)
        return;
    object->fixed += size;
    object->shift = first_segment(object->main.elf) - first_segment(elf);
    add_alternate(object, places, dwarf);
    read_text(elf, &object->dwarf_text);
    object->dwarf = neap_dwarf_create(dwarf, &object->dwarf_text);
}

/* ---- symbols ---- */

static bool add_mini(struct neap_object *object)
{
    GElf_Shdr header;
    Elf_Scn *section = find_section(object->main.elf, ".gnu_debugdata", &header);
    Elf_Data *data = section ? elf_rawdata(section, NULL) : NULL;
    size_t length;

    if (!data || !data->d_buf ||
        !neap_xz_unpack(data->d_buf, data->d_size, &object->mini_bytes, &length))
        return false;
    object->fixed += length;
    object->mini = elf_memory(object->mini_bytes, length);
    return object->mini && elf_kind(object->mini) == ELF_K_ELF &&
           neap_symtab_add(&object->symtab, object->mini, SHT_SYMTAB, 0);
}

static void open_symbols(struct neap_object *object)
{
    object->symtab.text = &object->text;
    if (!neap_symtab_add(&object->symtab, object->main.elf, SHT_SYMTAB, 0) &&
        !(object->debug.elf &&
          neap_symtab_add(&object->symtab, object->debug.elf, SHT_SYMTAB,
                          first_segment(object->main.elf) -
                              first_segment(object->debug.elf)))) {
        add_mini(object);
        neap_symtab_add(&object->symtab, object->main.elf, SHT_DYNSYM, 0);
    }
    neap_symtab_ready(&object->symtab);
    object->fixed +=
        object->symtab.symbols.vec.capacity * sizeof(*object->symtab.symbols.vec.data);
}

/* ---- the object ---- */

static bool is_mapped_file(Elf *elf, const uint8_t *build_id, size_t length)
{
    const void *found = NULL;
    size_t found_length;
    GElf_Ehdr header;

    if (!gelf_getehdr(elf, &header) ||
        (header.e_type != ET_EXEC && header.e_type != ET_DYN))
        return false;
    found_length = neap_debug_build_id(elf, &found);
    if (found_length > NEAP_BUILD_ID_MAX) /* records have no room for these */
        found_length = 0;
    return found_length == length &&
           (length == 0 || memcmp(found, build_id, length) == 0);
}

struct neap_object *neap_object_create(const struct neap_debug_places *places, int fd,
                                       const char *path, const uint8_t *build_id,
                                       size_t build_id_len, int *unpacked)
{
    struct neap_object *object = calloc(1, sizeof(*object));

    if (!object) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    object->debug.fd = -1;
    object->unpacked.fd = -1;
    object->alternate.fd = -1;
    elf_version(EV_CURRENT);
    if (!elf_file_open(&object->main, fd) ||
        !is_mapped_file(object->main.elf, build_id, build_id_len)) {
        neap_object_destroy(object);
        return NULL;
    }
    read_text(object->main.elf, &object->text);
    open_dwarf(object, places, object->main.elf, unpacked);
    if (!object->dwarf &&
        elf_file_open(&object->debug, neap_debug_find(places, object->main.elf, path)))
        open_dwarf(object, places, object->debug.elf, unpacked);
    open_symbols(object);
    return object;
}

void neap_object_destroy(struct neap_object *object)
{
    if (!object)
        return;
    neap_dwarf_destroy(object->dwarf);
    if (object->alternate_dwarf)
        dwarf_end(object->alternate_dwarf);
    neap_symtab_deinit(&object->symtab);
    neap_spans_deinit(&object->text);
    neap_spans_deinit(&object->dwarf_text);
    elf_end(object->mini);
    free(object->mini_bytes);
    elf_file_close(&object->alternate);
    elf_file_close(&object->unpacked);
    elf_file_close(&object->debug);
    elf_file_close(&object->main);
    free(object);
}

size_t neap_object_weight(const struct neap_object *object)
{
    return sizeof(*object) + object->fixed +
           (object->dwarf ? neap_dwarf_weight(object->dwarf) : 0);
}

bool neap_object_is_grown(const struct neap_object *object)
{
    return object->dwarf && neap_dwarf_is_grown(object->dwarf);
}

/* `name` readable, and without the version that symbols of libraries carry. */
static void add_frame(struct neap_answers *answers, const char *name,
                      const struct neap_dwarf_place *place)
{
    const char *version = name ? strchr(name, '@') : NULL;
    neap_auto_free char *cut =
        version && version > name ? strndup(name, (size_t)(version - name)) : NULL;
    const char *whole = cut ? cut : name;
    neap_auto_free char *readable = whole ? neap_demangle(whole) : NULL;

    neap_answers_frame(answers, readable ? readable : whole, place->dir, place->file,
                       place->line);
}

/*
 * What a function calls itself. A linkage name that is not mangled is an alias for
 * the linker (__GI___strdup), which nobody wrote into a program.
 */
static const char *own_name(const struct neap_dwarf_place *place)
{
    if (place->linkage && (!place->name || neap_demangle_applies(place->linkage)))
        return place->linkage;
    return place->name;
}

/*
 * The function the code belongs to is in the symbol table as well. That knows the
 * whole name where the DWARF has only the one without its scope, and of the names of
 * a C library's function the one that programs call (strdup, not __strdup).
 */
static const char *outer_name(const struct neap_object *object, uint64_t address,
                              const struct neap_dwarf_place *place)
{
    const char *own = own_name(place);
    const char *symbol;

    if (own && neap_demangle_applies(own))
        return own;
    symbol = neap_symtab_find(&object->symtab, address);
    if (!own || !symbol)
        return own ? own : symbol;
    if (neap_demangle_applies(symbol) || strspn(symbol, "_") < strspn(own, "_"))
        return symbol;
    return own;
}

void neap_object_name(struct neap_object *object, uint64_t address,
                      struct neap_answers *answers)
{
    struct neap_dwarf_place places[NEAP_ANSWER_FRAMES_MAX];
    uint32_t count = 0;

    if (!neap_spans_find(&object->text, address))
        return;
    if (object->dwarf)
        count = neap_dwarf_find(object->dwarf, address - object->shift, places,
                                NEAP_ANSWER_FRAMES_MAX);
    if (count == 0) {
        places[0] = (struct neap_dwarf_place){0};
        count = 1;
    }
    for (uint32_t i = 0; i + 1 < count; i++)
        add_frame(answers, own_name(&places[i]), &places[i]);
    add_frame(answers, outer_name(object, address, &places[count - 1]),
              &places[count - 1]);
}
