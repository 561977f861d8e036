/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule is one atomic word:
 *
 *     bits 63..29  tag      35 low bits of the mixed pc
 *     bits 28..14  cfa      (CFA - register) / 8
 *     bits 13..2   rbp      0 = kept, else (CFA - slot of the saved rbp) / 8
 *     bits  1..0   kind     1 CFA from rsp, 2 CFA from rbp, 3 no plain rule:
 *                           END (outermost) or COMPLEX (ask .eh_frame again)
 *
 * The mixing of the 48-bit pc is a bijection and its 13 high bits choose the bucket
 * of eight words, a cache line, so a word names its pc exactly. Words are only ever
 * written whole; a lost race costs another look into .eh_frame.
 */
#ifndef NEAP_LIBHOOK_RULES_H
#define NEAP_LIBHOOK_RULES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libhook/cfi.h"
#include "schema/attr.h"

#define NEAP_RULES_BITS   13 /* buckets of one cache line: 512 KiB, touched as used */
#define NEAP_RULES_BUCKET 8
enum {
    NEAP_RULE_RSP = 1,
    NEAP_RULE_RBP = 2,
    NEAP_RULE_OTHER = 3
};

#define NEAP_RULE_MASK    3u
#define NEAP_RULE_END     (1u << 2 | NEAP_RULE_OTHER)
#define NEAP_RULE_COMPLEX (2u << 2 | NEAP_RULE_OTHER)
#define NEAP_RULE_NONE    (3u << 2 | NEAP_RULE_OTHER)

extern _Atomic uint64_t *neap_rules;

/* Caller holds NEAP_INTERNAL; once per image. */
bool neap_rules_init(void);

/* What .eh_frame says of `pc` itself, uncompiled. */
bool neap_rules_find(uint64_t pc, struct neap_cfi_module *module,
                     struct neap_cfi_row *row, bool *signal,
                     enum neap_cfi_found *found);

/*
 * No call returns to a function's first byte. Such a return address was put on the
 * stack by hand, under a new stack's first function (makecontext's __start_context):
 * the walk has reached the root, unless it is a signal trampoline.
 */
bool neap_rules_made_by_hand(uint64_t pc);

/* The rule for `pc` as .eh_frame has it now; nothing is taken from the table, or put
 * into it. */
uint64_t neap_rules_compile(uint64_t pc);

/* neap_rules_get's way on a miss. */
uint64_t neap_rules_fill(uint64_t pc, uint64_t mixed);

NEAP_ALWAYS_INLINE uint64_t neap_rules_mix(uint64_t pc)
{
    return (pc * 0x9e3779b97f4a7c15ull) & 0xffffffffffffull;
}

/* The word stands for itself alone, so relaxed loads and stores are enough. */
NEAP_ALWAYS_INLINE uint64_t neap_rules_get(uint64_t pc)
{
    uint64_t mixed = neap_rules_mix(pc), tag = mixed & ((1ull << 35) - 1);
    const _Atomic uint64_t *bucket = neap_rules + (mixed >> 35) * NEAP_RULES_BUCKET;

    for (unsigned i = 0; i < NEAP_RULES_BUCKET; i++) {
        uint64_t word = atomic_load_explicit(&bucket[i], memory_order_relaxed);

        if (NEAP_LIKELY(word >> 29 == tag && word != 0))
            return word;
        if (word == 0)
            break;
    }
    return neap_rules_fill(pc, mixed);
}

#endif
