/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/walk.h"

#include "libhook/cfi.h"
#include "libhook/modules.h"
#include "libhook/rules.h"
#include "libhook/stack.h"

void neap_walk_seal(struct neap_walk *ret, uint64_t seed, const uint64_t *pcs,
                    unsigned depth, unsigned flags)
{
    uint64_t hash = seed;

    for (unsigned i = depth; i-- > 0;)
        hash = neap_walk_hash(hash, pcs[i]);
    *ret = (struct neap_walk){
        .hash = hash ? hash : 1, .depth = (uint16_t)depth, .flags = (uint16_t)flags};
}

struct state {
    uint64_t pc, sp, bp;
    bool complex; /* some frame had no plain rule */
};

/*
 * One step by .eh_frame itself, for frames that have no plain rule but need no other
 * register: signal frames, PLT stubs, realigned stacks. A signal frame's pc is that of
 * the interrupted instruction; 1 is added so that, like everywhere, pc - 1 is in it.
 */
static NEAP_COLD bool step_complex(struct neap_stack_reader *reader, struct state *s,
                                   bool *ret_end)
{
    struct neap_cfi_regs regs = {.known = 1u << NEAP_REG_RSP | 1u << NEAP_REG_RBP |
                                          1u << NEAP_REG_RA};
    struct neap_cfi_module module;
    struct neap_cfi_row row;
    enum neap_cfi_found found;
    bool signal;

    s->complex = true;
    if (!neap_rules_find(s->pc - 1, &module, &row, &signal, &found) &&
        /* a signal trampoline is entered at its first byte: no call precedes it */
        !(neap_rules_find(s->pc, &module, &row, &signal, &found) && signal))
        return false;
    regs.value[NEAP_REG_RSP] = s->sp;
    regs.value[NEAP_REG_RBP] = s->bp;
    regs.value[NEAP_REG_RA] = s->pc;
    if (!neap_cfi_apply(&module, &row, neap_stack_peek, reader, &regs, ret_end) ||
        (!*ret_end && !(regs.known >> NEAP_REG_RBP & 1)))
        return false;
    s->pc = regs.value[NEAP_REG_RA] + (signal ? 1 : 0);
    s->sp = regs.value[NEAP_REG_RSP];
    s->bp = regs.value[NEAP_REG_RBP];
    return true;
}

enum step {
    STEP_ON,
    STEP_END,
    STEP_LOST
};

/* `careful`: a library may just be going, so what is known of it is not believed. */
NEAP_ALWAYS_INLINE enum step step(struct neap_stack_reader *reader, struct state *s,
                                  bool own_stack, bool careful)
{
    uint64_t word = careful ? neap_rules_compile(s->pc - 1) : neap_rules_get(s->pc - 1);
    uint64_t cfa, saved = word >> 2 & 0xfff;
    bool end;

    if (NEAP_UNLIKELY((word & NEAP_RULE_MASK) == NEAP_RULE_OTHER)) {
        if ((word & 0xf) == NEAP_RULE_END)
            return STEP_END;
        if (!step_complex(reader, s, &end))
            return STEP_LOST;
        return end ? STEP_END : STEP_ON;
    }
    cfa = ((word & NEAP_RULE_MASK) == NEAP_RULE_RSP ? s->sp : s->bp) +
          (word >> 14 & 0x7fff) * 8;
    if (own_stack) {
        /* The CFA only moves outwards; a frame pointer that was used for something
         * else ends the walk here instead of sending it anywhere. */
        if (NEAP_UNLIKELY(cfa - 8 - s->sp >= reader->hi - s->sp) || (cfa & 7) != 0)
            return STEP_LOST;
        s->pc = *(const uint64_t *)(uintptr_t)(cfa - 8);
        if (saved) {
            uint64_t slot = cfa - saved * 8;

            if (NEAP_UNLIKELY(slot < s->sp))
                return STEP_LOST;
            s->bp = *(const uint64_t *)(uintptr_t)slot;
        }
    } else if (!neap_stack_peek(reader, cfa - 8, &s->pc) ||
               (saved && !neap_stack_peek(reader, cfa - saved * 8, &s->bp))) {
        return STEP_LOST;
    }
    s->sp = cfa;
    return NEAP_LIKELY(s->pc >= NEAP_PAGE) ? STEP_ON : STEP_END;
}

/* Returns the last step's outcome. STEP_ON: there are more frames than room. */
NEAP_ALWAYS_INLINE enum step walk(struct neap_stack_reader *reader, struct state *s,
                                  bool own_stack, bool careful, uint64_t *pcs,
                                  unsigned *depth)
{
    unsigned n = 0;
    enum step outcome = STEP_ON;

    while (n < NEAP_STACK_DEPTH_MAX) {
        pcs[n++] = s->pc;
        outcome = step(reader, s, own_stack, careful);
        if (NEAP_UNLIKELY(outcome != STEP_ON))
            break;
    }
    *depth = n;
    return outcome;
}

