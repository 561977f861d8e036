/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading of ELF headers, program headers, the dynamic section and .dynsym.
 *
 * Layout read: Ehdr; Phdr[e_phnum] for PT_INTERP, PT_DYNAMIC and PT_NOTE; of the
 * dynamic section DT_SONAME's being there and the names of DT_NEEDED, whose string
 * table is found by PT_LOAD; Shdr[e_shnum] for .dynsym with its string table and for
 * .go.buildinfo. Any part that lies outside of the file, or beyond the limits below,
 * is taken as absent.
 */
#include "daemon/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "schema/attr.h"
#include "schema/base/cleanup.h"

#define NAMES_MAX   (64u << 20) /* bytes of a string table worth reading */
#define SYMBOLS_MAX (1u << 20)
#define HEADERS_MAX 4096u
#define NEEDED_MAX  256u
#define NOTES_MAX   (64u << 10)

#if defined(__x86_64__)
#define NATIVE_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define NATIVE_MACHINE EM_AARCH64
#else
#error "which ELF machine is this?"
#endif

struct file {
    int fd;
    uint64_t size;
};

static bool read_at(const struct file *file, uint64_t offset, void *buffer,
                    uint64_t length)
{
    uint64_t done = 0;

    if (offset > file->size || length > file->size - offset)
        return false;
    while (done < length) {
        ssize_t got = pread(file->fd, (char *)buffer + done, length - done,
                            (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (uint64_t)got;
    }
    return true;
}

/* As much of a text at `offset` as there is and as fits. */
static void read_start(const struct file *file, uint64_t offset, char *ret, size_t size)
{
    uint64_t rest = offset < file->size ? file->size - offset : 0;
    uint64_t length = rest < size - 1 ? rest : size - 1;

    if (!read_at(file, offset, ret, length))
        length = 0;
    ret[length] = 0;
}

/* `length` bytes at `offset` in fresh memory, NUL behind them; NULL if there are none.
 */
static char *read_block(const struct file *file, uint64_t offset, uint64_t length)
{
    neap_auto_free char *block = NULL;

    if (offset > file->size || length > file->size - offset || length > NAMES_MAX)
        return NULL;
    block = malloc(length + 1);
    if (!block || !read_at(file, offset, block, length))
        return NULL;
    block[length] = 0;
    return neap_take(block);
}

/* Where in the file that is which is loaded at `address`; false: nowhere. */
static bool find_offset(const struct file *file, const Elf64_Ehdr *ehdr,
                        uint64_t address, uint64_t *ret)
{
    for (uint64_t i = 0; i < ehdr->e_phnum; i++) {
        Elf64_Phdr phdr;

        if (!read_at(file, ehdr->e_phoff + i * sizeof(phdr), &phdr, sizeof(phdr)))
            return false;
        if (phdr.p_type == PT_LOAD && address >= phdr.p_vaddr &&
            address - phdr.p_vaddr < phdr.p_filesz) {
            *ret = phdr.p_offset + (address - phdr.p_vaddr);
            return true;
        }
    }
    return false;
}

static const char *sanitizer_of(const char *library)
{
    static const struct {
        const char *library, *option;
    } known[] = {
        {"libasan.so", "address"},       {"libtsan.so", "thread"},
        {"liblsan.so", "leak"},          {"libhwasan.so", "hwaddress"},
        {"libclang_rt.asan", "address"}, {"libclang_rt.tsan", "thread"},
        {"libclang_rt.lsan", "leak"},    {"libclang_rt.hwasan", "hwaddress"},
    };

    for (size_t i = 0; i < NEAP_ARRAY_LEN(known); i++) {
        size_t length = strlen(known[i].library);

        if (strncmp(library, known[i].library, length) == 0 &&
            strchr(".-", library[length])) /* or the end */
            return known[i].option;
    }
    return NULL;
}

static void read_dynamic(const struct file *file, const Elf64_Ehdr *ehdr,
                         const Elf64_Phdr *phdr, struct neap_elf *elf)
{
    uint64_t count = phdr->p_filesz / sizeof(Elf64_Dyn);
    uint64_t needed[NEEDED_MAX], names = 0, address = 0;
    unsigned needs = 0;

    for (uint64_t i = 0; i < count && i < HEADERS_MAX; i++) {
        Elf64_Dyn dyn;

        if (!read_at(file, phdr->p_offset + i * sizeof(dyn), &dyn, sizeof(dyn)) ||
            dyn.d_tag == DT_NULL)
            break;
        if (dyn.d_tag == DT_SONAME)
            elf->named = true;
        else if (dyn.d_tag == DT_STRTAB)
            address = dyn.d_un.d_ptr;
        else if (dyn.d_tag == DT_NEEDED && needs < NEEDED_MAX)
            needed[needs++] = dyn.d_un.d_val;
    }
    if (!needs || !find_offset(file, ehdr, address, &names))
        return;
    for (unsigned i = 0; i < needs && !elf->sanitizer; i++) {
        /* Long enough for any of the names looked for. */
        char name[32] = "";

        if (names > file->size || needed[i] > file->size)
            continue;
        read_start(file, names + needed[i], name, sizeof(name));
        elf->sanitizer = sanitizer_of(name);
    }
}

/* As the kernel wants it: a path, and the NUL that ends it. */
static void read_interpreter(const struct file *file, const Elf64_Phdr *phdr,
                             struct neap_elf *elf)
{
    uint64_t length = phdr->p_filesz;

    if (elf->interpreted) /* the kernel takes the first */
        return;
    elf->interpreted = true;
    if (length < 2 || length > sizeof(elf->interpreter) ||
        !read_at(file, phdr->p_offset, elf->interpreter, length) ||
        elf->interpreter[length - 1] != 0)
        elf->interpreter[0] = 0;
}

/* The Go linker leaves its build id in a note of the owner "Go". */
static void read_notes(const struct file *file, const Elf64_Phdr *phdr,
                       struct neap_elf *elf)
{
    uint64_t length = phdr->p_filesz < NOTES_MAX ? phdr->p_filesz : NOTES_MAX;
    neap_auto_free char *notes = read_block(file, phdr->p_offset, length);
    uint64_t at = 0;

    while (notes && length - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        uint64_t size;

        memcpy(&note, notes + at, sizeof(note));
        at += sizeof(note);
        size = (((uint64_t)note.n_namesz + 3) & ~3ull) +
               (((uint64_t)note.n_descsz + 3) & ~3ull);
        if (size > length - at)
            return;
        if (note.n_namesz == 4 && note.n_descsz && memcmp(notes + at, "Go\0", 4) == 0)
            elf->go = true;
        at += size;
    }
}

static void read_segments(const struct file *file, const Elf64_Ehdr *ehdr,
                          struct neap_elf *elf)
{
    if (ehdr->e_phentsize != sizeof(Elf64_Phdr) || ehdr->e_phnum == 0 ||
        ehdr->e_phnum > HEADERS_MAX) {
        elf->malformed = true;
        return;
    }
    for (uint64_t i = 0; i < ehdr->e_phnum; i++) {
        Elf64_Phdr phdr;

        if (!read_at(file, ehdr->e_phoff + i * sizeof(phdr), &phdr, sizeof(phdr))) {
            elf->malformed = true;
            return;
        }
        if (phdr.p_type == PT_INTERP)
            read_interpreter(file, &phdr, elf);
        else if (phdr.p_type == PT_DYNAMIC)
            read_dynamic(file, ehdr, &phdr, elf);
        else if (phdr.p_type == PT_NOTE)
            read_notes(file, &phdr, elf);
    }
}

static bool defines_malloc(const struct file *file, const Elf64_Shdr *symbols,
                           const Elf64_Shdr *names)
{
    neap_auto_free char *strings = read_block(file, names->sh_offset, names->sh_size);
    uint64_t count = symbols->sh_size / sizeof(Elf64_Sym);
    neap_auto_free Elf64_Sym *table = NULL;

    if (!strings || count > SYMBOLS_MAX)
        return false;
    table = (Elf64_Sym *)(void *)read_block(file, symbols->sh_offset,
                                            count * sizeof(*table));
    for (uint64_t i = 0; table && i < count; i++) {
        if (table[i].st_shndx != SHN_UNDEF && table[i].st_name < names->sh_size &&
            strcmp(strings + table[i].st_name, "malloc") == 0)
            return true;
    }
    return false;
}

static void read_sections(const struct file *file, const Elf64_Ehdr *ehdr,
                          struct neap_elf *elf)
{
    neap_auto_free Elf64_Shdr *headers = NULL;
    neap_auto_free char *names = NULL;
    unsigned count = ehdr->e_shnum;

    if (ehdr->e_shentsize != sizeof(*headers) || !count || count > HEADERS_MAX)
        return;
    headers =
        (Elf64_Shdr *)(void *)read_block(file, ehdr->e_shoff, count * sizeof(*headers));
    if (!headers)
        return;
    if (ehdr->e_shstrndx < count)
        names = read_block(file, headers[ehdr->e_shstrndx].sh_offset,
                           headers[ehdr->e_shstrndx].sh_size);
    for (unsigned i = 0; i < count; i++) {
        const Elf64_Shdr *header = &headers[i];

        if (header->sh_type == SHT_DYNSYM && header->sh_link < count)
            elf->own_malloc |= defines_malloc(file, header, &headers[header->sh_link]);
        if (names && header->sh_name < headers[ehdr->e_shstrndx].sh_size &&
            strcmp(names + header->sh_name, ".go.buildinfo") == 0)
            elf->go = true;
    }
}

void neap_elf_inspect(int fd, struct neap_elf *ret)
{
    struct file file = {.fd = fd};
    Elf64_Ehdr ehdr;
    struct stat st;

    *ret = (struct neap_elf){0};
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        return;
    file.size = (uint64_t)st.st_size;
    if (!read_at(&file, 0, &ehdr, EI_NIDENT + 4) ||
        memcmp(ehdr.e_ident, ELFMAG, SELFMAG) != 0)
        return;
    ret->is_elf = true;
    ret->bits = ehdr.e_ident[EI_CLASS] == ELFCLASS64   ? 64
                : ehdr.e_ident[EI_CLASS] == ELFCLASS32 ? 32
                                                       : 0;
    /* e_machine is at the same place in both classes, in the file's byte order. */
    ret->machine = ehdr.e_machine;
    if (ret->bits == 0)
        ret->malformed = true;
    if (!neap_elf_is_native(ret))
        return;
    if (!read_at(&file, 0, &ehdr, sizeof(ehdr))) {
        ret->malformed = true;
        return;
    }
    read_segments(&file, &ehdr, ret);
    if (!ret->malformed)
        read_sections(&file, &ehdr, ret);
}

bool neap_elf_is_native(const struct neap_elf *elf)
{
    return elf->is_elf && elf->bits == 8 * sizeof(void *) &&
           elf->machine == NATIVE_MACHINE;
}
