/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The symbolizer as its caller sees it, on good days and on bad ones.
 * Links: tests/unit/symbol_files.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
 */
#include "daemon/symbol/symbol.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"
#include "tests/unit/symbol_files.h"

/* ---- memory that runs out ---- */

static atomic_long allocations_left = LONG_MAX;

static bool is_refused(void)
{
    return atomic_fetch_sub(&allocations_left, 1) == 0;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): ld's names */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return is_refused() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return is_refused() ? NULL : __real_strdup(text);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* ---- the program that is asked about ---- */

static struct symbol_build_id id;
static uint64_t outer;

static int setup(void **state)
{
    static const char source[] =
        "#line 1 \"part.c\"\n"
        "int table[4096] = {1};\n"
        "__attribute__((noinline)) int outer(int x)\n"
        "{\n"
        "    return table[x] + 2;\n"
        "}\n"
        "int main(int argc, char **argv) { return outer(argc + argv[0][0]); }\n";

    if (symbol_files_setup(state) != 0)
        return -1;
    symbol_write("part.c", source, strlen(source));
    symbol_run("gcc -O2 -g3 part.c -o part");
    symbol_build_id("part", &id);
    outer = symbol_address("part", "outer");
    return 0;
}

static void assert_outer(const struct symbol_frames *answer)
{
    assert_int_equal(answer->count, 1);
    assert_string_equal(answer->frames[0].function, "outer");
    assert_string_equal(answer->frames[0].file, symbol_path("part.c"));
    assert_in_range(answer->frames[0].line, 2, 5);
}

static void assert_nothing(const struct symbol_frames *answer)
{
    assert_int_equal(answer->count, 1);
    assert_string_equal(answer->frames[0].function, "");
    assert_string_equal(answer->frames[0].file, "");
    assert_int_equal(answer->frames[0].line, 0);
    assert_false(answer->frames[0].inlined);
}

static struct neap_symbolizer *create(void)
{
    struct neap_symbolizer *symbolizer;

    assert_null(neap_symbolizer_create(&symbolizer));
    return symbolizer;
}

static uint32_t add_module(struct neap_symbolizer *symbolizer, const char *name)
{
    uint32_t module;

    assert_null(neap_symbolizer_module(symbolizer, symbol_path(name), id.bytes,
                                       id.length, &module));
    return module;
}

/* ---- questions and answers ---- */

static void test_modules_are_the_same(void **state)
{
    struct neap_symbolizer *symbolizer = create();
    uint32_t first = add_module(symbolizer, "part");
    uint32_t other;

    (void)state;
    assert_int_equal(add_module(symbolizer, "part"), first);
    assert_int_not_equal(add_module(symbolizer, "part2"), first);
    assert_null(
        neap_symbolizer_module(symbolizer, symbol_path("part"), NULL, 0, &other));
    assert_int_not_equal(other, first);
    neap_symbolizer_destroy(symbolizer);
}

static void test_unknown_module(void **state)
{
    struct neap_symbolizer *symbolizer = create();
    struct neap_error *error = neap_symbolizer_ask(symbolizer, 0, 1, 1);

    (void)state;
    assert_non_null(error);
    assert_int_equal(error->code, NEAP_ERROR_USAGE);
    neap_error_destroy(error);
    assert_int_equal(neap_symbolizer_answers(symbolizer, true, symbol_copy, NULL), 0);
    neap_symbolizer_destroy(symbolizer);
    neap_symbolizer_destroy(NULL);
}

#define TOKENS 20000u

struct tokens {
    uint8_t seen[TOKENS];
    uint32_t named;
};

static void take_token(void *context, const struct neap_symbol_answer *answer)
{
    struct tokens *tokens = context;

    assert_true(answer->token < TOKENS);
    tokens->seen[answer->token]++;
    tokens->named += answer->frames[0].function != NULL;
    assert_false(answer->frames[answer->count - 1].inlined);
}

