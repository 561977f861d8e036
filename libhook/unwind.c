/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks that go on from the thread's last one where nothing has changed, and the choice
 * of the engine.
 */
#include "libhook/unwind.h"

#include <dlfcn.h>
#include <limits.h>
#include <string.h>

#include "libhook/life.h"
#include "libhook/modules.h"
#include "libhook/oracle.h"
#include "libhook/rules.h"
#include "libhook/selfmem.h"
#include "libhook/stack.h"
#include "libhook/walk.h"

static enum neap_unwinder engine;
static bool wants_libunwind;

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
 * rbp counts only where a frame further out has its CFA from it before it is loaded
 * anew: then it is live. Most functions save and restore it as any other register, so
 * most slots it was loaded from need not be looked at (half of all in a loop at depth
 * 20, 8 ns).
 *
 * Only on the thread's own stack, where all slots from sp up are mapped; a new
 * generation starts afresh; where it does not pay (fewer than half of the frames are
 * known) it rests for a while. Comparing costs 0.3 ns a frame, walking 5.
 */
struct slot {
    const uint64_t *at;
    uint64_t value;
};

struct known_frame {
    uint64_t bp;    /* rbp on returning there */
    uint64_t hash;  /* of this frame and all outer ones */
    uint32_t loads; /* of rbp that count, in this frame and all outer ones */
    bool live;      /* bp counts */
};

struct neap_memo {
    uint32_t depth; /* frames known, outermost first; 0 = none */
    uint32_t generation;
    uint64_t stack_hi; /* of the stack they are on: a lane's last thread had another */
    int32_t score;     /* falls with each walk that knew less than half */
    int32_t rest;      /* walks until the next try */
    struct slot ra[NEAP_STACK_DEPTH_MAX];      /* return addresses */
    struct slot load[NEAP_STACK_DEPTH_MAX];    /* of rbp */
    uint32_t load_frame[NEAP_STACK_DEPTH_MAX]; /* the frame that came by its rbp so */
    struct known_frame frame[NEAP_STACK_DEPTH_MAX];
    struct {
        uint64_t slot, pc, bp, rbp_slot;
        bool by_rbp;                   /* its CFA is */
    } fresh[NEAP_STACK_DEPTH_MAX + 1]; /* this walk's, innermost first */
};

#define SCORE_MIN (-64)
#define SCORE_MAX 64
#define REST      1024

struct neap_memo *neap_unwind_memo(void)
{
    return neap_selfmem_map(sizeof(struct neap_memo));
}

static uint64_t address_of(const struct slot *slot)
{
    return (uint64_t)(uintptr_t)slot->at;
}

/* The first of slots[0, n) that does not hold its value. Four at a time: nearly always
 * all of them do. */
NEAP_ALWAYS_INLINE unsigned first_changed(const struct slot *slots, unsigned n)
{
    const struct slot *slot = slots, *end = slots + n;

    for (; end - slot >= 4; slot += 4)
        if (NEAP_UNLIKELY(
                ((*slot[0].at ^ slot[0].value) | (*slot[1].at ^ slot[1].value) |
                 (*slot[2].at ^ slot[2].value) | (*slot[3].at ^ slot[3].value)) != 0))
            break;
    while (slot < end && *slot->at == slot->value)
        slot++;
    return (unsigned)(slot - slots);
}

/* How many of the frames known, from the root, are as they were. */
NEAP_ALWAYS_INLINE unsigned still_known(const struct neap_memo *memo, uint64_t sp)
{
    unsigned n = memo->depth, i, loads, changed;

    while (n > 0 && address_of(&memo->ra[n - 1]) < sp - 8)
        n--;
    i = first_changed(memo->ra, n);
    loads = i ? memo->frame[i - 1].loads : 0;
    /* The innermost's may lie below sp, where nothing need be mapped: its rbp is
     * compared itself where the walks meet. */
    if (loads > 0 && address_of(&memo->load[loads - 1]) < sp)
        loads--;
    changed = first_changed(memo->load, loads);
    return changed < loads ? memo->load_frame[changed] : i;
}

