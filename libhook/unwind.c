/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks: by compiled rules (rules.h), going on from the thread's last one where nothing
 * has changed; by .eh_frame itself for frames that have no plain rule; with all
 * registers where even that is not enough.
 */
#include "libhook/unwind.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "libhook/cfi.h"
#include "libhook/life.h"
#include "libhook/modules.h"
#include "libhook/oracle.h"
#include "libhook/rules.h"
#include "libhook/selfmem.h"
#include "libhook/stack.h"
#include "libhook/sys.h"

static enum neap_unwinder engine;
static bool wants_libunwind;

/* ---- walking ---- */

/* 64 bits of identity, from the root inwards, so that it can go on from a known frame.
 */
NEAP_ALWAYS_INLINE uint64_t hash_step(uint64_t hash, uint64_t pc)
{
    hash = (hash ^ pc) * 0x9fb21c651e98df25ull;
    return hash ^ hash >> 29;
}

struct state {
    uint64_t pc, sp, bp;
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

NEAP_ALWAYS_INLINE enum step step(struct neap_stack_reader *reader, struct state *s,
                                  bool own_stack)
{
    uint64_t word = neap_rules_get(s->pc - 1);
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
                                  bool own_stack, uint64_t *pcs, unsigned *depth)
{
    unsigned n = 0;
    enum step outcome = STEP_ON;

    while (n < NEAP_STACK_DEPTH_MAX) {
        pcs[n++] = s->pc;
        outcome = step(reader, s, own_stack);
        if (NEAP_UNLIKELY(outcome != STEP_ON))
            break;
    }
    *depth = n;
    return outcome;
}

static void seal(struct neap_walk *ret, uint64_t seed, const uint64_t *pcs,
                 unsigned depth, unsigned flags)
{
    uint64_t hash = seed;

    for (unsigned i = depth; i-- > 0;)
        hash = hash_step(hash, pcs[i]);
    *ret = (struct neap_walk){hash ? hash : 1, (uint16_t)depth, (uint16_t)flags, false};
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

static NEAP_NOINLINE void walk_cfi(struct neap_tls *tls,
                                   const struct neap_context *context, uint64_t seed,
                                   uint64_t *pcs, struct neap_walk *ret)
{
    bool own_stack = neap_stack_owns(tls, context->sp);
    struct neap_stack_reader reader = {.lo = context->sp,
                                       .hi = own_stack ? tls->stack_hi : context->sp};
    struct state state = {context->pc, context->sp, context->bp};
    unsigned depth = 0;
    enum step outcome;

    if (NEAP_LIKELY(own_stack))
        outcome = walk(&reader, &state, true, pcs, &depth);
    else
        outcome = walk(&reader, &state, false, pcs, &depth);
    if (NEAP_UNLIKELY(outcome == STEP_LOST)) {
        unsigned more = 0;
        enum step second;

        /* The second try overwrites with the same frames, as far as it gets. */
        second = walk_registers(context, &reader, pcs, &more);
        if (more >= depth) {
            depth = more;
            outcome = second;
        }
    }
    seal(ret, seed, pcs, depth,
         outcome == STEP_END    ? 0
         : outcome == STEP_LOST ? NEAP_STACK_TRUNCATED | NEAP_STACK_UNREADABLE
                                : NEAP_STACK_TRUNCATED);
}

/* ---- the last walk ---- */

/*
 * Most stacks share their outer frames with the thread's last one. Each frame of that
 * is kept with the stack slot its return address came from, and each slot a frame
 * pointer was loaded from with what was in it. A walk is a function of where it starts
 * (pc, sp, rbp), of the rules, and of the slots it reads. So if every slot from a frame
 * to the root still holds what it held, and the new walk comes to that frame with the
 * same sp and rbp, the rest of it is the rest of the old one. All slots are compared,
 * not only the one where the walks meet: frames further out may have changed while
 * that one was written with the same value again.
 *
 * Only on the thread's own stack, where all slots from sp up are mapped; a new
 * generation starts afresh; where it does not pay (fewer than half of the frames are
 * known) it rests for a while. Comparing costs 0.3 ns a frame, walking 5.
 */
struct known_frame {
    uint64_t slot;  /* of the return address */
    uint64_t pc;    /* what is in it */
    uint64_t bp;    /* rbp on returning there */
    uint64_t hash;  /* of this frame and all outer ones */
    uint32_t loads; /* of rbp, in this frame and all outer ones */
};

struct rbp_load {
    uint64_t slot, value;
    uint32_t frame; /* that came by its rbp so */
};

struct neap_memo {
    uint32_t depth; /* frames known, outermost first; 0 = none */
    uint32_t generation;
    uint64_t stack_hi; /* of the stack they are on: a lane's last thread had another */
    int32_t score;     /* falls with each walk that knew less than half */
    int32_t rest;      /* walks until the next try */
    struct known_frame frame[NEAP_STACK_DEPTH_MAX];
    struct rbp_load load[NEAP_STACK_DEPTH_MAX];
    struct {
        uint64_t slot, pc, bp, rbp_slot;
    } fresh[NEAP_STACK_DEPTH_MAX]; /* this walk's, innermost first */
};

#define SCORE_MIN (-64)
#define SCORE_MAX 64
#define REST      1024

struct neap_memo *neap_unwind_memo(void)
{
    return neap_selfmem_map(sizeof(struct neap_memo));
}

/* How many of the frames known, from the root, are as they were. */
NEAP_ALWAYS_INLINE unsigned still_known(const struct neap_memo *memo, uint64_t sp)
{
    unsigned n = memo->depth, i, loads;

    while (n > 0 && memo->frame[n - 1].slot < sp - 8)
        n--;
    for (i = 0; i < n; i++)
        if (*(const uint64_t *)(uintptr_t)memo->frame[i].slot != memo->frame[i].pc)
            break;
    loads = i ? memo->frame[i - 1].loads : 0;
    /* The innermost's may lie below sp, where nothing need be mapped: its rbp is
     * compared itself where the walks meet. */
    for (unsigned l = 0; l < loads; l++)
        if (memo->load[l].slot >= sp &&
            *(const uint64_t *)(uintptr_t)memo->load[l].slot != memo->load[l].value)
            return memo->load[l].frame;
    return i;
}

/* Append the fresh frames behind the `base` ones that stay. */
NEAP_ALWAYS_INLINE void remember(struct neap_memo *memo, unsigned base, unsigned fresh,
                                 uint64_t seed)
{
    uint64_t hash = base ? memo->frame[base - 1].hash : seed;
    uint32_t loads = base ? memo->frame[base - 1].loads : 0;

    for (unsigned i = fresh; i-- > 0;) {
        struct known_frame *frame = &memo->frame[base + fresh - 1 - i];

        frame->slot = memo->fresh[i].slot;
        frame->pc = memo->fresh[i].pc;
        frame->bp = memo->fresh[i].bp;
        if (memo->fresh[i].rbp_slot)
            memo->load[loads++] = (struct rbp_load){
                memo->fresh[i].rbp_slot, memo->fresh[i].bp, base + fresh - 1 - i};
        frame->loads = loads;
        frame->hash = hash = hash_step(hash, frame->pc);
    }
    memo->depth = base + fresh;
}

static void keep_score(struct neap_memo *memo, unsigned base)
{
    if (base * 2 >= memo->depth) {
        if (memo->score < SCORE_MAX)
            memo->score++;
    } else if (--memo->score < SCORE_MIN) {
        memo->rest = REST;
        memo->score = 0;
        memo->depth = 0;
    }
}

/* False: not by this way (a frame without a plain rule, say); nothing is known then. */
static bool walk_from_last(struct neap_tls *tls, const struct neap_context *context,
                           uint32_t generation, uint64_t seed, struct neap_walk *ret)
{
    struct neap_memo *memo = tls->memo;
    uint64_t pc = context->pc, sp = context->sp, bp = context->bp, rbp_slot = 0;
    unsigned known, fresh = 0;

    if (NEAP_UNLIKELY(memo->rest > 0)) {
        memo->rest--;
        return false;
    }
    if (!neap_stack_owns(tls, sp))
        return false;
    if (NEAP_UNLIKELY(memo->generation != generation ||
                      memo->stack_hi != tls->stack_hi)) {
        memo->generation = generation;
        memo->stack_hi = tls->stack_hi;
        memo->depth = 0;
    }
    known = still_known(memo, sp);
    memo->depth = 0; /* until this walk has come to its end */
    for (;;) {
        uint64_t slot = sp - 8, word, cfa, saved;

        while (known > 0 && memo->frame[known - 1].slot < slot)
            known--;
        if (known > 0 && memo->frame[known - 1].slot == slot &&
            memo->frame[known - 1].bp == bp)
            break;
        if (NEAP_UNLIKELY(fresh + 1 >= NEAP_STACK_DEPTH_MAX))
            return false;
        memo->fresh[fresh].slot = slot;
        memo->fresh[fresh].pc = pc;
        memo->fresh[fresh].bp = bp;
        memo->fresh[fresh++].rbp_slot = rbp_slot;
        word = neap_rules_get(pc - 1);
        if (NEAP_UNLIKELY((word & NEAP_RULE_MASK) == NEAP_RULE_OTHER)) {
            if ((word & 0xf) != NEAP_RULE_END)
                return false;
            known = 0;
            break;
        }
        cfa = ((word & NEAP_RULE_MASK) == NEAP_RULE_RSP ? sp : bp) +
              (word >> 14 & 0x7fff) * 8;
        saved = word >> 2 & 0xfff;
        if (NEAP_UNLIKELY(cfa - 8 - sp >= tls->stack_hi - sp || (cfa & 7) != 0 ||
                          (saved && cfa - saved * 8 < sp)))
            return false;
        pc = *(const uint64_t *)(uintptr_t)(cfa - 8);
        rbp_slot = saved ? cfa - saved * 8 : 0;
        if (saved)
            bp = *(const uint64_t *)(uintptr_t)rbp_slot;
        sp = cfa;
        if (NEAP_UNLIKELY(pc < NEAP_PAGE)) {
            known = 0;
            break;
        }
    }
    if (NEAP_UNLIKELY(known + fresh >= NEAP_STACK_DEPTH_MAX))
        return false;
    remember(memo, known, fresh, seed);
    *ret = (struct neap_walk){memo->frame[memo->depth - 1].hash, (uint16_t)memo->depth,
                              0, true};
    if (NEAP_UNLIKELY(ret->hash == 0))
        ret->hash = 1;
    keep_score(memo, known);
    return true;
}

/* ---- face ---- */

static void walk_libunwind(const struct neap_context *context, uint64_t seed,
                           uint64_t *pcs, struct neap_walk *ret)
{
    unsigned depth = neap_oracle_frames(context, pcs);

    if (depth == 0) {
        pcs[0] = context->pc;
        depth = 1;
    }
    for (unsigned i = 0; i < depth; i++)
        neap_modules_note(pcs[i] - 1);
    seal(ret, seed, pcs, depth,
         depth >= NEAP_STACK_DEPTH_MAX - 8 ? NEAP_STACK_TRUNCATED : 0);
}

void neap_unwind(struct neap_tls *tls, const struct neap_context *context,
                 uint32_t generation, uint64_t *pcs, struct neap_walk *ret)
{
    uint64_t seed = 0x243f6a8885a308d3ull + generation;

    if (NEAP_LIKELY(engine == NEAP_UNWINDER_CFI)) {
        if (!tls->memo || !walk_from_last(tls, context, generation, seed, ret))
            walk_cfi(tls, context, seed, pcs, ret);
    } else if (engine == NEAP_UNWINDER_LIBUNWIND && neap_oracle_ready()) {
        walk_libunwind(context, seed, pcs, ret);
    } else {
        pcs[0] = context->pc;
        neap_modules_note(context->pc - 1);
        seal(ret, seed, pcs, 1, NEAP_STACK_TRUNCATED);
    }
}

void neap_unwind_frames(const struct neap_tls *tls, const struct neap_walk *walked,
                        uint64_t *pcs)
{
    if (walked->remembered)
        for (unsigned i = 0; i < walked->depth; i++)
            pcs[i] = tls->memo->frame[walked->depth - 1 - i].pc;
}

void neap_unwind_configure(const char *wish, const char *verify)
{
    wants_libunwind = wish && strcmp(wish, "libunwind") == 0;
    neap_oracle_configure(verify);
}

bool neap_unwind_init(void)
{
#if defined(__x86_64__)
    engine = neap_modules_lock_free() ? NEAP_UNWINDER_CFI : NEAP_UNWINDER_LIBUNWIND;
#else
    engine = NEAP_UNWINDER_LIBUNWIND;
#endif
    if (wants_libunwind)
        engine = NEAP_UNWINDER_LIBUNWIND;
    return neap_rules_init();
}

void neap_unwind_load(void)
{
    if (!neap_oracle_load(engine == NEAP_UNWINDER_LIBUNWIND) &&
        engine == NEAP_UNWINDER_LIBUNWIND)
        engine = NEAP_UNWINDER_NONE;
}

enum neap_unwinder neap_unwind_engine(void)
{
    return engine;
}
