/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list lies in memory that a forked child finds empty: the child meets each
 * object anew and announces it under its own name. A spin lock guards additions; it
 * is held for some instructions, never over a call out, and is free in a forked child.
 */
#include "libhook/modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "libhook/emit.h"
#include "libhook/life.h"
#include "libhook/selfmem.h"
#include "libhook/stackset.h"
#include "libhook/sys.h"
#include "libhook/unwind.h"

#define MODULES_MAX 4096u

struct module {
    const uint8_t *start, *end;
    const struct link_map *map;
    uint64_t name; /* its file's, as a number: maps and places are used again */
    uint32_t generation;
    uint32_t finder; /* tid; 0 once announced */
};

struct list {
    _Atomic uint32_t count;
    struct module module[MODULES_MAX];
};

static struct list *list;
static int (*find_object)(void *, struct dl_find_object *);

bool neap_modules_init(void)
{
    void *found = dlsym(RTLD_DEFAULT, "_dl_find_object");

    memcpy(&find_object, &found, sizeof(found));
    list = neap_selfmem_wiped(sizeof(*list));
    return list != NULL;
}

bool neap_modules_lock_free(void)
{
    return find_object != NULL;
}

static void lock(void)
{
    while (
        atomic_exchange_explicit(&neap_process->module_lock, 1, memory_order_acquire))
        neap_sys_yield();
}

static void unlock(void)
{
    atomic_store_explicit(&neap_process->module_lock, 0, memory_order_release);
}

#define CLOSING (1ull << 32)

/* Pairs with the acquire of each walk's epoch, as do the two below. */
static void next_generation(void)
{
    uint64_t epoch = atomic_load_explicit(&neap_process->epoch, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(
        &neap_process->epoch, &epoch, (epoch & ~(CLOSING - 1)) | (uint32_t)(epoch + 1),
        memory_order_release, memory_order_relaxed))
        ;
}

void neap_modules_closing(void)
{
    atomic_fetch_add_explicit(&neap_process->epoch, CLOSING, memory_order_acq_rel);
}

void neap_modules_closed(void)
{
    uint64_t epoch = atomic_load_explicit(&neap_process->epoch, memory_order_relaxed);

    /* Nothing to take away in the child of a destructor that forked. */
    while (epoch >= CLOSING && !atomic_compare_exchange_weak_explicit(
                                   &neap_process->epoch, &epoch, epoch - CLOSING,
                                   memory_order_release, memory_order_relaxed))
        ;
}

static uint32_t generation_now(void)
{
    return (uint32_t)atomic_load_explicit(&neap_process->epoch, memory_order_acquire);
}

static uint64_t name_of(const struct link_map *map)
{
    uint64_t hash = (uint64_t)(uintptr_t)map->l_ld;

    for (const char *at = map->l_name; at && *at; at++)
        hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull;
    return hash;
}

/* Is the object in the list already? Caller holds the lock. Overlap with another one of
 * this generation means that something was unloaded behind dlclose's back (libc drops
 * its own plug-ins). */
enum known {
    UNKNOWN,
    KNOWN,
    OVERLAPS
};

static enum known look_up(const struct neap_object *object, uint32_t generation)
{
    uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
    uint64_t name = name_of(object->link_map);

    for (uint32_t i = 0; i < count; i++) {
        const struct module *m = &list->module[i];

        if (m->generation != generation)
            continue;
        if (m->start == object->start && m->end == object->end &&
            m->map == object->link_map && m->name == name)
            return KNOWN;
        if (object->start < m->end && m->start < object->end)
            return OVERLAPS;
    }
    return UNKNOWN;
}

static NEAP_COLD void note(const struct neap_object *object)
{
    uint32_t generation, count;
    enum known known;

    lock();
    known = look_up(object, generation_now());
    if (known == OVERLAPS) {
        unlock();
        neap_modules_unloaded();
        lock();
        known = look_up(object, generation_now());
    }
    generation = generation_now();
    count = atomic_load_explicit(&list->count, memory_order_relaxed);
    if (known != KNOWN && count < MODULES_MAX) {
        struct module *m = &list->module[count];

        m->start = object->start;
        m->end = object->end;
        m->map = object->link_map;
        m->name = name_of(object->link_map);
        m->generation = generation;
        m->finder = neap_tls.tid;
        neap_tls.found = true;
        /* Pairs with the acquire loads of count: the entry is whole. */
        atomic_store_explicit(&list->count, count + 1, memory_order_release);
    }
    unlock();
}