/* Each question has one answer, also for a caller that seldom asks for them. */
static void test_every_question_is_answered_once(void **state)
{
    struct neap_symbolizer *symbolizer = create();
    neap_auto_free struct tokens *tokens = calloc(1, sizeof(*tokens));
    uint32_t modules[3];

    (void)state;
    assert_non_null(tokens);
    modules[0] = add_module(symbolizer, "part");
    modules[1] = add_module(symbolizer, "missing");
    symbol_run("cp part copy");
    modules[2] = add_module(symbolizer, "copy");
    for (uint32_t i = 0; i < TOKENS; i++) {
        assert_null(neap_symbolizer_ask(symbolizer, modules[i % 3], outer, i));
        if (i % 7000 == 6999)
            neap_symbolizer_answers(symbolizer, false, take_token, tokens);
    }
    assert_int_equal(neap_symbolizer_answers(symbolizer, true, take_token, tokens), 0);
    for (uint32_t i = 0; i < TOKENS; i++)
        assert_int_equal(tokens->seen[i], 1);
    assert_int_equal(tokens->named, TOKENS - (TOKENS + 1) / 3);
    neap_symbolizer_destroy(symbolizer);
}

/* Answers to the first questions can be taken before the last ones are given. */
static void test_answers_without_waiting(void **state)
{
    struct neap_symbolizer *symbolizer = create();
    uint32_t module = add_module(symbolizer, "part");
    struct symbol_frames answer = {0};

    (void)state;
    assert_null(neap_symbolizer_ask(symbolizer, module, outer, 1));
    while (neap_symbolizer_answers(symbolizer, false, symbol_copy, &answer) > 0)
        usleep(1000);
    assert_outer(&answer);
    neap_symbolizer_destroy(symbolizer);
}

static void test_destroy_with_open_questions(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        struct neap_symbolizer *symbolizer = create();
        uint32_t module = add_module(symbolizer, "part");

        for (uint32_t i = 0; i < round * 1000; i++)
            assert_null(neap_symbolizer_ask(symbolizer, module, outer + i, i));
        neap_symbolizer_destroy(symbolizer);
    }
}

/* ---- files that are not what they were ---- */

static void test_other_build_id(void **state)
{
    struct symbol_build_id other = id;
    struct symbol_frames answer;

    (void)state;
    symbol_ask_id(symbol_path("part"), &id, outer, &answer);
    assert_outer(&answer);
    other.bytes[19] ^= 1;
    symbol_ask_id(symbol_path("part"), &other, outer, &answer);
    assert_nothing(&answer);
    other = id;
    other.length = 8;
    symbol_ask_id(symbol_path("part"), &other, outer, &answer);
    assert_nothing(&answer);
    other.length = 0;
    symbol_ask_id(symbol_path("part"), &other, outer, &answer);
    assert_nothing(&answer);

    symbol_run("gcc -O2 -g -Wl,--build-id=none part.c -o anonymous");
    symbol_ask_id(symbol_path("anonymous"), &id, outer, &answer);
    assert_nothing(&answer);
    outer = symbol_address("anonymous", "outer");
    symbol_ask("anonymous", outer, &answer);
    assert_outer(&answer);
    outer = symbol_address("part", "outer");
}

/* The file is the one that was there when the module was made known. */
static void test_replaced_file(void **state)
{
    struct neap_symbolizer *symbolizer = create();
    struct symbol_frames answer = {0};
    uint32_t module;

    (void)state;
    symbol_run("cp part gone");
    module = add_module(symbolizer, "gone");
    symbol_run("rm gone && echo another >gone");
    assert_null(neap_symbolizer_ask(symbolizer, module, outer, 1));
    assert_int_equal(neap_symbolizer_answers(symbolizer, true, symbol_copy, &answer),
                     0);
    assert_outer(&answer);
    neap_symbolizer_destroy(symbolizer);
}