bool neap_walk_out(struct neap_tls *tls, struct neap_context *context, uint64_t start,
                   uint64_t end)
{
    bool own_stack = neap_stack_owns(tls, context->sp);
    struct neap_stack_reader reader = {.lo = context->sp,
                                       .hi = own_stack ? tls->stack_hi : context->sp};
    struct state state = {context->pc, context->sp, context->bp, false};

    for (unsigned steps = 0; state.pc - 1 - start < end - start; steps++) {
        /* Our calls go no deeper than this. */
        if (steps == 64 || step(&reader, &state, false, false) != STEP_ON)
            return false;
    }
    *context = (struct neap_context){state.pc, state.sp, state.bp};
    return true;
}

/*
 * The walk again with every register: for frames whose CFA hangs on one that the
 * rules do not follow (lazy binding's rbx, a prologue's r10). Starts at ourselves,
 * where all registers are known, and keeps frames from `context` outwards. 200 to
 * 400 ns a frame; 1 in some 10^5 traces.
 */
static NEAP_COLD NEAP_NOINLINE enum step
walk_registers(const struct neap_context *context, struct neap_stack_reader *reader,
               uint64_t *pcs, unsigned *depth)
{
    struct neap_cfi_regs regs = {.known = 0};
    bool inside = false, end = false;
    unsigned n = 0;

#if defined(__x86_64__)
    uint64_t *value = regs.value;

    __asm__ volatile("movq %%rbx, 24(%0)\n\t"
                     "movq %%rbp, 48(%0)\n\t"
                     "movq %%rsp, 56(%0)\n\t"
                     "movq %%r12, 96(%0)\n\t"
                     "movq %%r13, 104(%0)\n\t"
                     "movq %%r14, 112(%0)\n\t"
                     "movq %%r15, 120(%0)\n\t"
                     "leaq 1(%%rip), %%rax\n\t"
                     "movq %%rax, 128(%0)"
                     :
                     : "r"(value)
                     : "rax", "memory");
    regs.known = 0x1f0c8; /* rbx rbp rsp r12..r15 pc */
#else
    return STEP_LOST;
#endif
    for (unsigned steps = 0; n < NEAP_STACK_DEPTH_MAX; steps++) {
        struct neap_cfi_module module;
        struct neap_cfi_row row;
        enum neap_cfi_found found;
        bool signal = false;
        uint64_t pc = regs.value[NEAP_REG_RA];

        if (!inside && pc == context->pc && regs.value[NEAP_REG_RSP] == context->sp)
            inside = true;
        if (inside)
            pcs[n++] = pc;
        else if (steps > 16)
            return STEP_LOST;
        if (!neap_rules_find(pc - 1, &module, &row, &signal, &found) &&
            !(neap_rules_find(pc, &module, &row, &signal, &found) && signal)) {
            end = neap_modules_is_loader(pc - 1) || neap_rules_made_by_hand(pc);
            break;
        }
        if (!neap_cfi_apply(&module, &row, neap_stack_peek, reader, &regs, &end) || end)
            break;
        regs.value[NEAP_REG_RA] += signal ? 1 : 0;
        if (regs.value[NEAP_REG_RA] < NEAP_PAGE) {
            end = true;
            break;
        }
    }
    *depth = n;
    if (end)
        return STEP_END;
    return n == NEAP_STACK_DEPTH_MAX ? STEP_ON : STEP_LOST;
}

NEAP_NOINLINE void neap_walk(struct neap_tls *tls, const struct neap_context *context,
                             uint64_t seed, bool careful, uint64_t *pcs,
                             struct neap_walk *ret)
{
    bool own_stack = neap_stack_owns(tls, context->sp);
    struct neap_stack_reader reader = {.lo = context->sp,
                                       .hi = own_stack ? tls->stack_hi : context->sp};
    struct state state = {context->pc, context->sp, context->bp, false};
    unsigned depth = 0;
    enum step outcome;

    if (NEAP_UNLIKELY(careful))
        outcome = walk(&reader, &state, false, true, pcs, &depth);
    else if (NEAP_LIKELY(own_stack))
        outcome = walk(&reader, &state, true, false, pcs, &depth);
    else
        outcome = walk(&reader, &state, false, false, pcs, &depth);
    if (NEAP_UNLIKELY(outcome == STEP_LOST)) {
        unsigned more = 0;
        enum step second;

        state.complex = true;
        /* The second try overwrites with the same frames, as far as it gets. */
        second = walk_registers(context, &reader, pcs, &more);
        if (more >= depth) {
            depth = more;
            outcome = second;
        }
    }
    neap_walk_seal(ret, seed, pcs, depth,
                   outcome == STEP_END    ? 0
                   : outcome == STEP_LOST ? NEAP_STACK_TRUNCATED | NEAP_STACK_UNREADABLE
                                          : NEAP_STACK_TRUNCATED);
    ret->fallback = state.complex;
}
