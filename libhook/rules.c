/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/rules.h"

#include "libhook/modules.h"
#include "libhook/selfmem.h"
#include "libhook/unwind.h"

#define RULE_BYTES ((size_t)8 * NEAP_RULES_BUCKET << NEAP_RULES_BITS)

_Atomic uint64_t *neap_rules;

bool neap_rules_init(void)
{
    neap_rules = neap_selfmem_wiped(RULE_BYTES);
    return neap_rules != NULL;
}

bool neap_rules_find(uint64_t pc, struct neap_cfi_module *module,
                     struct neap_cfi_row *row, bool *signal, enum neap_cfi_found *found)
{
    struct neap_object object;

    if (!neap_modules_find(pc, &object) || !object.eh_frame_hdr) {
        *found = NEAP_CFI_NONE;
        return false;
    }
    *module = (struct neap_cfi_module){object.eh_frame_hdr, object.start, object.end};
    *found = neap_cfi_find(module, pc, row, signal);
    return *found == NEAP_CFI_OK;
}

bool neap_rules_made_by_hand(uint64_t pc)
{
    struct neap_cfi_module module;
    struct neap_cfi_row row;
    enum neap_cfi_found found;
    bool signal;

    return neap_rules_find(pc, &module, &row, &signal, &found) && !signal;
}

/* For the call before `pc + 1`, as a word without its tag. */
uint64_t neap_rules_compile(uint64_t pc)
{
    struct neap_cfi_module module;
    struct neap_cfi_row row;
    const struct neap_cfi_rule *ra = &row.reg[NEAP_REG_RA],
                               *rbp = &row.reg[NEAP_REG_RBP];
    enum neap_cfi_found found;
    uint64_t word;
    bool signal;

    if (!neap_rules_find(pc, &module, &row, &signal, &found))
        return found == NEAP_CFI_NONE && neap_modules_is_loader(pc) ? NEAP_RULE_END
                                                                    : NEAP_RULE_NONE;
    if (ra->kind == NEAP_CFI_UNDEFINED)
        return NEAP_RULE_END;
    if (signal || row.reg[NEAP_REG_RSP].kind != NEAP_CFI_SAME ||
        ra->kind != NEAP_CFI_OFFSET || ra->value != -8 || row.cfa_value < 0 ||
        row.cfa_value % 8 != 0 || row.cfa_value / 8 >= 1 << 15)
        return NEAP_RULE_COMPLEX;
    word = (uint64_t)(row.cfa_value / 8) << 14;
    if (rbp->kind == NEAP_CFI_OFFSET) {
        if (rbp->value >= 0 || rbp->value % 8 != 0 || rbp->value / -8 >= 1 << 12)
            return NEAP_RULE_COMPLEX;
        word |= (uint64_t)(rbp->value / -8) << 2;
    } else if (rbp->kind != NEAP_CFI_SAME) {
        return NEAP_RULE_COMPLEX;
    }
    if (row.cfa_reg == NEAP_REG_RSP)
        return word | NEAP_RULE_RSP;
    return row.cfa_reg == NEAP_REG_RBP ? word | NEAP_RULE_RBP : NEAP_RULE_COMPLEX;
}

NEAP_COLD uint64_t neap_rules_fill(uint64_t pc, uint64_t mixed)
{
    _Atomic uint64_t *bucket = neap_rules + (mixed >> 35) * NEAP_RULES_BUCKET;
    uint64_t word = neap_rules_compile(pc);

    /* Code without rules today may be a module's tomorrow: not remembered. */
    if (word == NEAP_RULE_NONE)
        return word;
    word |= mixed << 29;
    for (unsigned i = 0; i < NEAP_RULES_BUCKET; i++) {
        uint64_t empty = 0;

        if (atomic_compare_exchange_strong_explicit(
                &bucket[i], &empty, word, memory_order_relaxed, memory_order_relaxed))
            return word;
    }
    atomic_store_explicit(&bucket[mixed % NEAP_RULES_BUCKET], word,
                          memory_order_relaxed);
    return word;
}

void neap_unwind_forget(void)
{
    neap_selfmem_clear(neap_rules, RULE_BYTES);
}