static void test_no_ordinary_file(void **state)
{
    static const char *const names[] = {"missing", "directory", "pipe",  "empty",
                                        "text",    "object.o",  "loop",  "archive.a",
                                        "header",  "/",         "script"};
    static const char *const paths[] = {
        "[vdso]",     "linux-vdso.so.1", "",    "/dev/zero",
        "/dev/stdin", "/proc/self/mem",  "part"};
    struct symbol_frames answer;

    (void)state;
    symbol_run("mkdir -p directory && mkfifo pipe && : >empty && echo text >text && "
               "gcc -c -g part.c -o object.o && ln -s loop loop && "
               "ar cr archive.a object.o && head -c 64 part >header && "
               "printf '#!/bin/sh\\n' >script");
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        symbol_ask_id(symbol_path(names[i]), &id, outer, &answer);
        assert_nothing(&answer);
    }
    for (size_t i = 0; i < NEAP_ARRAY_LEN(paths); i++) {
        symbol_ask_id(paths[i], &id, outer, &answer);
        assert_nothing(&answer);
    }
}

/* A file that is written over in place while it is mapped is a SIGBUS away. */
static void shrink_file(void *argument)
{
    struct neap_symbolizer *symbolizer = create();
    struct symbol_frames answer = {0};
    uint32_t module;
    uint32_t sound;

    symbol_run("cp part shrinking");
    module = add_module(symbolizer, "shrinking");
    sound = add_module(symbolizer, "part");
    if (argument) { /* it is open already */
        assert_null(neap_symbolizer_ask(symbolizer, module, 1u << 30, 1));
        neap_symbolizer_answers(symbolizer, true, symbol_copy, &answer);
    }
    assert_int_equal(truncate(symbol_path("shrinking"), 1024), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_null(neap_symbolizer_ask(symbolizer, module, outer, 2));
        neap_symbolizer_answers(symbolizer, true, symbol_copy, &answer);
        assert_nothing(&answer);
    }
    assert_null(neap_symbolizer_ask(symbolizer, sound, outer, 3));
    neap_symbolizer_answers(symbolizer, true, symbol_copy, &answer);
    assert_outer(&answer);
    neap_symbolizer_destroy(symbolizer);
}

static void test_shrunk_file(void **state)
{
    static bool opened = true;

    (void)state;
    symbol_in_child(shrink_file, NULL);
    symbol_in_child(shrink_file, &opened);
}

/* ---- many modules ---- */

static unsigned count_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void test_many_modules(void **state)
{
    enum {
        MODULES = 2000
    };
    struct neap_symbolizer *symbolizer = create();
    neap_auto_free struct tokens *tokens = calloc(1, sizeof(*tokens));
    unsigned before = count_files();

    (void)state;
    assert_non_null(tokens);
    symbol_run("mkdir -p many && for i in $(seq 0 %d); do ln part many/$i; done",
               MODULES - 1);
    for (uint32_t i = 0; i < MODULES; i++) {
        char name[32];

        snprintf(name, sizeof(name), "many/%u", i);
        assert_int_equal(add_module(symbolizer, name), i);
    }
    /* The file of a late one is no longer the same, that of an early one is kept. */
    symbol_run("rm many/1999 many/0 && cp part many/1999");
    assert_true(count_files() <= before + 256);
    for (uint32_t i = 0; i < MODULES; i++)
        assert_null(neap_symbolizer_ask(symbolizer, i, outer, i));
    assert_int_equal(neap_symbolizer_answers(symbolizer, true, take_token, tokens), 0);
    assert_int_equal(tokens->named, MODULES - 1);
    assert_true(count_files() <= before + 256 + 3 * 32);
    neap_symbolizer_destroy(symbolizer);
    assert_int_equal(count_files(), before);
}

/* ---- memory that runs out ---- */

