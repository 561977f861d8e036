/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bindings/query/suppress: patterns one by one, files of them, what is wrong with a
 * file, and the built-in list.
 * Links: tests/unit/recordings.c tests/unit/scratch.c
 */
#include "bindings/query/suppress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/recordings.h"

static const struct {
    const char *pattern, *name;
    bool matches;
} globs[] = {
    {"leaf", "leaf", true},
    {"leaf", "a_leaf_b", true},
    {"leaf", "lea", false},
    {"leaf", "", false},
    {"^leaf", "leaf_b", true},
    {"^leaf", "a_leaf", false},
    {"leaf$", "a_leaf", true},
    {"leaf$", "leaf_b", false},
    {"^leaf$", "leaf", true},
    {"^leaf$", "leaff", false},
    {"^leaf$", "", false},
    {"l*f", "a_leaf_b", true},
    {"l*f", "flea", false},
    {"^l*f$", "lf", true},
    {"^l*f$", "leaf", true},
    {"^l*f$", "leafy", false},
    {"^*leaf$", "my_leaf", true},
    {"^a*b*c$", "a-b-b-c", true},
    {"^a*b*c$", "a-c-b", false},
    {"lib*.so$", "/usr/lib/libx.so", true},
    {"lib*.so$", "/usr/lib/libx.so.1", false},
    {"a**b", "a--b", true},
    {"aab", "aaab", true},
    {"^a*ab$", "aaaab", true},
    {"std::vector<*>::reserve", "std::vector<int>::reserve(unsigned long)", true},
    {"^", "", true},
    {"$", "anything", true},
    {"a$b", "a$b", true},
    {"a^b", "xa^b", true},
};

static void patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(globs); i++) {
        if (neap_suppress_glob(globs[i].pattern, globs[i].name) != globs[i].matches)
            fail_msg("'%s' against '%s' is not %d", globs[i].pattern, globs[i].name,
                     globs[i].matches);
    }
}

/* A pattern that makes matchers by recursion run for ever. */
static void hostile_patterns_end(void **state)
{
    char pattern[512] = "^", name[2048];

    (void)state;
    for (int i = 0; i < 200; i++)
        strcat(pattern, "a*");
    strcat(pattern, "b$");
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_false(neap_suppress_glob(pattern, name));
}

static const struct neap_frame leaf = {.function = "leaf", .file = "src/leaf.c"};
static const struct neap_frame top = {.function = "main", .module = "/bin/app"};
static const struct neap_frame bare = {.offset = 1};

static bool matches(const char *text, const struct neap_row *row)
{
    struct neap_suppress *suppress = NULL;
    bool result;

    assert_ok(neap_suppress_create(text, &suppress));
    result = neap_suppress_match(suppress, row);
    neap_suppress_destroy(suppress);
    return result;
}

static void files(void **state)
{
    const struct neap_frame *frames[] = {&bare, &leaf, &top};
    const struct neap_row row = {.frames = frames, .depth = 3};
    const struct neap_row empty = {.depth = 0};

    (void)state;
    assert_true(matches("leak:leaf", &row));
    assert_true(matches("leak:^main$", &row));
    assert_true(matches("leak:src/*.c$", &row));
    assert_true(matches("leak:/app$", &row));
    assert_true(matches("# one\n\n  # two\n\t leak: \tmain \t\r\n", &row));
    assert_true(matches("leak:no\nleak:nor\nleak:main\nleak:neither", &row));
    assert_false(matches("", &row));
    assert_false(matches("# leak:main\n", &row));
    assert_false(matches("leak:no\n", &row));
    assert_false(matches("leak:no:main\n", &row));
    assert_false(matches("leak:main", &empty));
}

static void bad_files(void **state)
{
    struct neap_suppress *suppress = NULL;

    (void)state;
    assert_error(neap_suppress_create("race:x", &suppress), NEAP_ERROR_USAGE,
                 "line 1 of the suppressions, 'race:x'");
    assert_error(neap_suppress_create("leak:a\n\nmain\n", &suppress), NEAP_ERROR_USAGE,
                 "line 3");
    assert_error(neap_suppress_create("#\nleak:\n", &suppress), NEAP_ERROR_USAGE,
                 "would suppress every leak");
    assert_error(neap_suppress_create("leak:^*$", &suppress), NEAP_ERROR_USAGE,
                 "would suppress every leak");
    assert_null(suppress);
    neap_suppress_destroy(NULL);
}

static bool builtin(const struct neap_frame *first, const struct neap_frame *second)
{
    const struct neap_frame *frames[] = {first, second};
    const struct neap_row row = {.frames = frames, .depth = second ? 2 : 1};

    return neap_suppress_builtin(&row);
}

static void builtin_list(void **state)
{
    const struct neap_frame stdio = {.function = "_IO_file_doallocate",
                                     .module = "/lib/libc.so.6"};
    const struct neap_frame internal = {.function = "__GI__IO_file_doallocate",
                                        .module = "/lib/libc.so.6"};
    const struct neap_frame mine = {.function = "_IO_file_doallocate",
                                    .module = "/bin/app"};
    const struct neap_frame loader = {.module = "/lib64/ld-linux-x86-64.so.2"};
    const struct neap_frame cxx = {.module = "/usr/lib/libstdc++.so.6"};
    const struct neap_frame libc = {.function = "fopen", .module = "/lib/libc.so.6"};
    const struct neap_row empty = {.depth = 0};

    (void)state;
    assert_true(builtin(&stdio, &top));
    assert_true(builtin(&internal, &top));
    assert_true(builtin(&loader, &libc));
    assert_true(builtin(&loader, NULL));
    assert_true(builtin(&cxx, &loader));
    assert_false(builtin(&mine, &top));
    assert_false(builtin(&libc, &loader));
    assert_false(builtin(&cxx, &top));
    assert_false(builtin(&cxx, NULL));
    assert_false(builtin(&top, &loader));
    assert_false(builtin(&bare, NULL));
    assert_false(neap_suppress_builtin(&empty));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns),     cmocka_unit_test(hostile_patterns_end),
        cmocka_unit_test(files),        cmocka_unit_test(bad_files),
        cmocka_unit_test(builtin_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
