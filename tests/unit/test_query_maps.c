/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bindings/query: areas against a plain array of pages, growth and shrinkage by stack
 * against known numbers, memory errors, and rows that no program can have made.
 * Links: tests/unit/query_sample.c tests/unit/recordings.c tests/unit/scratch.c
 */
#include "bindings/query/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bindings/query/areas.h"
#include "tests/unit/query_sample.h"
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

/* ---- areas ---- */

#define UNITS 400u

static uint32_t model[UNITS]; /* row + 1 at each address, 0 = nothing */

static void see_in_model(void *context, const struct neap_area *area)
{
    uint64_t *last = context;

    assert_true(area->start < area->end && area->end <= UNITS);
    assert_true(area->start >= *last); /* by address, none twice */
    *last = area->end;
    for (uint64_t at = area->start; at < area->end; at++)
        assert_int_equal(model[at], area->row + 1);
}

static void count_units(void *context, const struct neap_area *area)
{
    *(uint64_t *)context += area->end - area->start;
}

static void areas_are_what_an_array_is(void **state)
{
    struct neap_arena arena = {0};
    struct neap_areas areas;
    unsigned seed = 7;

    (void)state;
    memset(model, 0, sizeof(model));
    neap_areas_init(&areas, &arena);
    for (uint32_t round = 0; round < 20000; round++) {
        uint64_t start = (unsigned)rand_r(&seed) % UNITS;
        uint64_t end = start + (unsigned)rand_r(&seed) % (round % 50 ? 12 : UNITS);
        uint64_t last = 0, units = 0, expected = 0;
        const struct neap_area *found;

        if (end > UNITS)
            end = UNITS;
        assert_true(neap_areas_cut(&areas, start, end, see_in_model, &last));
        memset(model + start, 0, (end - start) * sizeof(*model));
        if (rand_r(&seed) % 3) {
            assert_true(neap_areas_put(&areas, start, end, 1, round));
            for (uint64_t at = start; at < end; at++)
                model[at] = round + 1;
        }
        found = neap_areas_find(&areas, start);
        assert_int_equal(model[start] ? model[start] : 0, found ? found->row + 1 : 0);
        if (round % 100)
            continue;
        last = 0;
        neap_areas_each(&areas, see_in_model, &last);
        neap_areas_each(&areas, count_units, &units);
        for (unsigned at = 0; at < UNITS; at++)
            expected += model[at] != 0;
        assert_int_equal(units, expected);
    }
    neap_areas_clear(&areas);
    assert_null(neap_areas_find(&areas, 1));
    neap_arena_deinit(&arena);
}

/* In an order in which a plain tree would be a list a million deep. */
static void areas_in_a_row(void **state)
{
    struct neap_arena arena = {0};
    struct neap_areas areas;
    uint64_t units = 0;

    (void)state;
    neap_areas_init(&areas, &arena);
    for (uint64_t i = 1000000; i > 0; i--)
        assert_true(neap_areas_put(&areas, 2 * i, 2 * i + 1, 0, 0));
    assert_true(neap_areas_cut(&areas, 0, UINT64_MAX, count_units, &units));
    assert_int_equal(units, 1000000);
    neap_arena_deinit(&arena);
}

/* ---- maps ---- */

#define HEAD                                                        \
    "INSERT INTO raw_map (ts_ns, process, tid, op, address, size, " \
    "old_address, old_size, prot, flags, source, stack) VALUES "
#define MIB    (1 << 20)
#define MEMORY 0, 0, 3, 34, "hook"

struct map_row {
    int process;
    const char *op;
    int64_t address, size, old_address, old_size;
    int prot, flags;
    const char *source;
    int stack; /* 0 = none */
};

static struct neap_recording *open_with(const struct map_row *rows, size_t count)
{
    char sql[8192] = "";
    size_t length = 0;

    for (size_t i = 0; i < count; i++) {
        const struct map_row *row = &rows[i];
        char stack[16] = "NULL";

        if (row->stack)
            snprintf(stack, sizeof(stack), "%d", row->stack);
        length += (size_t)snprintf(
            sql + length, sizeof(sql) - length,
            HEAD "(5, %d, 100, '%s', %lld, %lld, %lld, %lld, %d, %d, '%s', %s);",
            row->process, row->op, (long long)row->address, (long long)row->size,
            (long long)row->old_address, (long long)row->old_size, row->prot,
            row->flags, row->source, stack);
        assert_true(length < sizeof(sql));
    }
    return query_sample_open(sql);
}

static struct neap_map_report *ask(struct neap_recording *recording, const char *source,
                                   int64_t limit)
{
    struct neap_map_query query = {.limit = limit, .source = source};
    struct neap_map_report *report = NULL;

    assert_ok(neap_recording_maps(recording, &query, &report));
    return report;
}