/* However it goes, a question that was taken is answered, and nothing is lost. */
static bool survive(void)
{
    struct neap_symbolizer *symbolizer = NULL;
    struct neap_error *error = neap_symbolizer_create(&symbolizer);
    struct symbol_frames answer = {0};
    uint32_t module = 0;
    bool asked = false;

    if (!error)
        error = neap_symbolizer_module(symbolizer, symbol_path("part"), id.bytes,
                                       id.length, &module);
    if (!error)
        error = neap_symbolizer_ask(symbolizer, module, outer, 1);
    if (!error) {
        asked = true;
        neap_symbolizer_answers(symbolizer, true, symbol_copy, &answer);
    }
    atomic_store(&allocations_left, LONG_MAX);
    if (asked)
        assert_int_equal(answer.count, 1);
    else
        assert_ptr_equal(error, NEAP_NO_MEMORY);
    neap_error_destroy(error);
    neap_symbolizer_destroy(symbolizer);
    return asked && answer.frames[0].line != 0;
}

static void test_no_memory(void **state)
{
    unsigned refused = 0;
    long at = 0;

    (void)state;
    for (bool whole = false; !whole && at < 1000; at++) {
        atomic_store(&allocations_left, at);
        whole = survive();
        refused += !whole;
        /* Some failures change nothing (a name stays mangled): go on to the end. */
        whole = whole && at > 100;
    }
    assert_true(refused >= 8);
}

/* ---- hostile files ---- */

static uint8_t *pristine;
static size_t pristine_length;

static uint32_t step(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void damage(uint8_t *bytes, size_t *length, uint32_t *seed)
{
    unsigned kind = step(seed) % 4;
    unsigned times = 1 + step(seed) % 40;

    if (kind == 0)
        *length = step(seed) % *length;
    for (unsigned i = 0; i<times && * length> 64; i++) {
        /* Most of the damage goes where structure is: headers and debug sections. */
        size_t low = kind == 1 ? 16 : kind == 2 ? *length / 2 : 0;
        size_t span = kind == 1 ? 400 : *length - low;
        size_t at = low + step(seed) % span;

        if (kind == 3)
            at = *length - 1 - step(seed) % (*length < 4096 ? *length : 4096);
        if (at < *length)
            bytes[at] = (uint8_t)step(seed);
    }
}

/* Twenty damaged files with the right build-id, each asked all over. */
static void read_damaged(void *argument)
{
    uint32_t seed = *(const uint32_t *)argument;

    for (unsigned i = 0; i < 20; i++) {
        struct neap_symbolizer *symbolizer = create();
        neap_auto_free uint8_t *bytes = malloc(pristine_length);
        neap_auto_free struct tokens *tokens = calloc(1, sizeof(*tokens));
        size_t length = pristine_length;
        struct symbol_build_id found = id;
        uint32_t module;

        assert_non_null(bytes);
        assert_non_null(tokens);
        memcpy(bytes, pristine, length);
        damage(bytes, &length, &seed);
        symbol_write("damaged", bytes, length);
        assert_null(neap_symbolizer_module(symbolizer, symbol_path("damaged"),
                                           found.bytes, found.length, &module));
        for (uint32_t at = 0; at < 2000; at++)
            assert_null(neap_symbolizer_ask(symbolizer, module, outer - 1000 + at, at));
        neap_symbolizer_answers(symbolizer, true, take_token, tokens);
        neap_symbolizer_destroy(symbolizer);
    }
}

static void test_damaged_files(void **state)
{
    (void)state;
    pristine_length = symbol_read("part", &pristine);
    for (uint32_t seed = 1; seed <= 10; seed++)
        symbol_in_child(read_damaged, &seed);
    free(pristine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modules_are_the_same),
        cmocka_unit_test(test_unknown_module),
        cmocka_unit_test(test_every_question_is_answered_once),
        cmocka_unit_test(test_answers_without_waiting),
        cmocka_unit_test(test_destroy_with_open_questions),
        cmocka_unit_test(test_other_build_id),
        cmocka_unit_test(test_replaced_file),
        cmocka_unit_test(test_no_ordinary_file),
        cmocka_unit_test(test_shrunk_file),
        cmocka_unit_test(test_many_modules),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_damaged_files),
    };

    return cmocka_run_group_tests(tests, setup, symbol_files_teardown);
}
