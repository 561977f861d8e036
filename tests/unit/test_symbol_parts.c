/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts under daemon/symbol that need no file: spans, blocks of answers,
 * readable names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/symbol/answers.h"
#include "daemon/symbol/demangle.h"
#include "daemon/symbol/span.h"
#include "schema/base/cleanup.h"

/* ---- spans ---- */

static void test_spans_innermost(void **state)
{
    struct neap_spans spans = {0};
    size_t cursor;

    (void)state;
    assert_null(neap_spans_find(&spans, 0));
    assert_true(neap_spans_add(&spans, 300, 400, 4));
    assert_true(neap_spans_add(&spans, 100, 200, 1));
    assert_true(neap_spans_add(&spans, 120, 130, 2));
    assert_true(neap_spans_add(&spans, 120, 125, 3));
    assert_true(neap_spans_add(&spans, 150, 150, 5));
    neap_spans_sort(&spans);

    assert_null(neap_spans_find(&spans, 99));
    assert_int_equal(neap_spans_find(&spans, 100)->value, 1);
    assert_int_equal(neap_spans_find(&spans, 120)->value, 3);
    assert_int_equal(neap_spans_find(&spans, 125)->value, 2);
    assert_int_equal(neap_spans_find(&spans, 150)->value, 1);
    assert_int_equal(neap_spans_find(&spans, 199)->value, 1);
    assert_null(neap_spans_find(&spans, 200));
    assert_int_equal(neap_spans_find(&spans, 399)->value, 4);
    assert_null(neap_spans_find(&spans, UINT64_MAX));

    cursor = neap_spans_below(&spans, 121);
    assert_int_equal(neap_spans_next(&spans, 121, &cursor)->value, 3);
    assert_int_equal(neap_spans_next(&spans, 121, &cursor)->value, 2);
    assert_int_equal(neap_spans_next(&spans, 121, &cursor)->value, 1);
    assert_null(neap_spans_next(&spans, 121, &cursor));
    neap_spans_deinit(&spans);
}

/* Against a plain search, for ranges that nest and overlap in all ways. */
static void test_spans_like_plain_search(void **state)
{
    struct neap_spans spans = {0};
    uint32_t seed = 1;

    (void)state;
    for (unsigned i = 0; i < 500; i++) {
        uint64_t low = (seed = seed * 1664525u + 1013904223u) >> 22;
        uint64_t high = low + ((seed = seed * 1664525u + 1013904223u) >> 26);

        assert_true(neap_spans_add(&spans, low, high, i));
    }
    neap_spans_sort(&spans);
    for (uint64_t at = 0; at < 1200; at++) {
        const struct neap_span *found = neap_spans_find(&spans, at);
        uint64_t low = 0;
        bool any = false;

        for (size_t i = 0; i < spans.vec.count; i++) {
            const struct neap_span *span = &spans.vec.data[i];

            if (span->low <= at && at < span->high) {
                any = true;
                low = span->low > low ? span->low : low;
            }
        }
        assert_int_equal(found != NULL, any);
        if (any) {
            assert_int_equal(found->low, low);
            assert_true(at < found->high);
        }
    }
    neap_spans_deinit(&spans);
}

/* ---- answers ---- */

struct expected {
    const char *function;
    const char *file;
    uint32_t line;
};

struct check {
    const struct expected *frames;
    uint32_t count;
    uint64_t token;
    unsigned calls;
};

static void check_answer(void *context, const struct neap_symbol_answer *answer)
{
    struct check *check = context;

    check->calls++;
    assert_int_equal(answer->token, check->token);
    assert_int_equal(answer->count, check->count);
    for (uint32_t i = 0; i < answer->count; i++) {
        const struct neap_symbol_frame *frame = &answer->frames[i];
        const struct expected *expected = &check->frames[i];

        assert_int_equal(frame->inlined, i + 1 < answer->count);
        assert_int_equal(frame->line, expected->line);
        assert_int_equal(frame->function == NULL, expected->function == NULL);
        assert_int_equal(frame->file == NULL, expected->file == NULL);
        if (expected->function)
            assert_string_equal(frame->function, expected->function);
        if (expected->file)
            assert_string_equal(frame->file, expected->file);
    }
}

static void test_answers_carry(void **state)
{
    static const struct expected frames[] = {
        {"inner", "/src/a/inner.h", 3},
        {"middle", "/abs.c", 7},
        {NULL, "/src/a/b.c", 0},
        {"outer", NULL, 9},
    };
    struct check check = {frames, 4, 77, 0};
    struct neap_answers answers;

    (void)state;
    assert_true(neap_answers_init(&answers));
    neap_answers_begin(&answers, 1);
    neap_answers_frame(&answers, "dropped", NULL, "dropped.c", 1);
    neap_answers_begin(&answers, 77);
    neap_answers_frame(&answers, "inner", "/src", "a/./inner.h", 3);
    neap_answers_frame(&answers, "middle", "/src", "/././abs.c", 7);
    neap_answers_frame(&answers, NULL, "/src/", "./a/././b.c", 0);
    neap_answers_frame(&answers, "outer", "/src", NULL, 9);
    neap_answers_end(&answers);
    assert_int_equal(neap_answers_take(&answers, check_answer, &check), 1);
    assert_int_equal(check.calls, 1);
    assert_int_equal(neap_answers_take(&answers, check_answer, &check), 0);
    assert_int_equal(check.calls, 1);
    neap_answers_deinit(&answers);
}

