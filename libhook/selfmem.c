/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/selfmem.h"

#include <sys/mman.h>

#include "libhook/sys.h"

void *neap_selfmem_map(size_t bytes)
{
    long address = NEAP_SYS(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return neap_sys_failed(address) ? NULL : (void *)address;
}

void *neap_selfmem_wiped(size_t bytes)
{
    void *memory = neap_selfmem_map(bytes);

    if (memory &&
        neap_sys_failed(NEAP_SYS3(SYS_madvise, memory, bytes, MADV_WIPEONFORK))) {
        NEAP_SYS2(SYS_munmap, memory, bytes);
        return NULL;
    }
    return memory;
}

void neap_selfmem_clear(void *memory, size_t bytes)
{
    NEAP_SYS3(SYS_madvise, memory, bytes, MADV_DONTNEED);
}
