/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry points of the address space: mmap, munmap, mremap, madvise, brk, sbrk.
 *
 * They see what the program and its allocator ask for through these symbols. glibc's
 * own brk and mmap do not pass here. A call made by an allocator in the middle of a
 * malloc (NEAP_ALLOCATING) is recorded like any other. errno is the real call's.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libhook/enter.h"
#include "libhook/real.h"
#include "libhook/sys.h"

/* What a system call says, libc's way. */
static void *as_pointer(long result)
{
    if (!neap_sys_failed(result))
        return (void *)result;
    errno = (int)-result;
    return MAP_FAILED;
}

static int as_int(long result)
{
    if (!neap_sys_failed(result))
        return (int)result;
    errno = (int)-result;
    return -1;
}

static void record(const struct neap_context *caller, const struct neap_emit_map *map)
{
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;

    if ((busy != NEAP_IDLE && busy != NEAP_ALLOCATING) || !neap_real.ready ||
        neap_real.off || neap_gate_mode() == NEAP_MODE_OFF)
        return;
    /* The first image knows its mode only when it is connected. */
    if (atomic_load_explicit(&neap_process->phase, memory_order_relaxed) !=
            NEAP_PHASE_ON &&
        (!neap_enter_connect(tls) || neap_gate_mode() == NEAP_MODE_OFF))
        return;
    tls->busy = NEAP_RECORDING;
    neap_emit_map(tls, caller, map);
    tls->busy = busy;
}

NEAP_EXPORT void *mmap(void *address, size_t size, int prot, int flags, int fd,
                       off_t offset)
{
    struct neap_context caller = NEAP_CALLER();
    void *result;

    if (neap_real.mmap)
        result = neap_real.mmap(address, size, prot, flags, fd, offset);
    else
        result = as_pointer(NEAP_SYS(SYS_mmap, address, size, prot, flags, fd, offset));
    if (result != MAP_FAILED)
        record(&caller, &(struct neap_emit_map){.op = NEAP_MAP_MMAP,
                                                .address = (uint64_t)(uintptr_t)result,
                                                .size = size,
                                                .prot = (uint32_t)prot,
                                                .flags = (uint32_t)flags,
                                                .fd = flags & MAP_ANONYMOUS ? -1 : fd});
    return result;
}

#undef mmap64
NEAP_EXPORT void *mmap64(void *address, size_t size, int prot, int flags, int fd,
                         off64_t offset) __attribute__((alias("mmap")));

NEAP_EXPORT int munmap(void *address, size_t size)
{
    struct neap_context caller = NEAP_CALLER();
    int result = neap_real.munmap ? neap_real.munmap(address, size)
                                  : as_int(NEAP_SYS2(SYS_munmap, address, size));

    if (result == 0)
        record(&caller, &(struct neap_emit_map){.op = NEAP_MAP_MUNMAP,
                                                .fd = -1,
                                                .address = (uint64_t)(uintptr_t)address,
                                                .size = size});
    return result;
}

NEAP_EXPORT void *mremap(void *old, size_t old_size, size_t size, int flags, ...)
{
    struct neap_context caller = NEAP_CALLER();
    void *target = NULL, *result;

    if (flags & MREMAP_FIXED) {
        va_list args;

        va_start(args, flags);
        target = va_arg(args, void *);
        va_end(args);
    }
    if (neap_real.mremap)
        result = neap_real.mremap(old, old_size, size, flags, target);
    else
        result =
            as_pointer(NEAP_SYS(SYS_mremap, old, old_size, size, flags, target, 0));
    if (result != MAP_FAILED)
        record(&caller, &(struct neap_emit_map){.op = NEAP_MAP_MREMAP,
                                                .fd = -1,
                                                .address = (uint64_t)(uintptr_t)result,
                                                .size = size,
                                                .old_address = (uint64_t)(uintptr_t)old,
                                                .old_size = old_size,
                                                .flags = (uint32_t)flags});
    return result;
}

NEAP_EXPORT int madvise(void *address, size_t size, int advice)
{
    struct neap_context caller = NEAP_CALLER();
    int result = neap_real.madvise
                     ? neap_real.madvise(address, size, advice)
                     : as_int(NEAP_SYS3(SYS_madvise, address, size, advice));

    if (result == 0)
        record(&caller, &(struct neap_emit_map){.op = NEAP_MAP_MADVISE,
                                                .fd = -1,
                                                .address = (uint64_t)(uintptr_t)address,
                                                .size = size,
                                                .flags = (uint32_t)advice});
    return result;
}

/* The break moved: size is how far it grew, old_size how far it shrank. */
static void record_break(const struct neap_context *caller, uint64_t before,
                         uint64_t after)
{
    if (before != after)
        record(caller, &(struct neap_emit_map){
                           .op = NEAP_MAP_BRK,
                           .fd = -1,
                           .address = after,
                           .size = after > before ? after - before : 0,
                           .old_address = before,
                           .old_size = before > after ? before - after : 0});
}

/*
 * An allocator in the program itself may come here first of all, holding its lock: no
 * look-up then, which would allocate and wait for that lock. glibc's own name does.
 */
void *__sbrk(intptr_t increment);

static void *move_break(intptr_t increment)
{
    return neap_real.sbrk ? neap_real.sbrk(increment) : __sbrk(increment);
}

NEAP_EXPORT int brk(void *address)
{
    struct neap_context caller = NEAP_CALLER();
    void *before = move_break(0);
    int result = 0;

    if (neap_real.brk)
        result = neap_real.brk(address);
    else if (move_break((char *)address - (char *)before) == (void *)-1)
        result = -1;
    if (result == 0)
        record_break(&caller, (uint64_t)(uintptr_t)before,
                     (uint64_t)(uintptr_t)address);
    return result;
}

NEAP_EXPORT void *sbrk(intptr_t increment)
{
    struct neap_context caller = NEAP_CALLER();
    void *before = move_break(increment);

    if (before != (void *)-1)
        record_break(&caller, (uint64_t)(uintptr_t)before,
                     (uint64_t)(uintptr_t)before + (uint64_t)increment);
    return before;
}