static void assert_bytes(const struct neap_mapped_bytes *bytes, int64_t grown,
                         int64_t returned, int64_t kept)
{
    assert_int_equal(bytes->grown, grown);
    assert_int_equal(bytes->returned, returned);
    assert_int_equal(bytes->kept, kept);
}

static void growth_and_shrinkage(void **state)
{
    static const struct map_row rows[] = {
        {1, "mmap", 16 * MIB, 4 * MIB, MEMORY, 1},
        /* Of stack 1's memory the middle is unmapped by stack 2, and a page that is
         * not whole. */
        {1, "munmap", 17 * MIB, MIB + 1, 0, 0, 0, 0, "hook", 2},
        {1, "mmap", 32 * MIB, 100, MEMORY, 1},
        /* The break goes up by 3 and down by 1 MiB. */
        {1, "brk", 67 * MIB, 3 * MIB, 64 * MIB, 0, 0, 0, "heap", 3},
        {1, "brk", 66 * MIB, 0, 67 * MIB, MIB, 0, 0, "heap", 3},
        {1, "madvise", 64 * MIB, 2 * MIB, 0, 0, 0, 4, "heap", 3},
        {1, "madvise", 64 * MIB, MIB, 0, 0, 0, 8, "heap", 3},
        {1, "madvise", 64 * MIB, MIB, 0, 0, 0, 14, "heap", 2}, /* MADV_HUGEPAGE */
    };
    struct neap_recording *recording = open_with(rows, NEAP_ARRAY_LEN(rows));
    struct neap_map_report *report = ask(recording, NULL, -1);
    const struct neap_map_sums *sums;

    (void)state;
    assert_int_equal(report->count, 3);
    assert_int_equal(report->stacks, 3);
    assert_int_equal(report->processes, 2);
    assert_int_equal(report->images, 3);
    sums = &report->rows[0].sums;
    assert_int_equal(report->rows[0].trace.stack_id, 1);
    assert_string_equal(report->rows[0].trace.frames[0]->function, "leaf");
    assert_bytes(&sums->bytes[NEAP_MAPPED_ANONYMOUS], 4 * MIB + 4096, 0, 3 * MIB);
    assert_int_equal(sums->grow_count, 2);
    sums = &report->rows[1].sums;
    assert_int_equal(report->rows[1].trace.stack_id, 3);
    assert_true(report->rows[1].trace.truncated);
    assert_bytes(&sums->bytes[NEAP_MAPPED_ANONYMOUS], 3 * MIB, MIB, 2 * MIB);
    assert_int_equal(sums->advised, 3 * MIB);
    assert_int_equal(sums->advise_count, 2);
    assert_int_equal(sums->return_count, 1);
    sums = &report->rows[2].sums;
    assert_bytes(&sums->bytes[NEAP_MAPPED_ANONYMOUS], 0, MIB + 4096, 0);
    assert_int_equal(sums->unseen, 0);
    assert_int_equal(sums->advise_count, 0);
    sums = &report->total;
    assert_bytes(&sums->bytes[NEAP_MAPPED_ANONYMOUS], 7 * MIB + 4096, 2 * MIB + 4096,
                 5 * MIB);
    neap_map_report_destroy(report);

    /* One source; what the others did has happened all the same. */
    report = ask(recording, "heap", -1);
    assert_int_equal(report->count, 1);
    assert_bytes(&report->total.bytes[NEAP_MAPPED_ANONYMOUS], 3 * MIB, MIB, 2 * MIB);
    neap_map_report_destroy(report);
    report = ask(recording, "hook", 1);
    assert_int_equal(report->count, 1);
    assert_int_equal(report->stacks, 2);
    assert_bytes(&report->total.bytes[NEAP_MAPPED_ANONYMOUS], 4 * MIB + 4096,
                 MIB + 4096, 3 * MIB);
    neap_map_report_destroy(report);
    neap_map_report_destroy(NULL);
    neap_recording_close(recording);
}

static void kinds_are_kept_apart(void **state)
{
    static const struct map_row rows[] = {
        {1, "mmap", 16 * MIB, 8 * MIB, 0, 0, 0, 34, "hook", 1}, /* reserved */
        {1, "mmap", 17 * MIB, MIB, 0, 0, 3, 50, "hook", 2},     /* MAP_FIXED on it */
        {1, "mmap", 32 * MIB, 2 * MIB, 0, 0, 1, 2, "hook", 2},  /* a file */
        {1, "munmap", 16 * MIB, 3 * MIB, 0, 0, 0, 0, "hook", 1},
    };
    struct neap_recording *recording = open_with(rows, NEAP_ARRAY_LEN(rows));
    struct neap_map_report *report = ask(recording, NULL, -1);

    (void)state;
    assert_int_equal(report->count, 2);
    assert_int_equal(report->rows[0].trace.stack_id, 2);
    assert_bytes(&report->rows[0].sums.bytes[NEAP_MAPPED_ANONYMOUS], MIB, 0, 0);
    assert_bytes(&report->rows[0].sums.bytes[NEAP_MAPPED_RESERVED], 0, MIB, 0);
    assert_bytes(&report->rows[0].sums.bytes[NEAP_MAPPED_FILE], 2 * MIB, 0, 2 * MIB);
    assert_bytes(&report->rows[1].sums.bytes[NEAP_MAPPED_ANONYMOUS], 0, MIB, 0);
    assert_bytes(&report->rows[1].sums.bytes[NEAP_MAPPED_RESERVED], 8 * MIB, 2 * MIB,
                 5 * MIB);
    neap_map_report_destroy(report);
    neap_recording_close(recording);
}

