/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long random lives of a heap beside a model of it: every block holds what was written,
 * lies apart from all others, and goes when it is told to.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_tools.h"

#define SLOTS    6000u
#define LIVE_MAX ((size_t)192 << 20)

/* Which sizes, and how often a block in use is resized rather than freed. */
struct mix {
    const char *name;
    size_t least, most;
    unsigned resized; /* of 100 */
    unsigned aligned; /* of 100 */
};

static const struct mix mixes[] = {
    {"tiny", 1, 128, 10, 0},        {"small", 1, 1024, 20, 5},
    {"pages", 1024, 32768, 20, 10}, {"large", 32769, 3 << 20, 40, 10},
    {"all", 1, 6 << 20, 30, 5},     {"text", 1, 300000, 80, 0},
};
#define MIXES (sizeof(mixes) / sizeof(mixes[0]))

struct model {
    struct heap_block slot[SLOTS];
    size_t live, peak;
    unsigned used;
    uint64_t random, seeds;
};

static int setup(void **state)
{
    (void)state;
    heap_begin();
    return 0;
}

static uint8_t *allocate(struct model *model, const struct mix *mix, size_t size)
{
    unsigned way = (unsigned)(heap_random(&model->random) % 100);
    void *block = NULL;
    size_t align;

    if (way < mix->aligned) {
        align = (size_t)8 << heap_random(&model->random) % (way == 0 ? 18 : 11);
        assert_int_equal(neap_heap_posix_memalign(&block, align, size), 0);
        assert_int_equal((uintptr_t)block % align, 0);
        return block;
    }
    if (way < 70)
        return neap_heap_malloc(size);
    if (way < 75)
        return neap_heap_realloc(NULL, size);
    block = way % 2 ? neap_heap_calloc(size, 1) : neap_heap_calloc(1, size);
    assert_non_null(block);
    assert_true(heap_is_zero(block, size));
    return block;
}

static void put(struct model *model, const struct mix *mix, struct heap_block *slot)
{
    size_t size = heap_random_size(&model->random, mix->least, mix->most);

    if (model->live + size > LIVE_MAX)
        return;
    *slot = (struct heap_block){allocate(model, mix, size), size,
                                ++model->seeds * 0x9e3779b97f4a7c15u};
    assert_non_null(slot->at);
    assert_int_equal((uintptr_t)slot->at % 16, 0);
    assert_true(neap_heap_usable_size(slot->at) >= size);
    heap_fill(slot);
    model->live += size;
    if (model->live > model->peak)
        model->peak = model->live;
    model->used++;
}

static void drop(struct model *model, struct heap_block *slot)
{
    assert_true(heap_holds(slot, slot->size));
    if (slot->seed >> 40 & 1)
        neap_heap_free(slot->at);
    else
        neap_heap_free_sized(slot->at, slot->size);
    model->live -= slot->size;
    model->used--;
    slot->at = NULL;
}

static void resize(struct model *model, const struct mix *mix, struct heap_block *slot)
{
    size_t size = heap_random_size(&model->random, mix->least, mix->most);
    size_t less = size < slot->size ? size : slot->size;

    if (model->live + size > LIVE_MAX)
        return;
    slot->at = neap_heap_realloc(slot->at, size);
    assert_non_null(slot->at);
    assert_true(heap_holds(slot, less));
    model->live += size - slot->size;
    slot->size = size;
    slot->seed = ++model->seeds * 0x9e3779b97f4a7c15u;
    heap_fill(slot);
}

static int by_address(const void *one, const void *other)
{
    const struct heap_block *a = one, *b = other;

    return a->at < b->at ? -1 : a->at > b->at;
}

/* All there are, by address: none reaches into the next. */
static void check_all(const struct model *model)
{
    static struct heap_block sorted[SLOTS];
    unsigned count = 0;

    assert_null(neap_heap_verify());
    for (unsigned i = 0; i < SLOTS; i++)
        if (model->slot[i].at)
            sorted[count++] = model->slot[i];
    assert_int_equal(count, model->used);
    if (count)
        qsort(sorted, count, sizeof(sorted[0]), by_address);
    for (unsigned i = 0; i < count; i++) {
        size_t usable = neap_heap_usable_size(sorted[i].at);

        assert_true(usable >= sorted[i].size);
        assert_true(i + 1 == count || sorted[i].at + usable <= sorted[i + 1].at);
        assert_true(heap_holds(&sorted[i], sorted[i].size));
    }
    assert_true(neap_os_mapped >= model->live);
    assert_true(neap_os_mapped_max >= neap_os_mapped);
}