/*
 * Append the fresh frames behind the `base` ones that stay. fresh[`fresh`] is where
 * they meet, and says how the frame there came by its rbp this time.
 */
NEAP_ALWAYS_INLINE void remember(struct neap_memo *memo, unsigned base, unsigned fresh,
                                 uint64_t seed)
{
    uint64_t hash = base ? memo->frame[base - 1].hash : seed;
    uint32_t loads = base > 1 ? memo->frame[base - 2].loads : 0;
    bool live = base && memo->frame[base - 1].live;

    if (fresh == 0)
        return;
    if (live && memo->fresh[fresh].rbp_slot) {
        memo->load_frame[loads] = base - 1;
        memo->load[loads++] =
            (struct slot){(const uint64_t *)(uintptr_t)memo->fresh[fresh].rbp_slot,
                          memo->frame[base - 1].bp};
    }
    if (base)
        memo->frame[base - 1].loads = loads;
    for (unsigned i = fresh, at = base; i-- > 0; at++) {
        /* Its rule has loaded rbp for the next frame, or left it alone. */
        live = memo->fresh[i].by_rbp || (live && !memo->fresh[i + 1].rbp_slot);
        memo->ra[at] = (struct slot){(const uint64_t *)(uintptr_t)memo->fresh[i].slot,
                                     memo->fresh[i].pc};
        if (live && memo->fresh[i].rbp_slot) {
            memo->load_frame[loads] = at;
            memo->load[loads++] =
                (struct slot){(const uint64_t *)(uintptr_t)memo->fresh[i].rbp_slot,
                              memo->fresh[i].bp};
        }
        hash = neap_walk_hash(hash, memo->fresh[i].pc);
        memo->frame[at] = (struct known_frame){memo->fresh[i].bp, hash, loads, live};
    }
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

/* Do the walks meet at the innermost frame that is known? */
NEAP_ALWAYS_INLINE bool meet_at(const struct neap_memo *memo, unsigned known,
                                uint64_t sp, uint64_t bp)
{
    return known > 0 && address_of(&memo->ra[known - 1]) == sp - 8 &&
           (memo->frame[known - 1].bp == bp || !memo->frame[known - 1].live);
}

/*
 * From the caller outwards to where the walks meet. Returns how many frames stay, with
 * the others in memo->fresh and their number in `*ret_fresh`; UINT_MAX: not by this
 * way.
 */
NEAP_ALWAYS_INLINE unsigned walk_to_known(const struct neap_tls *tls,
                                          struct neap_memo *memo,
                                          const struct neap_context *context,
                                          unsigned known, unsigned *ret_fresh)
{
    uint64_t pc = context->pc, sp = context->sp, bp = context->bp, rbp_slot = 0;
    unsigned fresh = 0;

    for (;;) {
        uint64_t slot = sp - 8, word, cfa, saved;

        while (known > 0 && address_of(&memo->ra[known - 1]) < slot)
            known--;
        memo->fresh[fresh].rbp_slot = rbp_slot;
        if (meet_at(memo, known, sp, bp))
            break;
        if (NEAP_UNLIKELY(fresh + 1 >= NEAP_STACK_DEPTH_MAX))
            return UINT_MAX;
        memo->fresh[fresh].slot = slot;
        memo->fresh[fresh].pc = pc;
        memo->fresh[fresh].bp = bp;
        word = neap_rules_get(pc - 1);
        memo->fresh[fresh].by_rbp = (word & NEAP_RULE_MASK) == NEAP_RULE_RBP;
        fresh++;
        memo->fresh[fresh].rbp_slot = 0;
        if (NEAP_UNLIKELY((word & NEAP_RULE_MASK) == NEAP_RULE_OTHER)) {
            if ((word & 0xf) != NEAP_RULE_END)
                return UINT_MAX;
            known = 0;
            break;
        }
        cfa = ((word & NEAP_RULE_MASK) == NEAP_RULE_RSP ? sp : bp) +
              (word >> 14 & 0x7fff) * 8;
        saved = word >> 2 & 0xfff;
        if (NEAP_UNLIKELY(cfa - 8 - sp >= tls->stack_hi - sp || (cfa & 7) != 0 ||
                          (saved && cfa - saved * 8 < sp)))
            return UINT_MAX;
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
    *ret_fresh = fresh;
    return known;
}

/* False: not by this way (a frame without a plain rule, say); nothing is known then. */
NEAP_ALWAYS_INLINE bool walk_from_last(struct neap_tls *tls,
                                       const struct neap_context *context,
                                       uint32_t generation, uint64_t seed,
                                       struct neap_walk *ret)
{
    struct neap_memo *memo = tls->memo;
    unsigned known, fresh;

    if (NEAP_UNLIKELY(memo->rest > 0)) {
        memo->rest--;
        return false;
    }
    if (!neap_stack_owns(tls, context->sp))
        return false;
    if (NEAP_UNLIKELY(memo->generation != generation ||
                      memo->stack_hi != tls->stack_hi)) {
        memo->generation = generation;
        memo->stack_hi = tls->stack_hi;
        memo->depth = 0;
    }
    known = still_known(memo, context->sp);
    fresh = 0;
    /* The caller itself is known: the same call again. */
    if (!meet_at(memo, known, context->sp, context->bp)) {
        memo->depth = 0; /* until this walk has come to its end */
        known = walk_to_known(tls, memo, context, known, &fresh);
        if (NEAP_UNLIKELY(known == UINT_MAX || known + fresh >= NEAP_STACK_DEPTH_MAX))
            return false;
        remember(memo, known, fresh, seed);
    }
    memo->depth = known + fresh;
    *ret = (struct neap_walk){
        .hash = memo->frame[memo->depth - 1].hash,
        .depth = (uint16_t)memo->depth,
        .remembered = true,
    };
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
    neap_walk_seal(ret, seed, pcs, depth,
                   depth >= NEAP_STACK_DEPTH_MAX - 8 ? NEAP_STACK_TRUNCATED : 0);
    ret->fallback = true;
}

void neap_unwind(struct neap_tls *tls, const struct neap_context *context,
                 uint64_t epoch, uint64_t *pcs, struct neap_walk *ret)
{
    uint32_t generation = (uint32_t)epoch;
    uint64_t seed = 0x243f6a8885a308d3ull + generation;
    bool careful = epoch != generation;

    if (NEAP_LIKELY(engine == NEAP_UNWINDER_CFI)) {
        if (NEAP_UNLIKELY(!tls->memo || careful) ||
            !walk_from_last(tls, context, generation, seed, ret))
            neap_walk(tls, context, seed, careful, pcs, ret);
    } else if (engine == NEAP_UNWINDER_LIBUNWIND && neap_oracle_ready()) {
        walk_libunwind(context, seed, pcs, ret);
    } else {
        pcs[0] = context->pc;
        neap_modules_note(context->pc - 1);
        neap_walk_seal(ret, seed, pcs, 1, NEAP_STACK_TRUNCATED);
    }
}

void neap_unwind_frames(const struct neap_tls *tls, const struct neap_walk *walked,
                        uint64_t *pcs)
{
    if (walked->remembered)
        for (unsigned i = 0; i < walked->depth; i++)
            pcs[i] = tls->memo->ra[walked->depth - 1 - i].value;
}

/* Where we lie, by the linker's word. */
extern const uint8_t own_start[] __asm__("__ehdr_start")
    __attribute__((visibility("hidden")));
extern const uint8_t own_end[] __asm__("_end") __attribute__((visibility("hidden")));

bool neap_unwind_out(struct neap_tls *tls, struct neap_context *context)
{
    uint64_t start = (uint64_t)(uintptr_t)own_start, end = (uint64_t)(uintptr_t)own_end;

    if (NEAP_LIKELY(engine == NEAP_UNWINDER_CFI))
        return neap_walk_out(tls, context, start, end);
    return engine == NEAP_UNWINDER_LIBUNWIND && neap_oracle_ready() &&
           neap_oracle_out(context, start, end);
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
