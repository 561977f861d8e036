/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames are left out, by stacks as they are seen on real systems.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ingest/trim.h"
#include "schema/attr.h"

/* A frame is "module!function"; "" is a function without a name. */
struct stack {
    bool truncated;
    const char *frames[12];
    size_t first, end; /* what is to be left */
};

static const struct stack stacks[] = {
    /* Debian without debug symbols: __libc_start_call_main has no name. */
    {false,
     {"app!work", "app!main", "libc.so.6!", "libc.so.6!__libc_start_main",
      "app!_start"},
     0,
     2},
    /* With them. */
    {false,
     {"app!main", "libc.so.6!__libc_start_call_main",
      "libc.so.6!__libc_start_main_impl", "app!_start"},
     0,
     1},
    /* A name of the C library's that is wrong says nothing outside of main. */
    {false,
     {"app!main", "libc.so.6!getenv", "libc.so.6!__libc_start_main@@GLIBC_2.34",
      "app!_start"},
     0,
     1},
    /* main called by main, and a main that is called by somebody else. */
    {false,
     {"app!main", "app!again", "app!main", "libc.so.6!", "libc.so.6!__libc_start_main"},
     0,
     3},
    {false, {"app!main", "app!run_tests", "app!_start"}, 0, 2},
    /* A stripped program: what is left of it are its frames without names. */
    {false,
     {"app!", "app!", "libc.so.6!", "libc.so.6!__libc_start_main", "app!"},
     0,
     2},
    {false,
     {"app!", "app!main", "libc.so.6!", "libc.so.6!__libc_start_main", "app!"},
     0,
     2},
    /* Threads keep their start function. */
    {false, {"app!worker", "libc.so.6!start_thread", "libc.so.6!clone3"}, 0, 1},
    {false, {"app!worker", "libc.so.6!", "libc.so.6!"}, 0, 1},
    {false,
     {"app!job", "libstdc++.so.6!execute_native_thread_routine",
      "libc.so.6!start_thread", "libc.so.6!__clone"},
     0,
     2},
    /* A constructor of a library, with and without names of the loader's. */
    {false,
     {"libfoo.so!init", "/lib64/ld-linux-x86-64.so.2!call_init",
      "/lib64/ld-linux-x86-64.so.2!_dl_init",
      "/lib64/ld-linux-x86-64.so.2!_dl_start_user"},
     0,
     3},
    {false, {"libfoo.so!init", "ld-linux-x86-64.so.2!", "ld-linux-x86-64.so.2!"}, 0, 1},
    /* At exit: the C library's named frames are no start-up code. */
    {false,
     {"app!at_exit", "libc.so.6!__run_exit_handlers", "libc.so.6!exit", "libc.so.6!",
      "libc.so.6!__libc_start_main", "app!_start"},
     0,
     3},
    /* A walk that did not reach the root has no start-up code to lose. */
    {true, {"app!worker", "libc.so.6!", "libc.so.6!"}, 0, 3},
    {true, {"app!main", "libc.so.6!__libc_start_main"}, 0, 2},
    /* C++. */
    {false,
     {"libstdc++.so.6!operator new(unsigned long)", "app!main", "libc.so.6!"},
     1,
     2},
    {false,
     {"libstdc++.so.6!operator new(unsigned long)",
      "libstdc++.so.6!operator new[](unsigned long)", "app!f()", "app!main"},
     2,
     4},
    {true, {"libstdc++.so.6!operator new(unsigned long)", "app!f()"}, 1, 2},
    {false, {"app!f()", "app!operator new(unsigned long)", "app!main"}, 0, 3},
    /* Never nothing. */
    {false, {"libstdc++.so.6!operator new(unsigned long)"}, 0, 1},
    {false, {"libc.so.6!", "libc.so.6!__libc_start_main", "app!_start"}, 0, 3},
    {false, {"app!_start"}, 0, 1},
    {false, {"app!"}, 0, 1},
    {false, {"libc.so.6!"}, 0, 1},
    /* Generated code is in no module. */
    {false,
     {"!", "!", "app!main", "libc.so.6!", "libc.so.6!__libc_start_main", "app!_start"},
     0,
     3},
    {false, {"!", "!"}, 0, 2},
};

static void test_stacks(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(stacks); i++) {
        struct neap_trim_frame frames[12];
        size_t count = 0, first, end;

        for (; count < 12 && stacks[i].frames[count]; count++) {
            const char *text = stacks[i].frames[count];
            const char *mark = strchr(text, '!');
            char module[64] = "";

            memcpy(module, text, (size_t)(mark - text));
            frames[count] =
                (struct neap_trim_frame){.role = (uint8_t)neap_frame_role(mark + 1),
                                         .libc = neap_module_is_libc(module)};
        }
        neap_trim(frames, count, stacks[i].truncated, &first, &end);
        if (first != stacks[i].first || end != stacks[i].end)
            print_error("stack %zu (%s): %zu to %zu\n", i, stacks[i].frames[0], first,
                        end);
        assert_int_equal(first, stacks[i].first);
        assert_int_equal(end, stacks[i].end);
    }
}

static void test_roles(void **unused)
{
    (void)unused;
    assert_int_equal(neap_frame_role(NULL), NEAP_ROLE_UNNAMED);
    assert_int_equal(neap_frame_role("mainloop"), NEAP_ROLE_OTHER);
    assert_int_equal(neap_frame_role("foo::main"), NEAP_ROLE_OTHER);
    assert_int_equal(neap_frame_role("cloned"), NEAP_ROLE_OTHER);
    assert_int_equal(neap_frame_role("clone"), NEAP_ROLE_START);
    assert_int_equal(neap_frame_role("start_thread.part.0"), NEAP_ROLE_START);
    assert_int_equal(neap_frame_role("operator delete(void*)"), NEAP_ROLE_OTHER);
}

static void test_modules(void **unused)
{
    (void)unused;
    assert_true(neap_module_is_libc("/lib/x86_64-linux-gnu/libc.so.6"));
    assert_true(neap_module_is_libc("/lib/libc-2.31.so"));
    assert_true(neap_module_is_libc("/lib64/ld-linux-x86-64.so.2"));
    assert_true(neap_module_is_libc("libpthread.so.0"));
    assert_false(neap_module_is_libc("/opt/libc.so.6/libfoo.so"));
    assert_false(neap_module_is_libc("/usr/lib/libcrypto.so.3"));
    assert_false(neap_module_is_libc("/usr/bin/ld"));
    assert_false(neap_module_is_libc(""));
}

/* Whatever the frames are, at least one is left, and nothing from outside. */
static void test_any(void **unused)
{
    unsigned state = 1;

    (void)unused;
    for (int round = 0; round < 200000; round++) {
        struct neap_trim_frame frames[8];
        size_t count = 1 + (size_t)round % 8, first, end;

        for (size_t i = 0; i < count; i++) {
            state = state * 1103515245u + 12345u;
            frames[i].role = (uint8_t)((state >> 16) % (NEAP_ROLE_START + 1));
            frames[i].libc = state >> 28 & 1;
        }
        neap_trim(frames, count, round % 3 == 0, &first, &end);
        assert_true(first < end && end <= count);
        if (round % 3 == 0)
            assert_int_equal(end, count);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stacks),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_any),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
