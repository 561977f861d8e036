/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/real.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "libhook/gate.h"
#include "libhook/modules.h"

struct neap_real neap_real = {.mode = &neap_gate_start};

uint8_t neap_boot[NEAP_BOOT_BYTES] __attribute__((aligned(64)));
static _Atomic size_t boot_used;
static _Atomic unsigned boot_blocks; /* so many were handed out; the first are listed */
static const void *boot_block[256];

void *neap_boot_alloc(size_t align, size_t size)
{
    size_t used = atomic_load_explicit(&boot_used, memory_order_relaxed), at, end;
    uintptr_t base = (uintptr_t)neap_boot;
    unsigned index;

    if (align < 16)
        align = 16;
    if (size > NEAP_BOOT_BYTES || align > NEAP_BOOT_BYTES / 4)
        return NULL;
    do {
        /* 16 bytes in front hold the size; it is the address that is aligned, and the
         * arena itself only to 64 */
        at = ((base + used + 16 + align - 1) & ~(uintptr_t)(align - 1)) - base;
        end = at + size;
        if (end > NEAP_BOOT_BYTES)
            return NULL;
    } while (!atomic_compare_exchange_weak(&boot_used, &used, end));
    memcpy(neap_boot + at - 16, &size, sizeof(size));
    index = atomic_fetch_add_explicit(&boot_blocks, 1, memory_order_relaxed);
    if (index < NEAP_ARRAY_LEN(boot_block))
        boot_block[index] = neap_boot + at;
    return neap_boot + at;
}

void neap_boot_each(void (*see)(const void *block))
{
    unsigned count = atomic_load_explicit(&boot_blocks, memory_order_relaxed);
    size_t used = atomic_load_explicit(&boot_used, memory_order_relaxed);

    for (unsigned i = 0; i < count && i < NEAP_ARRAY_LEN(boot_block); i++)
        see(boot_block[i]);
    /* More than are listed: each place where one may be. */
    for (size_t at = 16; count > NEAP_ARRAY_LEN(boot_block) && at < used; at += 16)
        see(neap_boot + at);
}

size_t neap_boot_size(const void *block)
{
    size_t size;

    memcpy(&size, (const uint8_t *)block - 16, sizeof(size));
    return size;
}

static void *next_malloc; /* also where our own serves */

void neap_real_resolve(void)
{
    void *found;

    /* dlsym gives object pointers where ISO C wants function pointers: copy the bits.
     */
#define NEAP_REAL_FIND(name, symbol, result, params) \
    found = dlsym(RTLD_NEXT, symbol);                \
    memcpy(&neap_real.name, &found, sizeof(found));
    NEAP_REAL_C(NEAP_REAL_FIND)
    NEAP_REAL_SYSTEM(NEAP_REAL_FIND)
    NEAP_REAL_STATS(NEAP_REAL_FIND)
#undef NEAP_REAL_FIND
    memcpy(&next_malloc, &neap_real.malloc, sizeof(next_malloc));
    neap_real.own = !neap_real_is_behind_us("realloc");
}

/*
 * The plug-in's own libraries are searched through a handle of its object, which the
 * loader makes up for it. What is found is pinned: the plug-in may be closed, and the
 * pointer is kept. A C++ library's forms of delete jump to one another, so that the
 * caller seems to be ourselves: then it is the library found before.
 */
static void *find_near(const char *symbol, const void *caller)
{
    static const char *library;
    const char *path = neap_modules_path(caller);
    void *handle, *found;
    Dl_info info;

    if (path == neap_modules_path(&neap_real))
        path = library;
    if (!path || path[0] == '\0')
        return NULL;
    handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    if (!handle)
        return NULL;
    found = dlsym(handle, symbol);
    if (found && dladdr(found, &info) && info.dli_fname &&
        dlopen(info.dli_fname, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD | RTLD_NODELETE))
        library = info.dli_fname;
    neap_real.dlclose(handle);
    return found;
}

void *neap_real_find(const char *symbol, const void *caller)
{
    void *found = dlsym(RTLD_NEXT, symbol);

    return found ? found : find_near(symbol, caller);
}

void *neap_real_find_standard(const char *symbol)
{
    static const char *const libraries[] = {"libstdc++.so.6", "libc++.so.1"};
    void *handle, *found = NULL;

    for (unsigned i = 0; i < NEAP_ARRAY_LEN(libraries) && !found; i++) {
        handle = dlopen(libraries[i], RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
        found = handle ? dlsym(handle, symbol) : NULL;
        if (handle)
            neap_real.dlclose(handle);
    }
    return found;
}

/* Is there nothing before us but the program? */
static bool is_first_library(void)
{
    const struct link_map *map;
    Dl_info ours;
    void *found = NULL;

    if (!dladdr1(&neap_real, &ours, &found, RTLD_DL_LINKMAP) || !found)
        return false;
    map = ((const struct link_map *)found)->l_prev;
    /* The kernel's page of code is in the list, and nobody looks there. */
    if (map && map->l_addr && map->l_addr == getauxval(AT_SYSINFO_EHDR))
        map = map->l_prev;
    return map && !map->l_prev;
}

bool neap_real_is_behind_us(const char *symbol)
{
    const void *found = dlsym(RTLD_DEFAULT, symbol);
    Dl_info first, ours;
    void *entry = NULL;

    if (!found || !dladdr1(found, &first, &entry, RTLD_DL_SYMENT) ||
        !dladdr(&neap_real, &ours))
        return false;
    if (first.dli_fbase == ours.dli_fbase)
        return true;
    /* A program that does not move (python3, cc1) and takes a function's address gives
     * the one of its own jump to it, which goes to the first library that has it. */
    return entry && ((const ElfW(Sym) *)entry)->st_shndx == SHN_UNDEF &&
           is_first_library();
}

bool neap_real_is_allocators(const void *function)
{
    Dl_info ours, theirs;

    return dladdr(function, &ours) && dladdr(next_malloc, &theirs) &&
           ours.dli_fbase == theirs.dli_fbase;
}

bool neap_real_is_standard(const void *function)
{
    Dl_info ours;
    const char *file;

    if (!dladdr(function, &ours) || !ours.dli_fname)
        return false;
    if (neap_real_is_allocators(function))
        return true;
    file = strrchr(ours.dli_fname, '/');
    file = file ? file + 1 : ours.dli_fname;
    return strncmp(file, "libstdc++.so", 12) == 0 || strncmp(file, "libc++", 6) == 0;
}

const char *neap_real_allocator(void)
{
    Dl_info info;
    const char *slash;

    if (!next_malloc || !dladdr(next_malloc, &info) || !info.dli_fname)
        return "";
    slash = strrchr(info.dli_fname, '/');
    return slash ? slash + 1 : info.dli_fname;
}
