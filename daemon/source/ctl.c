/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory behind ctl.h. Mapped before it is sealed: F_SEAL_FUTURE_WRITE refuses
 * later writable mappings, by anyone, and leaves this one alone.
 */
#include "daemon/source/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "schema/base/cleanup.h"

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct neap_error *neap_ctl_create(struct neap_ctl **ret)
{
    neap_auto_free struct neap_ctl *ctl = calloc(1, sizeof(*ctl));
    neap_auto_close int fd = -1;
    void *memory;

    if (!ctl)
        return NEAP_NO_MEMORY;
    fd = memfd_create("neap-ctl", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return neap_error_os(errno, "cannot make shared memory (memfd_create)");
    if (ftruncate(fd, NEAP_CTL_BYTES))
        return neap_error_os(errno, "cannot size shared memory");
    /* Room for the header now: a page that cannot be had later is a SIGBUS. */
    if (posix_fallocate(fd, 0, NEAP_PAGE))
        return neap_error_os(ENOMEM, "cannot fill shared memory");
    memory = mmap(NULL, NEAP_CTL_BYTES, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (memory == MAP_FAILED)
        return neap_error_os(errno, "cannot map shared memory");
    if (fcntl(fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) {
        int errnum = errno;

        munmap(memory, NEAP_CTL_BYTES);
        return neap_error_os(errnum, "cannot seal shared memory");
    }
    ctl->header = memory;
    ctl->header->magic = NEAP_CTL_MAGIC;
    ctl->start_ns = monotonic_ns();
    ctl->fd = neap_take_fd(fd);
    *ret = neap_take(ctl);
    return NULL;
}

void neap_ctl_destroy(struct neap_ctl *ctl)
{
    if (!ctl)
        return;
    atomic_store_explicit(&ctl->header->closed, 1, memory_order_release);
    munmap(ctl->header, NEAP_CTL_BYTES);
    close(ctl->fd);
    free(ctl);
}

void neap_ctl_mode(struct neap_ctl *ctl, enum neap_mode mode, uint64_t interval)
{
    atomic_store_explicit(&ctl->header->interval, interval, memory_order_relaxed);
    /* Whoever sees the mode sees its interval. */
    atomic_store_explicit(&ctl->header->mode, mode, memory_order_release);
}

uint64_t neap_ctl_interval(const struct neap_ctl *ctl)
{
    return atomic_load_explicit(&ctl->header->interval, memory_order_relaxed);
}

bool neap_ctl_take(struct neap_ctl *ctl, uint32_t *ret)
{
    for (uint32_t i = 0; i < NEAP_ARRAY_LEN(ctl->used); i++) {
        if (ctl->used[i] == UINT64_MAX)
            continue;
        unsigned bit = (unsigned)__builtin_ctzll(~ctl->used[i]);

        ctl->used[i] |= 1ull << bit;
        *ret = i * 64 + bit;
        return true;
    }
    return false;
}

void neap_ctl_give(struct neap_ctl *ctl, uint32_t slot, uint32_t lanes)
{
    _Atomic uint64_t *tails = neap_ctl_tails(ctl, slot);

    for (uint32_t i = 0; i < lanes && i < NEAP_LANES_MAX; i++)
        atomic_store_explicit(&tails[i], 0, memory_order_relaxed);
    ctl->used[slot / 64] &= ~(1ull << slot % 64);
}

_Atomic uint64_t *neap_ctl_tails(const struct neap_ctl *ctl, uint32_t slot)
{
    return (_Atomic uint64_t *)((char *)ctl->header + NEAP_CTL_SLOT_OFFSET(slot));
}

uint64_t neap_ctl_tick(struct neap_ctl *ctl)
{
    uint64_t now = monotonic_ns() - ctl->start_ns;

    atomic_store_explicit(&ctl->header->now_ns, now, memory_order_relaxed);
    return now;
}