static void memory_moves(void **state)
{
    static const struct map_row rows[] = {
        {1, "mmap", 16 * MIB, 2 * MIB, MEMORY, 1},
        {1, "mremap", 16 * MIB, 3 * MIB, 16 * MIB, 2 * MIB, 0, 1, "hook", 2},
        {1, "mremap", 64 * MIB, 5 * MIB, 16 * MIB, 3 * MIB, 0, 1, "hook", 2},
        {1, "mremap", 32 * MIB, MIB, 64 * MIB, 5 * MIB, 0, 1, "hook", 3},
        /* nothing is left where it was */
        {1, "munmap", 16 * MIB, 3 * MIB, 0, 0, 0, 0, "hook", 0},
        {1, "munmap", 64 * MIB, 5 * MIB, 0, 0, 0, 0, "hook", 0},
    };
    struct neap_recording *recording = open_with(rows, NEAP_ARRAY_LEN(rows));
    struct neap_map_report *report = ask(recording, NULL, -1);

    (void)state;
    assert_int_equal(report->count, 4);
    assert_int_equal(report->rows[0].trace.stack_id, 2); /* + 1 and + 2 MiB */
    assert_bytes(&report->rows[0].sums.bytes[NEAP_MAPPED_ANONYMOUS], 3 * MIB, 0, 0);
    assert_int_equal(report->rows[1].trace.stack_id, 1); /* its first MiB is there */
    assert_bytes(&report->rows[1].sums.bytes[NEAP_MAPPED_ANONYMOUS], 2 * MIB, 0, MIB);
    assert_int_equal(report->rows[2].trace.stack_id, 3);
    assert_bytes(&report->rows[2].sums.bytes[NEAP_MAPPED_ANONYMOUS], 0, 4 * MIB, 0);
    assert_false(report->rows[3].trace.known);
    assert_int_equal(report->rows[3].trace.depth, 0);
    assert_int_equal(report->rows[3].sums.unseen, 8 * MIB);
    assert_int_equal(report->total.bytes[NEAP_MAPPED_ANONYMOUS].kept, MIB);
    neap_map_report_destroy(report);
    neap_recording_close(recording);
}

/* Each process has an address space of its own, and a new one by exec. */
static void processes_are_apart(void **state)
{
    static const struct map_row rows[] = {
        {1, "mmap", 16 * MIB, MIB, MEMORY, 1},
        {2, "mmap", 16 * MIB, 2 * MIB, MEMORY, 1},
        {1, "munmap", 16 * MIB, MIB, 0, 0, 0, 0, "hook", 1},
        {3, "munmap", 16 * MIB, 2 * MIB, 0, 0, 0, 0, "hook", 1},
    };
    struct neap_recording *recording = open_with(rows, NEAP_ARRAY_LEN(rows));
    struct neap_map_query query = {.limit = -1, .has_pid = true, .pid = 101};
    struct neap_map_report *report = ask(recording, NULL, -1);

    (void)state;
    assert_bytes(&report->total.bytes[NEAP_MAPPED_ANONYMOUS], 3 * MIB, MIB, 2 * MIB);
    assert_int_equal(report->total.unseen, 2 * MIB);
    neap_map_report_destroy(report);
    assert_ok(neap_recording_maps(recording, &query, &report));
    assert_bytes(&report->total.bytes[NEAP_MAPPED_ANONYMOUS], 2 * MIB, 0, 2 * MIB);
    assert_int_equal(report->processes, 1);
    neap_map_report_destroy(report);
    query.pid = 7;
    assert_error(neap_recording_maps(recording, &query, &report), NEAP_ERROR_USAGE,
                 "no process 7");
    query = (struct neap_map_query){.limit = -1, .source = "kernel"};
    assert_error(neap_recording_maps(recording, &query, &report), NEAP_ERROR_USAGE,
                 "unknown source 'kernel'");
    neap_recording_close(recording);
}

