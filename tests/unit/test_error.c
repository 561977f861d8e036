/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/base/error: messages are one line, failing needs no memory.
 * Links: -Wl,--wrap=malloc
 */
#include "schema/base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"

void *__real_malloc(size_t size); /* NOLINT: ld's name */
void *__wrap_malloc(size_t size); /* NOLINT: ld's name */

static bool no_memory;

void *__wrap_malloc(size_t size) /* NOLINT: ld's name */
{
    return no_memory ? NULL : __real_malloc(size);
}

static void a_message_is_formatted(void **state)
{
    struct neap_error *error =
        neap_error_create(NEAP_ERROR_MISSING, "no %s at %d", "file", 7);

    (void)state;
    assert_int_equal(error->code, NEAP_ERROR_MISSING);
    assert_int_equal(error->errnum, 0);
    assert_string_equal(error->message, "no file at 7");
    neap_error_destroy(error);
}

static void a_system_error_says_why(void **state)
{
    struct neap_error *error = neap_error_os(ENOSPC, "cannot write %s", "x.neap");

    (void)state;
    assert_int_equal(error->code, NEAP_ERROR_OS);
    assert_int_equal(error->errnum, ENOSPC);
    assert_string_equal(error->message, "cannot write x.neap: No space left on device");
    neap_error_destroy(error);
    error = neap_error_os(99999, "x");
    assert_string_equal(error->message, "x: Unknown error 99999");
    neap_error_destroy(error);
}

static void a_message_is_one_line_whatever_is_in_it(void **state)
{
    struct neap_error *error =
        neap_error_create(NEAP_ERROR_USAGE, "%s", "a\nb\r\x1b[31mc\x7f");

    (void)state;
    assert_string_equal(error->message, "a?b??[31mc?");
    neap_error_destroy(error);
}

static void a_long_message_is_kept_whole(void **state)
{
    neap_auto_free char *text = malloc(100001);
    struct neap_error *error;

    (void)state;
    memset(text, 'y', 100000);
    text[100000] = 0;
    error = neap_error_os(EIO, "%s", text);
    assert_int_equal(strlen(error->message), 100000 + strlen(": Input/output error"));
    neap_error_destroy(error);
}

static void without_memory_there_is_still_an_error(void **state)
{
    (void)state;
    no_memory = true;
    struct neap_error *one = neap_error_create(NEAP_ERROR_USAGE, "x");
    struct neap_error *two = neap_error_os(EIO, "x");

    no_memory = false;
    assert_ptr_equal(one, NEAP_NO_MEMORY);
    assert_ptr_equal(two, NEAP_NO_MEMORY);
    assert_int_equal(one->code, NEAP_ERROR_NO_MEMORY);
    assert_string_equal(one->message, "out of memory");
    neap_error_destroy(one);
    neap_error_destroy(two);
    assert_string_equal(NEAP_NO_MEMORY->message, "out of memory");
    neap_error_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_formatted),
        cmocka_unit_test(a_system_error_says_why),
        cmocka_unit_test(a_message_is_one_line_whatever_is_in_it),
        cmocka_unit_test(a_long_message_is_kept_whole),
        cmocka_unit_test(without_memory_there_is_still_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
