/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls by number: the symbols of libc may be somebody's who watches them, be it
 * the hook. The break is libc's as well: sbrk() goes by its copy of it, so that is kept
 * right.
 */
#include "libhook/heap/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "libhook/heap/lock.h"
#include "libhook/heap/types.h"

extern void *__curbrk __attribute__((weak)); /* glibc's */

size_t neap_os_mapped, neap_os_mapped_max;
const struct neap_heap_observer *_Atomic neap_observer;

static struct neap_os_notes pending;

/* ---- calls ---- */

static long result_of(long result, int saved)
{
    if (result == -1) {
        result = -(long)errno;
        errno = saved;
    }
    return result;
}

static uintptr_t call_brk(uintptr_t to)
{
    int saved = errno;
    uintptr_t now = (uintptr_t)syscall(SYS_brk, to);

    errno = saved;
    if (&__curbrk)
        __curbrk = (void *)now;
    return now;
}

static long call_mmap(uintptr_t at, size_t size, int prot, int flags)
{
    int saved = errno;

    return result_of(syscall(SYS_mmap, at, size, prot, flags, -1, 0L), saved);
}

static long call_munmap(uintptr_t at, size_t size)
{
    int saved = errno;

    return result_of(syscall(SYS_munmap, at, size), saved);
}

static long call_mremap(uintptr_t at, size_t old_size, size_t size, int flags,
                        uintptr_t to)
{
    int saved = errno;

    return result_of(syscall(SYS_mremap, at, old_size, size, flags, to), saved);
}

static long call_madvise(uintptr_t at, size_t size, int advice)
{
    int saved = errno;

    return result_of(syscall(SYS_madvise, at, size, advice), saved);
}

struct neap_os_calls neap_os_calls = {call_brk, call_mmap, call_munmap, call_mremap,
                                      call_madvise};

static bool failed(long result)
{
    return (unsigned long)result > -4096ul;
}

/* ---- notes ---- */

static void note(struct neap_heap_change change)
{
    if (atomic_load_explicit(&neap_observer, memory_order_relaxed) &&
        pending.count < NEAP_ARRAY_LEN(pending.change))
        pending.change[pending.count++] = change;
}

bool neap_os_room(unsigned count)
{
    return pending.count + count <= NEAP_ARRAY_LEN(pending.change);
}

void neap_os_take_notes(struct neap_os_notes *ret)
{
    ret->count = pending.count;
    for (unsigned i = 0; i < pending.count; i++)
        ret->change[i] = pending.change[i];
    pending.count = 0;
}

void neap_os_tell(const struct neap_os_notes *notes)
{
    /* Pairs with the release in neap_heap_observe. */
    const struct neap_heap_observer *observer =
        atomic_load_explicit(&neap_observer, memory_order_acquire);
    int saved = errno;

    if (!observer || !observer->changed)
        return;
    for (unsigned i = 0; i < notes->count; i++)
        observer->changed(&notes->change[i]);
    errno = saved;
}

static void mapped(size_t more, size_t less)
{
    neap_os_mapped += more - less;
    if (neap_os_mapped > neap_os_mapped_max)
        neap_os_mapped_max = neap_os_mapped;
}

/* ---- face ---- */

uintptr_t neap_os_break(void)
{
    return &__curbrk ? neap_os_calls.brk(0) : NEAP_OS_FAILED;
}

bool neap_os_break_to(uintptr_t from, uintptr_t to)
{
    if (neap_os_calls.brk(to) != to)
        return false;
    mapped(to > from ? to - from : 0, to > from ? 0 : from - to);
    note((struct neap_heap_change){.op = NEAP_HEAP_BRK,
                                   .address = to,
                                   .size = to > from ? to - from : 0,
                                   .old_address = from,
                                   .old_size = from > to ? from - to : 0});
    return true;
}

static uintptr_t map(uintptr_t where, size_t size, int fixed)
{
    const int prot = PROT_READ | PROT_WRITE,
              flags = MAP_PRIVATE | MAP_ANONYMOUS | fixed;
    long at = neap_os_calls.mmap(where, size, prot, flags);

    if (failed(at))
        return NEAP_OS_FAILED;
    /* Kernels before 4.17 take MAP_FIXED_NOREPLACE for a wish. */
    if (fixed && (uintptr_t)at != where) {
        neap_os_calls.munmap((uintptr_t)at, size);
        return NEAP_OS_FAILED;
    }
    mapped(size, 0);
    note((struct neap_heap_change){.op = NEAP_HEAP_MMAP,
                                   .prot = prot,
                                   .flags = flags,
                                   .address = (uintptr_t)at,
                                   .size = size});
    return (uintptr_t)at;
}

uintptr_t neap_os_map(size_t size)
{
    return map(0, size, 0);
}

bool neap_os_map_at(uintptr_t at, size_t size)
{
    return map(at, size, MAP_FIXED_NOREPLACE) != NEAP_OS_FAILED;
}

