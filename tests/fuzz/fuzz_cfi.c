/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hook's reader of unwind tables on any bytes: it runs inside malloc, in programs
 * whose tables nobody checked. It must end, read nothing outside the module, and never
 * call a step made that lacks the next frame's registers.
 *
 * Input: a module from its .eh_frame_hdr on. Every 37th byte from 4096 to 4352 behind
 * its start is looked up.
 */
#include "libhook/cfi.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Memory is there at two addresses of three. */
static bool peek(void *context, uint64_t address, uint64_t *ret)
{
    (void)context;
    if (address % 3 == 0)
        return false;
    *ret = address * 0x9e3779b97f4a7c15ull;
    return true;
}

static void step(const struct neap_cfi_module *module, const struct neap_cfi_row *row,
                 uint32_t known)
{
    const uint32_t needed = 1u << NEAP_REG_RA | 1u << NEAP_REG_RSP;
    struct neap_cfi_regs regs = {.known = known};
    bool end;

    for (unsigned i = 0; i < NEAP_REGS; i++)
        regs.value[i] = 0x10000 * (i + 1);
    if (neap_cfi_apply(module, row, peek, NULL, &regs, &end)) {
        if (!end && (regs.known & needed) != needed)
            abort();
    } else if (regs.known != known) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    /* A copy of exactly this length, so that a byte beyond it is seen. */
    uint8_t *copy = malloc(length ? length : 1);
    struct neap_cfi_module module = {copy, copy, copy + length};

    if (!copy)
        return 0;
    memcpy(copy, bytes, length);
    for (uint64_t offset = 4096; offset < 4352; offset += 37) {
        struct neap_cfi_row row;
        bool signal;

        if (neap_cfi_find(&module, (uint64_t)(uintptr_t)copy + offset, &row, &signal) !=
            NEAP_CFI_OK)
            continue;
        step(&module, &row, (1u << NEAP_REGS) - 1);
        step(&module, &row, 1u << NEAP_REG_RA | 1u << NEAP_REG_RSP);
    }
    free(copy);
    return 0;
}
