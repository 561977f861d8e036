/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Call frame information: what .eh_frame says about one program counter.
 *
 * A small interpreter of DWARF CFI for this process's own modules, found through
 * their .eh_frame_hdr. It takes no lock, allocates nothing, calls nothing of libc,
 * and uses about a KiB of stack: it runs inside malloc, on any stack.
 *
 * Sources: DWARF 5 §6.4, the LSB's .eh_frame and .eh_frame_hdr, the psABI's register
 * numbers.
 */
#ifndef NEAP_LIBHOOK_CFI_H
#define NEAP_LIBHOOK_CFI_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/attr.h"

enum {
    NEAP_REG_RBX = 3,
    NEAP_REG_RBP = 6,
    NEAP_REG_RSP = 7,
    NEAP_REG_RA = 16,
    NEAP_REGS = 17, /* x86-64: rax rdx rcx rbx rsi rdi rbp rsp r8..r15 and the pc */
};

enum neap_cfi_rule_kind {
    NEAP_CFI_SAME = 0, /* not touched by this frame */
    NEAP_CFI_UNDEFINED,
    NEAP_CFI_OFFSET,     /* saved at CFA + value */
    NEAP_CFI_VAL_OFFSET, /* is CFA + value */
    NEAP_CFI_REGISTER,   /* is in register value */
    NEAP_CFI_EXPR,       /* saved at the address the expression gives */
    NEAP_CFI_VAL_EXPR,   /* is what the expression gives */
};

struct neap_cfi_rule {
    uint32_t kind;
    int32_t value; /* for expressions: where they stand, from the module's header */
};

struct neap_cfi_row {
    uint32_t cfa_reg; /* NEAP_CFI_CFA_EXPR: cfa_value leads to an expression */
    int32_t cfa_value;
    struct neap_cfi_rule reg[NEAP_REGS];
};

#define NEAP_CFI_CFA_EXPR 0xffffu

/* Where to look: the module that holds the pc. */
struct neap_cfi_module {
    const uint8_t *hdr;   /* .eh_frame_hdr in memory */
    const uint8_t *start; /* mapped range: nothing outside is read */
    const uint8_t *end;
};

enum neap_cfi_found {
    NEAP_CFI_OK,
    NEAP_CFI_NONE, /* no rules for this pc: JIT code, or assembly without any */
    NEAP_CFI_BAD,  /* rules that we cannot read */
};

/* The rules in force at `pc`. `*ret_signal`: the frame was interrupted, not calling. */
enum neap_cfi_found neap_cfi_find(const struct neap_cfi_module *module, uint64_t pc,
                                  struct neap_cfi_row *ret, bool *ret_signal);

/* Reads 8 bytes of the program's memory; false if they are not there. */
typedef bool neap_cfi_peek(void *context, uint64_t address, uint64_t *ret);

struct neap_cfi_regs {
    uint64_t value[NEAP_REGS];
    uint32_t known; /* bit n: value[n] holds */
};

/*
 * One step outwards: apply `row` to `regs`. The new stack pointer is the CFA, the new
 * pc the return address. False: a register or memory it needs is not there.
 * `*ret_end`: the outermost frame (its return address is undefined).
 */
bool neap_cfi_apply(const struct neap_cfi_module *module,
                    const struct neap_cfi_row *row, neap_cfi_peek *peek, void *context,
                    struct neap_cfi_regs *regs, bool *ret_end);

#endif