/* A question without any frame is answered by one that says nothing. */
static void test_answers_never_empty(void **state)
{
    static const struct expected nothing = {NULL, NULL, 0};
    struct check check = {&nothing, 1, 5, 0};
    struct neap_answers answers;

    (void)state;
    assert_true(neap_answers_init(&answers));
    neap_answers_begin(&answers, 5);
    neap_answers_end(&answers);
    assert_int_equal(neap_answers_take(&answers, check_answer, &check), 1);
    neap_answers_deinit(&answers);
}

static void check_long(void *context, const struct neap_symbol_answer *answer)
{
    *(uint64_t *)context += answer->count;
    for (uint32_t i = 0; i < answer->count; i++) {
        /* 4095 would end inside of a character of two bytes. */
        assert_int_equal(strlen(answer->frames[i].function), NEAP_ANSWER_TEXT_MAX - 1);
        assert_int_equal(strlen(answer->frames[i].file), NEAP_ANSWER_TEXT_MAX);
    }
}

/* The longest answers there can be fit, one after the other, while there is room. */
static void test_answers_are_cut(void **state)
{
    neap_auto_free char *text = calloc(1, 20001);
    neap_auto_free char *path = calloc(1, 20001);
    struct neap_answers answers;
    uint64_t frames = 0;
    unsigned count = 0;

    (void)state;
    assert_non_null(text);
    assert_non_null(path);
    for (size_t i = 0; i < 20000; i++)
        text[i] = (char)(i % 2 ? 0xa9 : 0xc3);
    memset(path, 'p', 20000);
    assert_true(neap_answers_init(&answers));
    while (neap_answers_has_room(&answers)) {
        neap_answers_begin(&answers, count++);
        for (unsigned i = 0; i < NEAP_ANSWER_FRAMES_MAX + 10; i++)
            neap_answers_frame(&answers, text, path, path, i);
        neap_answers_end(&answers);
    }
    assert_true(count >= 1);
    assert_int_equal(neap_answers_take(&answers, check_long, &frames), count);
    assert_int_equal(frames, (uint64_t)count * NEAP_ANSWER_FRAMES_MAX);
    assert_true(neap_answers_has_room(&answers));
    neap_answers_deinit(&answers);
}

/* ---- names ---- */

static void test_demangle(void **state)
{
    static const struct {
        const char *mangled;
        const char *readable;
    } names[] = {
        {"_ZN2ns3boxIiE3getEi", "ns::box<int>::get(int)"},
        {"_ZN1AC4Ev", "A::A()"},
        {"_Znwm", "operator new(unsigned long)"},
        {"_ZN3fooEv.cold", "foo() [clone .cold]"},
        {"_ZN5alloc3vec12Vec$LT$T$GT$4push17h0123456789abcdefE",
         "alloc::vec::Vec<T>::push"},
        {"_ZN66_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$"
         "4drop17hfedcba9876543210E",
         "<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop"},
        {"_ZN4core3fmt5write17h00112233445566ffE.llvm.123456", "core::fmt::write"},
        {"main", NULL},
        {"", NULL},
        {"_", NULL},
        {"_Z", NULL},
        {"_ZN", NULL},
        {"_ZN9999999999999999999", NULL},
        {"_RNvCs1234_7mycrate3foo", NULL},
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        neap_auto_free char *readable = neap_demangle(names[i].mangled);

        if (!names[i].readable) {
            assert_null(readable);
        } else {
            assert_non_null(readable);
            assert_string_equal(readable, names[i].readable);
        }
    }
    assert_true(neap_demangle_applies("_ZN1AC4Ev"));
    assert_true(neap_demangle_applies("_RNvCs1234_7mycrate3foo"));
    assert_false(neap_demangle_applies("main"));
}

/* Names as long and as bad as they get end, one way or the other. */
static void test_demangle_hostile(void **state)
{
    enum {
        LENGTH = 200000
    };
    neap_auto_free char *name = malloc(LENGTH + 1);
    static const char *const pieces[] = {"P", "N1a", "I", "F", "$u20$", "17h", "S_"};

    (void)state;
    assert_non_null(name);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(pieces); i++) {
        size_t piece = strlen(pieces[i]);

        for (size_t length = 3; length < LENGTH; length *= 9) {
            memcpy(name, "_ZN", 3);
            for (size_t at = 3; at < length; at++)
                name[at] = pieces[i][(at - 3) % piece];
            name[length] = '\0';
            free(neap_demangle(name));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans_innermost),
        cmocka_unit_test(test_spans_like_plain_search),
        cmocka_unit_test(test_answers_carry),
        cmocka_unit_test(test_answers_never_empty),
        cmocka_unit_test(test_answers_are_cut),
        cmocka_unit_test(test_demangle),
        cmocka_unit_test(test_demangle_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
