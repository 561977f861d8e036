/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an executable. The answer may be anything; getting it may not read
 * beyond the file, nor take memory or time that the size of the file does not explain.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct neap_elf elf;

    if (fd < 0)
        fd = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    neap_elf_inspect(fd, &elf);
    if (!elf.is_elf && (elf.interpreted || elf.go || elf.own_malloc || elf.named))
        abort();
    return 0;
}
