/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What estimates are worth: programs whose truth is known, sampled as the hook does it,
 * many times over. Estimates have no bias, and the 95 % interval holds the truth about
 * as often as it says.
 *
 * A peak is the largest of many states, and which of them it was is a guess too: some
 * bias is left there. Which half a sample is in goes by its address, so heaps are
 * looked at that hand out each address again and again, and such that never do.
 */
#include "daemon/ingest/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/attr.h"

#define INTERVAL 4096
#define SLOTS    8192
#define SEEDS    1000

static uint64_t random_state;

static uint64_t draw_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du;
}

static double draw(void)
{
    return (double)(draw_word() >> 11) / 9007199254740992.0;
}

/* ---- a program under the sampler ---- */

struct slot {
    uint64_t address, size;
    bool live, sampled;
};

struct program {
    struct neap_estimate estimate;
    struct neap_measure alloc; /* estimated */
    struct slot slots[SLOTS];
    bool reuses;   /* addresses */
    uint64_t base; /* of them */
    double gap;    /* bytes until the next sample */
    uint64_t true_alloc, true_live, true_peak;
};

static double next_gap(void)
{
    return -log(1 - draw()) * INTERVAL;
}

static void program_start(struct program *program, uint64_t seed, bool reuses)
{
    memset(program, 0, sizeof(*program));
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < 10; i++)
        (void)draw_word();
    neap_estimate_init(&program->estimate, INTERVAL);
    assert_true(neap_estimate_reach(&program->estimate, 0));
    program->reuses = reuses;
    /* Where a heap is differs from run to run, and with it which half a block is in. */
    program->base = 0x550000000000 + (draw_word() % (1 << 28) << 12);
    program->gap = next_gap();
}

static struct neap_change change_of(const struct program *program, unsigned at)
{
    return (struct neap_change){.address = program->slots[at].address,
                                .size = program->slots[at].size,
                                .interval = INTERVAL};
}

static void program_free(struct program *program, unsigned at)
{
    struct slot *slot = &program->slots[at];
    struct neap_change change = change_of(program, at);

    if (!slot->live)
        return;
    program->true_live -= slot->size;
    slot->live = false;
    if (slot->sampled)
        neap_estimate_remove(&program->estimate, &change);
}

static void program_alloc(struct program *program, unsigned at, uint64_t size)
{
    struct slot *slot = &program->slots[at];
    struct neap_change change;
    struct neap_weight weight = neap_weigh(size, INTERVAL);

    program_free(program, at);
    *slot = (struct slot){
        .address = program->base + 16ull * at, .size = size, .live = true};
    if (!program->reuses)
        program->base += 16ull * SLOTS;
    program->true_alloc += size;
    program->true_live += size;
    if (program->true_live > program->true_peak)
        program->true_peak = program->true_live;
    program->gap -= (double)size + 1;
    if (program->gap > 0)
        return;
    program->gap = next_gap();
    slot->sampled = true;
    change = change_of(program, at);
    neap_estimate_add(&program->estimate, &change);
    program->alloc.amount.bytes += weight.bytes;
    program->alloc.variance += weight.variance;
}

/* ---- sizes and shapes ---- */

static uint64_t small(void)
{
    return 16 + draw_word() % 112;
}

static uint64_t equal(void)
{
    return INTERVAL / 2;
}

static uint64_t large(void)
{
    return INTERVAL / 4 + draw_word() % (6 * INTERVAL);
}

static uint64_t mixed(void)
{
    return (uint64_t)(16 * exp(draw() * log(2.0 * INTERVAL)));
}

struct sizes {
    const char *name;
    uint64_t (*draw)(void);
    unsigned blocks; /* of a full heap */
};

static const struct sizes all_sizes[] = {
    {"small", small, 6000},
    {"equal", equal, 200},
    {"large", large, 60},
    {"mixed", mixed, 400},
};

static void ramp(struct program *program, const struct sizes *sizes)
{
    for (unsigned i = 0; i < sizes->blocks; i++)
        program_alloc(program, i, sizes->draw());
}

