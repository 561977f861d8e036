/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mallinfo and its kin say of this heap, in glibc's forms.
 *
 * Links: tests/unit/heap_child.c
 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/map.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/stats.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_child.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static char *allocate(size_t size)
{
    char *block = child_hide(neap_heap_malloc(size));

    CHECK(block);
    return block;
}

static char text[32768];

/* ---- mallinfo ---- */

static void numbers_are_the_walks(void)
{
    struct mallinfo2 before = neap_heap_mallinfo2(), after;
    struct mallinfo small;
    char *block = allocate(1000), *mapped = allocate(3 * MIB);
    struct neap_heap_sum sum;

    CHECK(before.uordblks == 0 && before.hblks == 0 && before.hblkhd == 0);
    after = neap_heap_mallinfo2();
    neap_heap_walk(NULL, false, &sum);
    CHECK(after.uordblks == 1024);
    CHECK(after.hblks == 1 && after.hblkhd == 3 * MIB);
    CHECK(after.arena + after.hblkhd == sum.mapped);
    CHECK(after.uordblks + after.fordblks == after.arena);
    CHECK(after.ordblks == sum.free_count && after.keepcost > 0);
    CHECK(after.smblks == 0 && after.fsmblks == 0 && after.usmblks == 0);
    small = neap_heap_mallinfo();
    CHECK(small.uordblks == 1024 && small.hblkhd == 3 << 20 && small.hblks == 1);
    CHECK((size_t)small.arena == after.arena &&
          (size_t)small.fordblks == after.fordblks);
    neap_heap_free(mapped);
    neap_heap_free(block);
    after = neap_heap_mallinfo2();
    CHECK(after.uordblks == 0 && after.hblks == 0);
}

/* No sum wraps where there is more than an int can say. */
static void numbers_stay_at_the_top(void)
{
    struct mallinfo info;

    if (!neap_heap_malloc(3 * KIB * MIB))
        return; /* the machine lends less */
    info = neap_heap_mallinfo();
    CHECK(info.hblkhd == INT_MAX && info.arena > 0);
}

static void test_mallinfo(void **state)
{
    (void)state;
    child_run(0, numbers_are_the_walks);
    child_run(0, numbers_stay_at_the_top);
}

/* ---- malloc_stats ---- */

/* The number behind `name` from `*from` on, which moves behind it. */
static unsigned long number_behind(char **from, const char *name)
{
    char *at = strstr(*from, name);

    CHECK(at);
    at = strchr(at, '=');
    CHECK(at);
    return strtoul(at + 1 + (at[1] == '"'), from, 10);
}

static void stats_are_glibcs(void)
{
    char *at = text;

    CHECK(allocate(1000) && allocate(3 * MIB));
    errno = 4711;
    neap_heap_stats();
    CHECK(errno == 4711);
    child_said(text, sizeof(text));
    CHECK(strncmp(text, "Arena 0:\nsystem bytes     = ", 28) == 0);
    number_behind(&at, "system bytes");
    CHECK(number_behind(&at, "in use bytes") == 1024);
    CHECK(strstr(at, "Total (incl. mmap):\n"));
    CHECK(number_behind(&at, "system bytes") == neap_os_mapped);
    CHECK(number_behind(&at, "in use bytes") == 1024 + 3 * MIB);
    CHECK(number_behind(&at, "max system bytes") == neap_os_mapped_max);
    CHECK(number_behind(&at, "mmap regions") == 1);
    CHECK(number_behind(&at, "mmap bytes") == 3 * MIB);
    CHECK(strcmp(at, "\n") == 0);
}

static void test_stats(void **state)
{
    (void)state;
    child_run(0, stats_are_glibcs);
}

/* ---- malloc_info ---- */