/* `grow`: of 100 touches of a block in use how many leave it there. */
static void live(struct model *model, const struct mix *mix, unsigned steps,
                 unsigned grow)
{
    for (unsigned i = 0; i < steps; i++) {
        struct heap_block *slot = &model->slot[heap_random(&model->random) % SLOTS];
        unsigned chance = (unsigned)(heap_random(&model->random) % 100);

        if (!slot->at) {
            if (chance < grow)
                put(model, mix, slot);
        } else if (heap_random(&model->random) % 100 < mix->resized) {
            resize(model, mix, slot);
        } else if (chance >= grow || mix->most < 1024) {
            drop(model, slot);
        }
        if (heap_random(&model->random) % 20000 == 0)
            neap_heap_trim(chance < 50 ? 0 : (size_t)chance << 14);
    }
    check_all(model);
}

static void end(struct model *model)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (model->slot[i].at)
            drop(model, &model->slot[i]);
    assert_int_equal(model->live, 0);
    neap_heap_trim(0);
    /* What is left is metadata: of blocks nothing. */
    assert_int_equal(neap_pool_counts.used_units, 0);
    assert_int_equal(neap_pool_counts.dirty_units, 0);
    assert_int_equal(heap_errors(), 0);
}

static void run(const struct mix *mix, unsigned steps, uint64_t seed)
{
    static struct model model;

    model = (struct model){.random = seed * 0x9e3779b97f4a7c15u + 1};
    for (unsigned round = 0; round < 4; round++) {
        live(&model, mix, steps / 8, 90);
        live(&model, mix, steps / 16, 50);
        live(&model, mix, steps / 16, 10);
    }
    assert_true(model.peak > 0);
    end(&model);
}

static void each_mix_by_itself(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MIXES; i++) {
        unsigned steps = mixes[i].most <= 1024    ? 800000
                         : mixes[i].most <= 32768 ? 300000
                                                  : 60000;

        for (uint64_t seed = 1; seed <= 2; seed++)
            run(&mixes[i], HEAP_STEPS_ALONE(steps), seed * 100 + i);
    }
}

/* Phases of one program: what one mix leaves behind the next has to live with. */
static void one_mix_after_the_other(void **state)
{
    static struct model model;

    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        model = (struct model){.random = seed * 7777};
        for (unsigned i = 0; i < 24; i++) {
            const struct mix *mix = &mixes[heap_random(&model.random) % MIXES];
            unsigned steps = mix->most <= 32768 ? 60000 : 8000;

            live(&model, mix, HEAP_STEPS_ALONE(steps),
                 20 + (unsigned)(heap_random(&model.random) % 75));
        }
        end(&model);
    }
}

/* Not by chance: first in first out, last in first out, every other, for each class. */
static void orders_of_freeing(void **state)
{
    static uint8_t *blocks[4000];

    (void)state;
    for (size_t size = 16; size <= 32768; size += size / 8 < 16 ? 16 : size / 8) {
        unsigned count = size <= 2048 ? 4000 : 400;

        for (unsigned order = 0; order < 4; order++) {
            for (unsigned i = 0; i < count; i++) {
                blocks[i] = neap_heap_malloc(size);
                assert_non_null(blocks[i]);
                *(unsigned *)(void *)blocks[i] = i;
            }
            for (unsigned i = 0; i < count; i++) {
                unsigned k = order == 0   ? i
                             : order == 1 ? count - 1 - i
                             : order == 2 ? (i * 2 < count ? i * 2 : i * 2 - count + 1)
                                          : i * 7 % count;

                assert_int_equal(*(unsigned *)(void *)blocks[k], k);
                neap_heap_free(blocks[k]);
            }
        }
    }
    neap_heap_trim(0);
    assert_int_equal(neap_pool_counts.used_units, 0);
    assert_int_equal(heap_errors(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_of_freeing),
        cmocka_unit_test(each_mix_by_itself),
        cmocka_unit_test(one_mix_after_the_other),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