static void no_program_maps_that(void **state)
{
    static const struct map_row rows[] = {
        {1, "mmap", INT64_MAX, INT64_MAX, MEMORY, 1},
        {1, "mmap", -1, 4096, MEMORY, 1},
        {1, "munmap", 4096, INT64_MIN, 0, 0, 0, 0, "hook", 1},
        {1, "mremap", 0, INT64_MAX, INT64_MAX, 1, 0, -1, "hook", 1},
        {1, "brk", 1, 4096, 0, 0, 0, 0, "heap", 1},
        {1, "brk", 0, 0, 0, 0, 0, 0, "heap", 1},
        {1, "poke", 4096, 4096, MEMORY, 1},
        {1, "mremap", 4096, 0, 8192, 4096, 0, 0, "hook", 1},
    };
    struct neap_recording *recording = open_with(rows, NEAP_ARRAY_LEN(rows));
    struct neap_map_report *report = ask(recording, NULL, -1);

    (void)state;
    assert_bytes(&report->total.bytes[NEAP_MAPPED_ANONYMOUS], 0, 0, 0);
    assert_int_equal(report->total.unseen, 4096);
    neap_map_report_destroy(report);
    neap_recording_close(recording);
}

/* ---- memory errors ---- */

static void errors_come_with_their_stacks(void **state)
{
    static const char *const rows =
        "INSERT INTO raw_memory_error (ts_ns, process, tid, kind, address, block, size,"
        " alloc_stack, free_stack, stack) VALUES"
        " (9, 1, 100, 'double-free', 4096, 4096, 64, 1, 2, 3),"
        " (7, 3, 105, 'invalid-free', 8, NULL, NULL, NULL, NULL, 2);";
    struct neap_recording *recording = query_sample_open(rows);
    struct neap_memory_errors *errors = NULL;
    int64_t pid = 100;

    (void)state;
    assert_ok(neap_recording_errors(recording, -1, NULL, &errors));
    assert_int_equal(errors->total, 2);
    assert_int_equal(errors->count, 2);
    assert_int_equal(errors->processes, 2);
    assert_string_equal(errors->rows[0].kind, "invalid-free");
    assert_false(errors->rows[0].has_block);
    assert_false(errors->rows[0].alloc.known || errors->rows[0].free.known);
    assert_string_equal(errors->rows[0].found.frames[0]->function, "other");
    assert_int_equal(errors->rows[0].tid, 105);
    assert_int_equal(errors->rows[1].ts_ns, 9);
    assert_true(errors->rows[1].has_block);
    assert_int_equal(errors->rows[1].block, 4096);
    assert_int_equal(errors->rows[1].size, 64);
    assert_string_equal(errors->rows[1].alloc.frames[0]->function, "leaf");
    assert_string_equal(errors->rows[1].free.frames[0]->function, "other");
    assert_true(errors->rows[1].found.truncated);
    neap_memory_errors_destroy(errors);
    assert_ok(neap_recording_errors(recording, 1, NULL, &errors));
    assert_int_equal(errors->total, 2);
    assert_int_equal(errors->count, 1);
    neap_memory_errors_destroy(errors);
    assert_ok(neap_recording_errors(recording, 0, &pid, &errors));
    assert_int_equal(errors->total, 1);
    assert_int_equal(errors->count, 0);
    neap_memory_errors_destroy(errors);
    neap_memory_errors_destroy(NULL);
    pid = 7;
    assert_error(neap_recording_errors(recording, -1, &pid, &errors), NEAP_ERROR_USAGE,
                 "no process 7");
    neap_recording_close(recording);
}

/* Stacks that name what is not there are damage, in both answers. */
static void damage_is_said(void **state)
{
    struct neap_recording *recording = query_sample_open(
        "UPDATE raw_stack SET frames = '[99]' WHERE id = 1;" HEAD
        "(5, 1, 100, 'mmap', 4096, 4096, 0, 0, 3, 34, 'hook', 1);"
        "INSERT INTO raw_memory_error (ts_ns, process, tid, kind, address, stack)"
        " VALUES (9, 1, 100, 'double-free', 4096, 1);");
    struct neap_map_query query = {.limit = -1};
    struct neap_map_report *report = NULL;
    struct neap_memory_errors *errors = NULL;

    (void)state;
    assert_error(neap_recording_maps(recording, &query, &report), NEAP_ERROR_DAMAGED,
                 "frame that is missing");
    assert_error(neap_recording_errors(recording, -1, NULL, &errors),
                 NEAP_ERROR_DAMAGED, "frame that is missing");
    assert_null(report);
    assert_null(errors);
    neap_recording_close(recording);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(areas_are_what_an_array_is),
        cmocka_unit_test(areas_in_a_row),
        cmocka_unit_test_setup_teardown(growth_and_shrinkage, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(kinds_are_kept_apart, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(memory_moves, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(processes_are_apart, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(no_program_maps_that, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(errors_come_with_their_stacks, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(damage_is_said, scratch_setup,
                                        scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