uintptr_t neap_os_map_aligned(size_t size, size_t align)
{
    uintptr_t at = neap_os_map(size), base, end;

    if (at == NEAP_OS_FAILED || (at & (align - 1)) == 0)
        return at;
    /* More, and the ends off. */
    neap_os_unmap(at, size);
    if (size > NEAP_SIZE_MAX - align)
        return NEAP_OS_FAILED;
    at = neap_os_map(size + align - NEAP_HEAP_PAGE);
    if (at == NEAP_OS_FAILED)
        return at;
    base = (at + align - 1) & ~(align - 1);
    end = at + size + align - NEAP_HEAP_PAGE;
    /* Where there are too many mappings for a hole (vm.max_map_count) all of it goes.
     */
    if (base > at && !neap_os_unmap(at, base - at)) {
        neap_os_unmap(at, end - at);
        return NEAP_OS_FAILED;
    }
    if (base + size < end && !neap_os_unmap(base + size, end - base - size)) {
        neap_os_unmap(base, end - base);
        return NEAP_OS_FAILED;
    }
    return base;
}

bool neap_os_unmap(uintptr_t at, size_t size)
{
    if (failed(neap_os_calls.munmap(at, size)))
        return false;
    mapped(0, size);
    note(
        (struct neap_heap_change){.op = NEAP_HEAP_MUNMAP, .address = at, .size = size});
    return true;
}

bool neap_os_remap(uintptr_t at, size_t old_size, size_t size, uintptr_t to)
{
    int flags = at == to ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED;

    if (failed(neap_os_calls.mremap(at, old_size, size, flags, to)))
        return false;
    mapped(at == to ? size : 0, old_size);
    note((struct neap_heap_change){.op = NEAP_HEAP_MREMAP,
                                   .flags = flags,
                                   .address = to,
                                   .size = size,
                                   .old_address = at,
                                   .old_size = old_size});
    return true;
}

bool neap_os_is_cut(uintptr_t at, size_t size)
{
    /* To its own size, which changes nothing; EFAULT if it is. */
    return neap_os_calls.mremap(at, size, size, 0, at) == -EFAULT;
}

bool neap_os_advise(uintptr_t at, size_t size, int advice)
{
    if (failed(neap_os_calls.madvise(at, size, advice)))
        return false;
    note((struct neap_heap_change){
        .op = NEAP_HEAP_MADVISE, .address = at, .size = size, .flags = advice});
    return true;
}

void neap_os_rest(void)
{
    const struct timespec while_other_works = {0, 50000};
    int saved = errno;

    syscall(SYS_nanosleep, &while_other_works, NULL);
    errno = saved;
}

uint32_t neap_os_now_ms(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

/* ---- the lock: 0 free, 1 taken, 2 taken and waited for ---- */

static _Atomic uint32_t word;

static void futex(int operation, uint32_t value)
{
    int saved = errno;

    syscall(SYS_futex, &word, operation, value, NULL, NULL, 0);
    errno = saved;
}

/* What is done under the lock takes less than to sleep and to be woken: try for a
 * while. (1 000 short threads, four at a time on two CPUs: a fifth less time.) */
#define SPINS 100

/* The thread that holds the lock over a fork, by its thread pointer; 0: none does. */
static _Atomic uintptr_t forking;

static bool is_forking(void)
{
    return NEAP_UNLIKELY(atomic_load_explicit(&forking, memory_order_relaxed) ==
                         (uintptr_t)__builtin_thread_pointer());
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void neap_lock(void)
{
    if (is_forking())
        return;
    for (int i = 0; i < SPINS; i++) {
        uint32_t free = 0;

        if (NEAP_LIKELY(atomic_load_explicit(&word, memory_order_relaxed) == 0) &&
            atomic_compare_exchange_strong_explicit(
                &word, &free, 1, memory_order_acquire, memory_order_relaxed))
            return;
        relax();
    }
    while (atomic_exchange_explicit(&word, 2, memory_order_acquire) != 0)
        futex(FUTEX_WAIT_PRIVATE, 2);
}

static void release(void)
{
    if (atomic_exchange_explicit(&word, 0, memory_order_release) == 2)
        futex(FUTEX_WAKE_PRIVATE, 1);
}

/*
 * What was noted first is told first, or an observer would believe of a mapping that
 * has taken another's place that it is gone. But nobody waits for long: the one before
 * may be a thread that was interrupted by this call.
 */
static _Atomic uint32_t tickets, told;

static void tell_in_turn(const struct neap_os_notes *notes, uint32_t ticket)
{
    for (int i = 0;
         i < 200 &&
         (int32_t)(atomic_load_explicit(&told, memory_order_acquire) - ticket) < 0;
         i++)
        if (i < 100)
            relax();
        else
            neap_os_rest();
    neap_os_tell(notes);
    atomic_fetch_add_explicit(&told, 1, memory_order_release);
}

void neap_unlock(void)
{
    struct neap_os_notes notes;
    uint32_t ticket;

    if (is_forking())
        return;
    if (NEAP_LIKELY(pending.count == 0)) {
        release();
        return;
    }
    neap_os_take_notes(&notes);
    ticket = atomic_fetch_add_explicit(&tickets, 1, memory_order_relaxed);
    release();
    tell_in_turn(&notes, ticket);
}

void neap_lock_fork(void)
{
    neap_lock();
    atomic_store_explicit(&forking, (uintptr_t)__builtin_thread_pointer(),
                          memory_order_relaxed);
}

void neap_lock_fork_parent(void)
{
    atomic_store_explicit(&forking, 0, memory_order_relaxed);
    neap_unlock();
}

void neap_lock_fork_child(void)
{
    atomic_store_explicit(&forking, 0, memory_order_relaxed);
    /* Nobody else is here to wait. What the parent had noted it tells itself. */
    pending.count = 0;
    atomic_store_explicit(&told, atomic_load_explicit(&tickets, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&word, 0, memory_order_release);
}