/* At its height for a while, each block replaced five times. */
static void plateau(struct program *program, const struct sizes *sizes)
{
    ramp(program, sizes);
    for (unsigned i = 0; i < 5 * sizes->blocks; i++)
        program_alloc(program, (unsigned)(draw_word() % sizes->blocks), sizes->draw());
}

static void triangle(struct program *program, const struct sizes *sizes)
{
    ramp(program, sizes);
    for (unsigned i = sizes->blocks; i-- > sizes->blocks / 4;)
        program_free(program, i);
}

/* Three of them, of which none is the highest by much; at the end a third is live. */
static void waves(struct program *program, const struct sizes *sizes)
{
    for (int wave = 0; wave < 3; wave++) {
        ramp(program, sizes);
        for (unsigned i = 0; i < sizes->blocks; i++) {
            if (draw() < 0.67)
                program_free(program, i);
        }
    }
}

struct shape {
    const char *name;
    void (*run)(struct program *program, const struct sizes *sizes);
};

static const struct shape shapes[] = {
    {"ramp", ramp}, {"plateau", plateau}, {"triangle", triangle}, {"waves", waves}};

/* ---- what comes of it ---- */

struct score {
    double relative, squares; /* errors as parts of the truth */
    unsigned inside;
};

static void score(struct score *score, const struct neap_measure *measure, double truth)
{
    double error = (double)measure->amount.bytes - truth;

    score->relative += error / truth;
    score->squares += error / truth * error / truth;
    score->inside += fabs(error) <= neap_ci95(measure->variance, INTERVAL);
}

enum {
    ALLOC,
    LIVE,
    PEAK,
    SCORES
};

static void run_all(const struct shape *shape, const struct sizes *sizes, bool reuses,
                    struct score scores[SCORES])
{
    struct program *program = malloc(sizeof(*program));

    memset(scores, 0, SCORES * sizeof(*scores));
    assert_non_null(program);
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct neap_measure live, peak;

        program_start(program, seed, reuses);
        shape->run(program, sizes);
        live = neap_estimate_live(program->estimate.live);
        peak = neap_estimate_peak(&program->estimate);
        score(&scores[ALLOC], &program->alloc, (double)program->true_alloc);
        score(&scores[LIVE], &live, (double)program->true_live);
        score(&scores[PEAK], &peak, (double)program->true_peak);
        neap_estimate_deinit(&program->estimate);
    }
    free(program);
}

static void check(const struct shape *shape, const struct sizes *sizes, bool reuses)
{
    static const char *const words[] = {"allocated", "live", "peak"};
    struct score scores[SCORES];

    run_all(shape, sizes, reuses, scores);
    for (int i = 0; i < SCORES; i++) {
        double mean = scores[i].relative / SEEDS;
        double error = sqrt((scores[i].squares / SEEDS - mean * mean) / SEEDS);
        double inside = (double)scores[i].inside / SEEDS;

        print_message("%-8s %-5s %-9s inside %.3f, bias %+.4f (standard error %.4f)\n",
                      shape->name, sizes->name, words[i], inside, mean, error);
        if (inside < 0.93)
            fail_msg("the interval holds the truth too seldom");
        if (fabs(mean) > 4 * error && fabs(mean) > (i == PEAK ? 0.06 : 0.01))
            fail_msg("the estimate is biased");
    }
}

static void all(bool reuses)
{
    for (size_t i = 0; i < NEAP_ARRAY_LEN(shapes); i++) {
        for (size_t j = 0; j < NEAP_ARRAY_LEN(all_sizes); j++)
            check(&shapes[i], &all_sizes[j], reuses);
    }
}

static void addresses_that_come_again(void **unused)
{
    (void)unused;
    all(true);
}

static void addresses_that_are_new(void **unused)
{
    (void)unused;
    all(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_that_come_again),
        cmocka_unit_test(addresses_that_are_new),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
