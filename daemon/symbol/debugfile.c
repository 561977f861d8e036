/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding debug files, see debugfile.h.
 */
#include <dlfcn.h>
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/symbol/debugfile.h"
#include "schema/base/cleanup.h"

#define DEFAULT_DIRS "/usr/lib/debug"
#define ID_MIN       3u
#define ID_MAX       64u

int neap_debug_open(const char *path, struct stat *ret)
{
    neap_auto_close int fd = -1;
    struct stat before;
    struct stat after;

    /* Looked at first: opening a device may do something. */
    if (stat(path, &before) != 0 || !S_ISREG(before.st_mode))
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &after) != 0 || !S_ISREG(after.st_mode))
        return -1;
    if (ret)
        *ret = after;
    return neap_take_fd(fd);
}

size_t neap_debug_build_id(Elf *elf, const void **ret)
{
    ssize_t length = dwelf_elf_gnu_build_id(elf, ret);

    return length > 0 ? (size_t)length : 0;
}

static bool has_id(int fd, const void *id, size_t length)
{
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    const void *found;
    bool same = elf && elf_kind(elf) == ELF_K_ELF &&
                neap_debug_build_id(elf, &found) == length &&
                memcmp(found, id, length) == 0;

    elf_end(elf);
    return same;
}

/* The CRC-32 of a whole file, as .gnu_debuglink has it. */
static bool has_checksum(int fd, uint32_t expected)
{
    neap_auto_free uint8_t *block = malloc(65536);
    uint32_t table[256];
    uint32_t crc = 0xffffffffu;
    off_t at = 0;
    ssize_t got;

    if (!block)
        return false;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    while ((got = pread(fd, block, 65536, at)) > 0) {
        for (ssize_t i = 0; i < got; i++)
            crc = table[(crc ^ block[i]) & 0xff] ^ crc >> 8;
        at += got;
    }
    return got == 0 && ~crc == expected;
}

/* The next directory of a list with colons; false at its end. */
static bool next_dir(const char **list, char *ret, size_t size)
{
    while (*list && **list) {
        size_t length = strcspn(*list, ":");
        int wrote = snprintf(ret, size, "%.*s", (int)length, *list);

        *list += length + ((*list)[length] == ':');
        if (length > 0 && length < size && wrote == (int)length)
            return true;
    }
    return false;
}

int neap_debug_by_id(const struct neap_debug_places *places, const void *id,
                     size_t length)
{
    const char *dirs = places->dirs ? places->dirs : DEFAULT_DIRS;
    const uint8_t *bytes = id;
    char hex[2 * ID_MAX + 1];
    char dir[PATH_MAX];
    char path[PATH_MAX + sizeof(hex) + 32];

    if (length < ID_MIN || length > ID_MAX)
        return -1;
    for (size_t i = 0; i < length; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    while (next_dir(&dirs, dir, sizeof(dir))) {
        neap_auto_close int fd = -1;

        snprintf(path, sizeof(path), "%s/.build-id/%.2s/%s.debug", dir, hex, hex + 2);
        fd = neap_debug_open(path, NULL);
        if (fd >= 0 && has_id(fd, id, length))
            return neap_take_fd(fd);
    }
    return -1;
}

struct link {
    const char *name;
    const void *id;
    size_t id_length;
    uint32_t checksum;
};

static int try_link(const struct link *link, const char *prefix, const char *dir,
                    size_t dir_length, const char *below)
{
    char path[2 * PATH_MAX];
    neap_auto_close int fd = -1;
    int length = snprintf(path, sizeof(path), "%s%.*s/%s%s", prefix, (int)dir_length,
                          dir, below, link->name);

    if (length < 0 || (size_t)length >= sizeof(path))
        return -1;
    fd = neap_debug_open(path, NULL);
    if (fd < 0)
        return -1;
    if (link->id_length ? has_id(fd, link->id, link->id_length)
                        : has_checksum(fd, link->checksum))
        return neap_take_fd(fd);
    return -1;
}

static int find_by_link(const struct neap_debug_places *places, struct link *link,
                        const char *path)
{
    const char *dirs = places->dirs ? places->dirs : DEFAULT_DIRS;
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    const char *base = slash ? slash + 1 : path;
    char dir[PATH_MAX];
    int fd = -1;

    if (!slash || strchr(link->name, '/') || length >= PATH_MAX)
        return -1;
    /* A link to itself would be the stripped file again. */
    if (strcmp(base, link->name) != 0)
        fd = try_link(link, "", path, length, "");
    if (fd < 0)
        fd = try_link(link, "", path, length, ".debug/");
    while (fd < 0 && next_dir(&dirs, dir, sizeof(dir)))
        fd = try_link(link, dir, path, length, "");
    return fd;
}

/*
 * debuginfod's client library, if it is installed. Its cache is that of all other
 * tools. Without DEBUGINFOD_URLS it finds nothing.
 */
static int find_on_servers(const void *id, size_t length)
{
    void *library = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
    void *(*begin)(void);
    void (*end)(void *client);
    int (*find)(void *client, const unsigned char *id, int length, char **path);
    void *client;
    char *path = NULL;
    int fd = -1;

    /* Stays loaded: unloading what has threads and TLS is asking for trouble. */
    if (!library)
        return -1;
    *(void **)&begin = dlsym(library, "debuginfod_begin");
    *(void **)&end = dlsym(library, "debuginfod_end");
    *(void **)&find = dlsym(library, "debuginfod_find_debuginfo");
    if (!begin || !end || !find)
        return -1;
    client = begin();
    if (!client)
        return -1;
    fd = find(client, id, (int)length, &path);
    free(path);
    end(client);
    if (fd >= 0 && !has_id(fd, id, length)) {
        close(fd);
        fd = -1;
    }
    return fd < 0 ? -1 : fd;
}

int neap_debug_find(const struct neap_debug_places *places, Elf *elf, const char *path)
{
    struct link link = {0};
    GElf_Word checksum = 0;
    int fd = -1;

    link.id_length = neap_debug_build_id(elf, &link.id);
    if (link.id_length)
        fd = neap_debug_by_id(places, link.id, link.id_length);
    link.name = dwelf_elf_gnu_debuglink(elf, &checksum);
    link.checksum = checksum;
    if (fd < 0 && link.name)
        fd = find_by_link(places, &link, path);
    if (fd < 0 && places->debuginfod && link.id_length)
        fd = find_on_servers(link.id, link.id_length);
    return fd;
}
