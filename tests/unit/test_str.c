/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/base/str: growing, the sticky failure, JSON of any bytes.
 * Links: -Wl,--wrap=realloc
 */
#include "schema/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

void *__real_realloc(void *old, size_t size); /* NOLINT: ld's name */
void *__wrap_realloc(void *old, size_t size); /* NOLINT: ld's name */

static bool no_memory;

void *__wrap_realloc(void *old, size_t size) /* NOLINT: ld's name */
{
    return no_memory ? NULL : __real_realloc(old, size);
}

static void assert_json(const void *bytes, size_t length, const char *want)
{
    neap_auto_str struct neap_str str = {0};

    neap_str_json(&str, bytes, length);
    assert_false(str.failed);
    assert_string_equal(str.data, want);
}

static void appends_of_all_kinds_make_one_text(void **state)
{
    neap_auto_str struct neap_str str = {0};
    neap_auto_free char *text = NULL;

    (void)state;
    neap_str_text(&str, "one");
    neap_str_char(&str, ' ');
    neap_str_format(&str, "%d-%s", 42, "two");
    neap_str_bytes(&str, "\0x", 2);
    assert_int_equal(str.length, 12);
    assert_memory_equal(str.data, "one 42-two\0x", 13);
    assert_null(neap_str_take(&str, &text));
    assert_null(str.data);
    assert_int_equal(str.length, 0);
    assert_string_equal(text, "one 42-two");
}

static void a_long_text_grows_byte_by_byte(void **state)
{
    neap_auto_str struct neap_str str = {0};

    (void)state;
    for (int i = 0; i < 100000; i++)
        neap_str_char(&str, (char)('a' + i % 26));
    assert_int_equal(str.length, 100000);
    assert_int_equal(strlen(str.data), 100000);
    for (int i = 0; i < 100000; i++)
        if (str.data[i] != 'a' + i % 26)
            fail_msg("byte %d is %d", i, str.data[i]);
}

static void an_empty_string_is_taken_as_empty_text(void **state)
{
    neap_auto_str struct neap_str str = {0};
    neap_auto_free char *text = NULL;

    (void)state;
    assert_null(neap_str_take(&str, &text));
    assert_string_equal(text, "");
}

static void the_first_failure_is_reported_at_the_end(void **state)
{
    neap_auto_str struct neap_str str = {0};
    char *text = NULL;

    (void)state;
    neap_str_text(&str, "kept");
    no_memory = true;
    for (int i = 0; i < 100; i++)
        neap_str_text(&str, "more");
    no_memory = false;
    neap_str_text(&str, "nothing after a failure");
    assert_true(str.failed);
    assert_ptr_equal(neap_str_take(&str, &text), NEAP_NO_MEMORY);
    assert_null(text);
    neap_str_clear(&str);
    neap_str_text(&str, "anew");
    assert_false(str.failed);
    assert_string_equal(str.data, "anew");
}

static void an_impossible_length_fails_instead_of_wrapping(void **state)
{
    neap_auto_str struct neap_str str = {0};

    (void)state;
    neap_str_text(&str, "x");
    neap_str_bytes(&str, "y", SIZE_MAX - 1);
    assert_true(str.failed);
    assert_string_equal(str.data, "x");
}

static void json_escapes_what_json_forbids(void **state)
{
    (void)state;
    assert_json("", 0, "\"\"");
    assert_json("a\"b\\c", 5, "\"a\\\"b\\\\c\"");
    assert_json("\0\n\t\x1f\x7f", 5, "\"\\u0000\\u000a\\u0009\\u001f\\u007f\"");
    assert_json("/", 1, "\"/\"");
}

static void json_keeps_utf8(void **state)
{
    static const char text[] = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x8a"
                               "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf";
    neap_auto_str struct neap_str str = {0};

    (void)state;
    neap_str_json(&str, text, strlen(text));
    assert_int_equal(str.length, strlen(text) + 2);
    assert_memory_equal(str.data + 1, text, strlen(text));
}

static void json_replaces_what_is_no_utf8(void **state)
{
    static const struct {
        const char *bytes;
        int replaced;
    } rows[] = {
        {"\x80", 1},             /* continuation without a start */
        {"\xff", 1},             /* never a byte of UTF-8 */
        {"\xc0\xaf", 2},         /* overlong */
        {"\xe0\x9f\xbf", 3},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 4}, /* overlong */
        {"\xed\xa0\x80", 3},     /* surrogate */
        {"\xf4\x90\x80\x80", 4}, /* above U+10FFFF */
        {"\xe2\x82", 2},         /* cut short */
        {"\xe2\x82z", 2},        /* cut short by something */
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(rows); i++) {
        neap_auto_str struct neap_str want = {0};
        size_t length = strlen(rows[i].bytes);

        neap_str_char(&want, '"');
        for (int n = 0; n < rows[i].replaced; n++)
            neap_str_text(&want, "\xef\xbf\xbd");
        if (rows[i].bytes[length - 1] == 'z')
            neap_str_char(&want, 'z');
        neap_str_char(&want, '"');
        assert_json(rows[i].bytes, length, want.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_of_all_kinds_make_one_text),
        cmocka_unit_test(a_long_text_grows_byte_by_byte),
        cmocka_unit_test(an_empty_string_is_taken_as_empty_text),
        cmocka_unit_test(the_first_failure_is_reported_at_the_end),
        cmocka_unit_test(an_impossible_length_fails_instead_of_wrapping),
        cmocka_unit_test(json_escapes_what_json_forbids),
        cmocka_unit_test(json_keeps_utf8),
        cmocka_unit_test(json_replaces_what_is_no_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
