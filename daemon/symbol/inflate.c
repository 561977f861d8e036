/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking debug files, see inflate.h.
 *
 * The copy has the same headers in the same order, so section numbers and links stay
 * right: file header, program headers, sections one after the other, and the section
 * headers at the end. It is never run or linked; nobody asks for more of its layout.
 *
 * zlib is in every process that has libelf, which needs it. It is opened here rather
 * than linked, as in xz.c.
 */
#include "daemon/symbol/inflate.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "schema/attr.h"
#include "schema/base/cleanup.h"

#define TOTAL_MAX (2ull << 30) /* bytes of the copy */
#define BLOCK     65536u
#define ALIGNMENT 16u

struct zlib {
    int (*start)(z_streamp stream, const char *version, int size);
    int (*step)(z_streamp stream, int flush);
    int (*end)(z_streamp stream);
};

struct copy {
    struct zlib zlib;
    int fd;
    uint64_t at; /* where the next section begins */
    uint8_t *block;
};

static bool find_zlib(struct zlib *ret)
{
    void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);

    if (!library)
        return false;
    *(void **)&ret->start = dlsym(library, "inflateInit_");
    *(void **)&ret->step = dlsym(library, "inflate");
    *(void **)&ret->end = dlsym(library, "inflateEnd");
    return ret->start && ret->step && ret->end;
}

/* /tmp may be memory. */
static int open_temporary(void)
{
    static const char *const dirs[] = {"/var/tmp", "/tmp"};

    for (size_t i = 0; i < NEAP_ARRAY_LEN(dirs); i++) {
        char path[64];
        int fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd >= 0)
            return fd;
        snprintf(path, sizeof(path), "%s/neap-XXXXXX", dirs[i]);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
            return fd;
        }
    }
    return -1;
}

static bool write_at(int fd, const void *bytes, size_t length, uint64_t at)
{
    const uint8_t *from = bytes;

    while (length > 0) {
        ssize_t wrote = pwrite(fd, from, length, (off_t)at);

        if (wrote <= 0)
            return false;
        from += wrote;
        at += (uint64_t)wrote;
        length -= (size_t)wrote;
    }
    return true;
}

/* Unpack to copy->at exactly `size` bytes. */
static bool unpack(struct copy *copy, const uint8_t *packed, size_t length,
                   uint64_t size)
{
    z_stream stream = {0};
    uint64_t done = 0;
    int status;

    if (length > UINT_MAX ||
        copy->zlib.start(&stream, ZLIB_VERSION, (int)sizeof(stream)) != Z_OK)
        return false;
    stream.next_in = (Bytef *)packed;
    stream.avail_in = (uInt)length;
    do {
        size_t got;

        stream.next_out = copy->block;
        stream.avail_out = BLOCK;
        status = copy->zlib.step(&stream, Z_NO_FLUSH);
        got = BLOCK - stream.avail_out;
        if (got > size - done || !write_at(copy->fd, copy->block, got, copy->at + done))
            status = Z_DATA_ERROR;
        done += got;
    } while (status == Z_OK);
    copy->zlib.end(&stream);
    return status == Z_STREAM_END && done == size;
}

/* Copy the bytes of a section and make its header fit. */
static bool copy_section(struct copy *copy, Elf_Scn *section, GElf_Shdr *header)
{
    Elf_Data *data;
    GElf_Chdr packed;
    bool done;

    if (header->sh_type == SHT_NOBITS || header->sh_type == SHT_NULL ||
        header->sh_size == 0)
        return true;
    data = elf_rawdata(section, NULL);
    if (!data || !data->d_buf)
        return false;
    if (header->sh_flags & SHF_COMPRESSED) {
        if (!gelf_getchdr(section, &packed) || packed.ch_type != ELFCOMPRESS_ZLIB ||
            packed.ch_size > TOTAL_MAX - copy->at || data->d_size < sizeof(Elf64_Chdr))
            return false;
        done = unpack(copy, (const uint8_t *)data->d_buf + sizeof(Elf64_Chdr),
                      data->d_size - sizeof(Elf64_Chdr), packed.ch_size);
        header->sh_flags &= ~(GElf_Xword)SHF_COMPRESSED;
        header->sh_size = packed.ch_size;
        header->sh_addralign = packed.ch_addralign;
    } else {
        header->sh_size = data->d_size;
        done = data->d_size <= TOTAL_MAX - copy->at &&
               write_at(copy->fd, data->d_buf, data->d_size, copy->at);
    }
    header->sh_offset = copy->at;
    copy->at = (copy->at + header->sh_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return done && copy->at < TOTAL_MAX;
}

static bool copy_segments(struct copy *copy, Elf *elf, size_t count)
{
    for (size_t i = 0; i < count && i < INT_MAX; i++) {
        GElf_Phdr header;

        if (!gelf_getphdr(elf, (int)i, &header) ||
            !write_at(copy->fd, &header, sizeof(header), copy->at))
            return false;
        copy->at += sizeof(header);
    }
    return true;
}

static bool copy_all(struct copy *copy, Elf *elf)
{
    neap_auto_free GElf_Shdr *headers = NULL;
    GElf_Ehdr header;
    size_t segments;
    size_t sections;

    if (!gelf_getehdr(elf, &header) || elf_getphdrnum(elf, &segments) != 0 ||
        elf_getshdrnum(elf, &sections) != 0 || sections == 0)
        return false;
    headers = calloc(sections, sizeof(*headers));
    copy->at = sizeof(header);
    if (!headers || !copy_segments(copy, elf, segments))
        return false;
    for (size_t i = 0; i < sections; i++) {
        Elf_Scn *section = elf_getscn(elf, i);

        if (!section || !gelf_getshdr(section, &headers[i]) ||
            !copy_section(copy, section, &headers[i]))
            return false;
    }
    header.e_phoff = segments ? sizeof(header) : 0;
    header.e_shoff = copy->at;
    return write_at(copy->fd, headers, sections * sizeof(*headers), copy->at) &&
           write_at(copy->fd, &header, sizeof(header), 0);
}

int neap_inflate(Elf *elf)
{
    neap_auto_close int fd = -1;
    neap_auto_free uint8_t *block = malloc(BLOCK);
    struct copy copy = {.block = block};
    const char *ident = elf_getident(elf, NULL);

    /* Headers are written as they lie in memory here. */
    if (!block || !ident || ident[EI_CLASS] != ELFCLASS64 ||
        ident[EI_DATA] !=
            (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB) ||
        !find_zlib(&copy.zlib))
        return -1;
    fd = open_temporary();
    copy.fd = fd;
    if (fd < 0 || !copy_all(&copy, elf))
        return -1;
    return neap_take_fd(fd);
}