static void info_is_xml(void)
{
    static char xml[65536];
    FILE *stream = fmemopen(xml, sizeof(xml), "w");
    unsigned long count = 0;
    struct neap_heap_sum sum;
    char *at = xml;

    CHECK(stream);
    for (size_t size = 1; size < 32768; size += size / 16 + 1)
        CHECK(allocate(size));
    CHECK(allocate(3 * MIB));
    CHECK(neap_heap_info(1, stream) == EINVAL);
    CHECK(neap_heap_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    neap_heap_walk(NULL, false, &sum);
    CHECK(strncmp(xml, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", 43) == 0);
    CHECK(strstr(xml, "<heap nr=\"1\">"));
    CHECK(strstr(xml, "<size from=\"1\" to=\"16\""));
    CHECK(strcmp(strstr(xml, "</malloc>"), "</malloc>\n") == 0);
    for (; (at = strstr(at, "<total type=\"rest\"")); at++) {
        char *here = at;

        count = number_behind(&here, "count");
    }
    CHECK(count == sum.free_count);
    at = strstr(xml, "<total type=\"mmap\"");
    CHECK(at && number_behind(&at, "count") == 1);
    CHECK(number_behind(&at, "size") == 3 * MIB);
    CHECK(number_behind(&at, "size") == sum.mapped);
}

static void info_needs_a_stream_that_takes_it(void)
{
    FILE *full = fopen("/dev/full", "w");

    CHECK(full);
    setvbuf(full, NULL, _IONBF, 0);
    CHECK(neap_heap_info(0, full) == ENOSPC);
    fclose(full);
}

static void test_info(void **state)
{
    (void)state;
    child_run(0, info_is_xml);
    child_run(3, info_needs_a_stream_that_takes_it);
}

/* ---- mallopt ---- */

static enum neap_pool pool_of(const void *block)
{
    return neap_span_cold(neap_map_find((uintptr_t)block))->segment->pool;
}

static void options_are_taken(void)
{
    static const struct {
        int parameter, value, taken;
    } rows[] = {
        {M_MXFAST, 0, 1},
        {M_MXFAST, 160, 1},
        {M_MXFAST, 161, 0},
        {M_MXFAST, -1, 0},
        {M_TRIM_THRESHOLD, 0, 1},
        {M_TRIM_THRESHOLD, -1, 1},
        {M_TOP_PAD, 1 << 20, 1},
        {M_MMAP_THRESHOLD, 1 << 20, 1},
        {M_MMAP_THRESHOLD, -1, 0},
        {M_MMAP_THRESHOLD, INT_MAX, 0},
        {M_MMAP_MAX, 65536, 1},
        {M_MMAP_MAX, 0, 1},
        {M_CHECK_ACTION, 3, 1},
        {M_PERTURB, 255, 1},
        {M_ARENA_TEST, 1, 1},
        {M_ARENA_TEST, 0, 0},
        {M_ARENA_MAX, 4, 1},
        {M_ARENA_MAX, -3, 0},
        {4711, 0, 0},
        {0, 0, 0},
    };

    for (size_t i = 0; i < NEAP_ARRAY_LEN(rows); i++)
        CHECK(neap_heap_option(rows[i].parameter, rows[i].value) == rows[i].taken);
}

static void mappings_can_be_moved(void)
{
    char *block;

    CHECK(pool_of(allocate(MIB)) == NEAP_POOL_LARGE);
    CHECK(pool_of(allocate(MIB - 1)) == NEAP_POOL_SMALL);
    CHECK(neap_heap_option(M_MMAP_THRESHOLD, 128 << 10) == 1);
    CHECK(pool_of(allocate(128 * KIB)) == NEAP_POOL_LARGE);
    CHECK(pool_of(allocate(127 * KIB)) == NEAP_POOL_SMALL);
    CHECK(neap_heap_option(M_MMAP_MAX, 0) == 1);
    block = allocate(5 * MIB);
    CHECK(pool_of(block) == NEAP_POOL_SMALL);
    memset(block, 1, 5 * MIB);
    block = neap_heap_realloc(block, 9 * MIB);
    CHECK(block && block[5 * MIB - 1] == 1);
    neap_heap_free(block);
    CHECK(neap_heap_option(M_MMAP_MAX, 65536) == 1);
    CHECK(pool_of(allocate(128 * KIB)) == NEAP_POOL_LARGE);
    CHECK(neap_heap_option(M_MMAP_THRESHOLD, 0) == 1);
    CHECK(pool_of(allocate(40 * KIB)) == NEAP_POOL_LARGE);
    CHECK(pool_of(allocate(32 * KIB)) == NEAP_POOL_SMALL);
    VERIFY();
}

static void memory_can_be_kept(void)
{
    size_t before;
    char *block;

    CHECK(neap_heap_option(M_TRIM_THRESHOLD, -1) == 1);
    block = allocate(64 * MIB);
    memset(block, 1, 64 * MIB);
    before = neap_os_mapped;
    neap_heap_free(block);
    CHECK(neap_os_mapped == before);
    CHECK(neap_heap_trim(0) == 1);
    CHECK(neap_os_mapped < before - 60 * MIB);
    CHECK(neap_heap_trim(0) == 0);
    CHECK(neap_heap_option(M_TRIM_THRESHOLD, 128 << 10) == 1);
    block = allocate(64 * MIB);
    memset(block, 1, 64 * MIB);
    neap_heap_free(block);
    CHECK(neap_os_mapped < before - 60 * MIB);
    VERIFY();
}

static void test_option(void **state)
{
    (void)state;
    child_run(0, options_are_taken);
    child_run(0, mappings_can_be_moved);
    child_run(0, memory_can_be_kept);
    child_run(3, options_are_taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mallinfo),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