/*
 * The program itself as one object. The kernel maps its segments each by itself, and
 * where there is a gap between two, glibc speaks of one segment only; but the rules
 * for the code, the build-id and the code lie in different ones. The program headers
 * are the kernel's word (AT_PHDR).
 */
static void whole_program(struct neap_object *object)
{
    const Elf64_Phdr *segment = (const Elf64_Phdr *)getauxval(AT_PHDR);
    unsigned long count = getauxval(AT_PHNUM);
    uintptr_t bias = ((const struct link_map *)object->link_map)->l_addr;
    uintptr_t low = UINTPTR_MAX, high = 0;

    for (unsigned long i = 0; segment && i < count; i++) {
        if (segment[i].p_type != PT_LOAD)
            continue;
        if (segment[i].p_vaddr < low)
            low = segment[i].p_vaddr;
        if (segment[i].p_vaddr + segment[i].p_memsz > high)
            high = segment[i].p_vaddr + segment[i].p_memsz;
    }
    if (low < high) {
        object->start = (const uint8_t *)(bias + (low & ~(uintptr_t)(NEAP_PAGE - 1)));
        object->end = (const uint8_t *)(bias + high);
    }
}

bool neap_modules_find(uint64_t pc, struct neap_object *ret)
{
    struct dl_find_object object;
    Dl_info info;
    const struct link_map *map;

    if (find_object) {
        if (find_object((void *)(uintptr_t)pc, &object) != 0)
            return false;
        *ret = (struct neap_object){object.dlfo_map_start, object.dlfo_map_end,
                                    object.dlfo_eh_frame, object.dlfo_link_map};
        if (object.dlfo_link_map->l_name[0] == '\0')
            whole_program(ret);
    } else {
        /* glibc before 2.35, with libunwind: no lock-free way. */
        if (!dladdr1((void *)(uintptr_t)pc, &info, (void **)&map, RTLD_DL_LINKMAP))
            return false;
        *ret = (struct neap_object){info.dli_fbase,
                                    (uint8_t *)info.dli_fbase + NEAP_PAGE, NULL, map};
    }
    note(ret);
    return true;
}

bool neap_modules_is_loader(uint64_t pc)
{
    struct dl_find_object object;

    return find_object && find_object((void *)(uintptr_t)pc, &object) == 0 &&
           (unsigned long)(uintptr_t)object.dlfo_map_start == getauxval(AT_BASE);
}

const char *neap_modules_path(const void *pc)
{
    struct dl_find_object object;

    if (!find_object || find_object((void *)(uintptr_t)pc, &object) != 0)
        return NULL;
    return object.dlfo_link_map->l_name;
}

void neap_modules_unloaded(void)
{
    uint32_t count, kept = 0;

    lock();
    next_generation();
    count = atomic_load_explicit(&list->count, memory_order_relaxed);
    /* What another thread has found and not announced yet, it still will. */
    for (uint32_t i = 0; i < count; i++) {
        if (list->module[i].finder != 0)
            list->module[kept++] = list->module[i];
    }
    atomic_store_explicit(&list->count, kept, memory_order_release);
    unlock();
    neap_unwind_forget();
    neap_stackset_forget();
    /* A walk that met old rules until a moment ago has not looked at its objects: it
     * sees that this changed, and walks again. */
    next_generation();
}

/* ---- what an object is ---- */

/* The build-id note, from the program headers in memory. */
static uint32_t build_id(const struct module *m, uint8_t *ret)
{
    const Elf64_Ehdr *elf = (const Elf64_Ehdr *)(const void *)m->start;
    const Elf64_Phdr *segment;

    if (m->end - m->start < (ptrdiff_t)sizeof(*elf) ||
        memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0 ||
        elf->e_ident[EI_CLASS] != ELFCLASS64 ||
        elf->e_phoff + elf->e_phnum * sizeof(*segment) > NEAP_PAGE)
        return 0;
    segment = (const Elf64_Phdr *)(const void *)(m->start + elf->e_phoff);
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        const uint8_t *at, *end;

        if (segment[i].p_type != PT_NOTE)
            continue;
        at = (const uint8_t *)m->map->l_addr + segment[i].p_vaddr;
        end = at + segment[i].p_memsz;
        if (at < m->start || end > m->end)
            continue;
        while (end - at >= (ptrdiff_t)sizeof(Elf64_Nhdr)) {
            const Elf64_Nhdr *note_header = (const Elf64_Nhdr *)(const void *)at;
            const uint8_t *name = at + sizeof(*note_header);
            const uint8_t *desc = name + ((note_header->n_namesz + 3u) & ~3u);

            if (note_header->n_descsz > (size_t)(end - at) || desc > end)
                break;
            if (note_header->n_type == NT_GNU_BUILD_ID && note_header->n_namesz == 4 &&
                memcmp(name, "GNU", 4) == 0 &&
                note_header->n_descsz <= NEAP_BUILD_ID_MAX) {
                memcpy(ret, desc, note_header->n_descsz);
                return note_header->n_descsz;
            }
            at = desc + ((note_header->n_descsz + 3u) & ~3u);
        }
    }
    return 0;
}

