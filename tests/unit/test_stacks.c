/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks and names without a recording: what is one, what is asked, what is final.
 *
 * Links: tests/unit/fake_symbolizer.c tests/unit/fail_alloc.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * Links: -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ingest/stacks.h"
#include "daemon/ingest/trim.h"
#include "tests/unit/fail_alloc.h"
#include "tests/unit/fake_symbolizer.h"

static struct neap_stacks stacks;

static int setup(void **state)
{
    (void)state;
    fake_symbolizer_reset();
    return neap_stacks_init(&stacks) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    neap_stacks_deinit(&stacks);
    return 0;
}

static uint32_t module(const char *path, const char *build_id)
{
    return neap_names_module(&stacks.names, path, strlen(path),
                             (const uint8_t *)build_id, strlen(build_id));
}

static const char *frames(uint32_t number)
{
    static struct neap_str json;
    static char text[256];

    neap_stack_frames(&stacks, number, &json);
    assert_false(json.failed);
    strncpy(text, json.data, sizeof(text) - 1);
    neap_str_deinit(&json);
    return text;
}

static void test_modules(void **unused)
{
    uint32_t a = module("/lib/a", "id");

    (void)unused;
    assert_int_equal(module("/lib/a", "id"), a);
    assert_int_not_equal(module("/lib/b", "id"), a);
    assert_int_not_equal(module("/lib/a", "di"),
                         a); /* a new build under the old name */
    assert_int_not_equal(module("/lib/a", ""), a);
    assert_int_equal(module("/lib/a", "id"), a);
    assert_string_equal(stacks.names.modules.data[a].build_id, "6964");
    assert_int_equal(stacks.names.modules.count, 4);
}

static void test_locations(void **unused)
{
    uint32_t a = module("/lib/a", "id"), b = module("/lib/b", "id");
    uint32_t first = neap_names_location(&stacks.names, a, 0x10);

    (void)unused;
    assert_int_equal(neap_names_location(&stacks.names, a, 0x10), first);
    assert_int_not_equal(neap_names_location(&stacks.names, b, 0x10), first);
    assert_int_not_equal(neap_names_location(&stacks.names, a, 0x11), first);
    assert_int_not_equal(neap_names_location(&stacks.names, NEAP_MODULE_NONE, 0x10),
                         first);
    /* Each is asked once, and what is in no module never. */
    assert_int_equal(fake_symbolizer_asked(), 3);
}

static void test_lists(void **unused)
{
    uint32_t list[100], a, b;

    (void)unused;
    for (uint32_t i = 0; i < 100; i++)
        list[i] = neap_names_location(&stacks.names, NEAP_MODULE_NONE, 16 + i);
    a = neap_stacks_add(&stacks, list, 50, false);
    b = neap_stacks_add(&stacks, list + 1, 50, false);
    assert_int_not_equal(a, b);
    assert_int_not_equal(neap_stacks_add(&stacks, list, 51, false), a);
    assert_int_not_equal(neap_stacks_add(&stacks, list, 49, false), a);
    assert_int_not_equal(neap_stacks_add(&stacks, list, 50, true), a);
    assert_int_equal(neap_stacks_add(&stacks, list, 50, false), a);
    assert_int_equal(neap_stacks_add(&stacks, list + 1, 50, false), b);
    assert_int_equal(stacks.stacks.count, 5);
    assert_int_equal(neap_stacks_unknown(&stacks), neap_stacks_unknown(&stacks));
    assert_int_equal(stacks.stacks.count, 6);
}

static void test_final_form(void **unused)
{
    uint32_t a = module("/lib/a", "id"), list[3], number;

    (void)unused;
    fake_symbolizer_name(0x10, "operator new(unsigned long)");
    fake_symbolizer_name(0x20, "one|two|three");
    fake_symbolizer_name(0x30, "main");
    for (uint32_t i = 0; i < 3; i++)
        list[i] = neap_names_location(&stacks.names, a, 0x10 * (i + 1));
    number = neap_stacks_add(&stacks, list, 3, false);
    assert_false(neap_stack_final(&stacks, number));
    assert_string_equal(frames(number), "[1,2,3]");
    neap_stacks_stored(&stacks);
    assert_int_equal(stacks.pending.count, 1);
    neap_names_poll(&stacks.names, false);
    assert_true(neap_stack_final(&stacks, number));
    assert_string_equal(frames(number), "[4,5,2,3]");
    assert_int_equal(stacks.names.renamed.count, 3);
    assert_string_equal(stacks.names.frames.data[3].function, "one");
    neap_stacks_stored(&stacks);
    assert_int_equal(stacks.pending.count, 0);
    assert_int_equal(stacks.names.renamed.count, 0);
    /* The names are in the recording now, the roles are still here. */
    assert_null(stacks.names.frames.data[3].function);
    assert_int_equal(stacks.names.frames.data[2].role, NEAP_ROLE_MAIN);
    assert_string_equal(frames(number), "[4,5,2,3]");
}

/* The n-th allocation fails: a number is refused, or it is right. */
static void test_no_memory(void **unused)
{
    uint64_t n;

    (void)unused;
    for (n = 1;; n++) {
        bool failed;

        assert_int_equal(setup(NULL), 0);
        fake_symbolizer_name(0x10, "one|two");
        fail_alloc_at(n);
        for (uint64_t i = 1; i < 60; i++) {
            uint32_t a = module("/lib/a", "id"), list[2], number;

            list[0] = neap_names_location(&stacks.names, a, 0x10 * i);
            list[1] = neap_names_location(&stacks.names, NEAP_MODULE_NONE, 0x10);
            if (list[0] == NEAP_LOCATION_NONE || list[1] == NEAP_LOCATION_NONE)
                continue;
            number = neap_stacks_add(&stacks, list, 2, false);
            if (number != NEAP_STACK_NONE)
                assert_int_equal(neap_stacks_add(&stacks, list, 2, false), number);
        }
        neap_names_poll(&stacks.names, true);
        failed = fail_alloc_happened();
        fail_alloc_at(0);
        for (uint32_t i = 0; i < stacks.stacks.count; i++) {
            assert_true(neap_stack_final(&stacks, i));
            assert_true(strlen(frames(i)) >= strlen("[1]"));
        }
        assert_in_range(stacks.stacks.count, 58, 59);
        neap_stacks_stored(&stacks);
        teardown(NULL);
        if (!failed)
            break;
    }
    assert_in_range(n, 100, 10000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_modules),
        TEST(test_locations),
        TEST(test_lists),
        TEST(test_final_form),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