/* One hexadecimal number of a line of /proc/self/maps. */
static const char *take_hex(const char *at, uint64_t *ret)
{
    uint64_t value = 0;

    for (;; at++) {
        if (*at >= '0' && *at <= '9')
            value = value << 4 | (uint64_t)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            value = value << 4 | (uint64_t)(*at - 'a' + 10);
        else
            break;
    }
    *ret = value;
    return at;
}

/* The path that /proc/self/maps has for `start`: absolute, whatever the loader was
 * told. Into ret[NEAP_PATH_MAX]; its length, 0 if there is none. */
static uint32_t mapped_path(const uint8_t *start, char *ret)
{
    /* One page to read into, and one for a line that began in the last one. */
    const size_t room = 4 * NEAP_PAGE;
    char *buffer = neap_selfmem_map(room);
    size_t held = 0;
    uint32_t length = 0;
    long fd, got;

    if (!buffer)
        return 0;
    fd = NEAP_SYS4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    while (!neap_sys_failed(fd) && length == 0 &&
           (got = NEAP_SYS3(SYS_read, fd, buffer + held, room - held)) > 0) {
        char *line = buffer, *newline;

        held += (size_t)got;
        while ((newline = memchr(line, '\n', held - (size_t)(line - buffer)))) {
            const char *slash;
            uint64_t low;

            take_hex(line, &low);
            slash = memchr(line, '/', (size_t)(newline - line));
            if (low == (uint64_t)(uintptr_t)start && slash) {
                length = (uint32_t)(newline - slash);
                length = length > NEAP_PATH_MAX ? 0 : length;
                memcpy(ret, slash, length);
            }
            line = newline + 1;
        }
        held -= (size_t)(line - buffer);
        memmove(buffer, line, held);
        if (held == room)
            break;
    }
    if (!neap_sys_failed(fd))
        NEAP_SYS1(SYS_close, fd);
    NEAP_SYS2(SYS_munmap, buffer, room);
    return length;
}

static void announce(struct neap_tls *tls, const struct module *m)
{
    struct neap_emit_module what = {
        .bias = m->map->l_addr,
        .start = (uint64_t)(uintptr_t)m->start,
        .end = (uint64_t)(uintptr_t)m->end,
        .generation = m->generation,
    };
    char *path = neap_selfmem_map(2 * NEAP_PAGE);

    if (!path)
        return;
    what.build_id_len = build_id(m, what.build_id);
    what.path = path;
    if (m->map->l_name && m->map->l_name[0] == '/') {
        what.path_len = (uint32_t)strnlen(m->map->l_name, NEAP_PATH_MAX);
        memcpy(path, m->map->l_name, what.path_len);
    } else {
        what.path_len = mapped_path(m->start, path);
        if (what.path_len == 0) {
            what.path_len = sizeof("[vdso]") - 1;
            memcpy(path, "[vdso]", what.path_len);
        }
    }
    neap_emit_module(tls, &what);
    NEAP_SYS2(SYS_munmap, path, 2 * NEAP_PAGE);
}

/* One object that this thread found, taken out of its charge. */
static bool take_found(uint32_t tid, struct module *ret)
{
    uint32_t count;
    bool taken = false;

    lock();
    count = atomic_load_explicit(&list->count, memory_order_relaxed);
    for (uint32_t i = 0; i < count && !taken; i++) {
        if (list->module[i].finder == tid) {
            list->module[i].finder = 0;
            *ret = list->module[i];
            taken = true;
        }
    }
    unlock();
    return taken;
}

void neap_modules_announce(struct neap_tls *tls)
{
    struct module module;

    tls->found = false;
    /*
     * Only its finder reads an object: it is on the finder's stack, so it stays. The
     * list does not: another thread's dlclose may move it while we announce.
     */
    while (take_found(tls->tid, &module))
        announce(tls, &module);
}
