/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks of events: what was appended is read again, whatever it is; and what is cut,
 * flipped or forged is an error or as many events as were asked for, never a crash.
 * Links: tests/unit/recordings.c tests/unit/scratch.c
 */
#include "schema/store/chunk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/recordings.h"

#define BLOCKS 600

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % below;
}

/* A program that makes events: what it has allocated, and where each was noted. */
struct program {
    struct neap_chunk_event live[BLOCKS];
    uint16_t refs[BLOCKS];
    bool lives[BLOCKS], taken[BLOCKS]; /* taken: by the first half of a realloc */
    uint64_t ts_ns;
    unsigned threads, sites, align;
    bool wild; /* any 64-bit number may be a size, an address or a time */
};

static uint64_t wild_number(void)
{
    uint64_t number = draw(UINT64_MAX);

    return number >> draw(64);
}

static struct neap_chunk_event next_event(struct program *program, unsigned *ret_block)
{
    unsigned block = (unsigned)draw(BLOCKS);
    struct neap_chunk_event *event = &program->live[block], made;
    uint32_t tid = 100 + (uint32_t)draw(program->threads);

    *ret_block = block;
    if (draw(3) == 0)
        program->ts_ns +=
            program->wild && draw(50) == 0 ? draw(1ull << 50) : draw(1000);
    if (draw(20) == 0)
        return (struct neap_chunk_event){
            .ts_ns = program->ts_ns,
            .address = program->wild ? wild_number() : draw(1000) << program->align,
            .site = NEAP_CHUNK_NONE,
            .tid = tid,
            .op = (uint8_t)(NEAP_CHUNK_FOREIGN | (draw(2) ? NEAP_CHUNK_REALLOC : 0)),
            .shift = (uint8_t)draw(3)};
    if (!program->lives[block] && !program->taken[block]) {
        *event = (struct neap_chunk_event){
            .address = program->wild
                           ? wild_number()
                           : 0x10000 + ((uint64_t)block << program->align) * 3,
            .size =
                program->wild && draw(9) == 0 ? wild_number() : (uint64_t)8 << draw(6),
            .site = program->wild && draw(9) == 0 ? (uint32_t)draw(NEAP_CHUNK_NONE)
                                                  : (uint32_t)draw(program->sites),
            .owner = tid,
            .shift = (uint8_t)(program->wild ? draw(64) : 0)};
        program->lives[block] = true;
        made = *event;
        made.op = (uint8_t)(NEAP_CHUNK_ALLOC | (draw(8) ? 0 : NEAP_CHUNK_REALLOC));
    } else if (program->taken[block]) {
        made = *event;
        made.op = (uint8_t)(NEAP_CHUNK_UNDO | NEAP_CHUNK_REALLOC |
                            (draw(2) ? NEAP_CHUNK_TEMPORARY : 0));
        program->taken[block] = false;
        program->lives[block] = true;
    } else {
        made = *event;
        made.op = (uint8_t)(NEAP_CHUNK_FREE | (draw(4) ? 0 : NEAP_CHUNK_TEMPORARY) |
                            (draw(9) ? 0 : NEAP_CHUNK_IMPLIED));
        program->lives[block] = false;
        if (draw(4) == 0) {
            made.op |= NEAP_CHUNK_REALLOC;
            program->taken[block] = draw(2);
        }
    }
    made.ts_ns = program->ts_ns;
    made.tid = tid;
    return made;
}

static void assert_events(const struct neap_chunk_event *found,
                          const struct neap_chunk_event *expected, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_true(found[i].ts_ns == expected[i].ts_ns);
        assert_true(found[i].address == expected[i].address);
        assert_true(found[i].size == expected[i].size);
        assert_int_equal(found[i].site, expected[i].site);
        assert_int_equal(found[i].tid, expected[i].tid);
        assert_int_equal(found[i].owner, expected[i].owner);
        assert_int_equal(found[i].op, expected[i].op);
        assert_int_equal(found[i].shift, expected[i].shift);
    }
}

struct codec {
    struct neap_chunk chunk;
    struct neap_chunk_encoder *encoder;
    struct neap_chunk_reader *reader;
    struct neap_chunk_event expected[NEAP_CHUNK_EVENTS];
};

static int setup(void **state)
{
    struct codec *codec = calloc(1, sizeof(*codec));

    assert_non_null(codec);
    assert_ok(neap_chunk_encoder_create(&codec->encoder));
    assert_ok(neap_chunk_reader_create(&codec->reader));
    random_state = 88172645463325252u;
    *state = codec;
    return 0;
}

static int teardown(void **state)
{
    struct codec *codec = *state;

    neap_chunk_deinit(&codec->chunk);
    neap_chunk_encoder_destroy(codec->encoder);
    neap_chunk_reader_destroy(codec->reader);
    neap_chunk_encoder_destroy(NULL);
    neap_chunk_reader_destroy(NULL);
    free(codec);
    return 0;
}

/* Fill the chunk with `count` events of the program. */
static void fill(struct codec *codec, struct program *program, uint32_t count)
{
    neap_chunk_clear(&codec->chunk);
    for (uint32_t i = 0; i < count; i++) {
        unsigned block;

        codec->expected[i] = next_event(program, &block);
        assert_true(neap_chunk_append(&codec->chunk, &codec->expected[i],
                                      &program->refs[block]));
    }
    assert_int_equal(codec->chunk.count, count);
}

static const void *encode(struct codec *codec, size_t *ret_length)
{
    const void *blob = NULL;

    assert_ok(neap_chunk_encode(codec->encoder, &codec->chunk, &blob, ret_length));
    return blob;
}

static void assert_round_trip(struct codec *codec, uint32_t count)
{
    const struct neap_chunk_event *found = NULL;
    uint64_t first, last;
    size_t length;
    const void *blob = encode(codec, &length);

    assert_ok(neap_chunk_decode(codec->reader, blob, length, count, &found));
    assert_events(found, codec->expected, count);
    neap_chunk_span(&codec->chunk, &first, &last);
    assert_true(first == codec->expected[0].ts_ns);
    assert_true(last == codec->expected[count - 1].ts_ns);
}

static void programs(void **state)
{
    static const struct program kinds[] = {
        {.threads = 1, .sites = 1, .align = 4},
        {.threads = 1, .sites = 100, .align = 4},
        {.threads = 7, .sites = 20, .align = 3},
        {.threads = 3000, .sites = 60000, .align = 0},
        {.threads = 4, .sites = 50, .align = 4, .wild = true},
    };
    struct codec *codec = *state;

    for (size_t kind = 0; kind < NEAP_ARRAY_LEN(kinds); kind++) {
        struct program program = kinds[kind];

        for (int chunk = 0; chunk < 12; chunk++) {
            uint32_t count = chunk % 4 == 0 ? NEAP_CHUNK_EVENTS
                                            : 1 + (uint32_t)draw(NEAP_CHUNK_EVENTS / 8);

            fill(codec, &program, count);
            assert_round_trip(codec, count);
        }
    }
}

/* A chunk that grows is stored again and again. */
static void a_chunk_that_grows(void **state)
{
    struct program program = {.threads = 2, .sites = 9, .align = 4};
    struct codec *codec = *state;

    for (uint32_t i = 0; i < 200; i++) {
        unsigned block;

        codec->expected[i] = next_event(&program, &block);
        assert_true(neap_chunk_append(&codec->chunk, &codec->expected[i],
                                      &program.refs[block]));
        assert_round_trip(codec, i + 1);
    }
}

/* Every event names its own two threads, site, time, shift, and frees what is not here.
 */
static void nothing_is_shared(void **state)
{
    struct codec *codec = *state;
    uint16_t ref = 0;

    for (uint32_t i = 0; i < NEAP_CHUNK_EVENTS; i++) {
        codec->expected[i] =
            (struct neap_chunk_event){.ts_ns = (uint64_t)i << 40,
                                      .address = i % 2 ? UINT64_MAX - i : i,
                                      .size = UINT64_MAX - i,
                                      .site = i % 2 ? NEAP_CHUNK_NONE - 1 - i : i,
                                      .tid = UINT32_MAX - 2 * i,
                                      .owner = UINT32_MAX - 2 * i - 1,
                                      .op = NEAP_CHUNK_FREE,
                                      .shift = (uint8_t)(i % 64)};
        assert_true(neap_chunk_append(&codec->chunk, &codec->expected[i], &ref));
    }
    assert_round_trip(codec, NEAP_CHUNK_EVENTS);
}

static void assert_not(struct codec *codec, const void *blob, size_t length,
                       uint32_t count, enum neap_error_code code, const char *words)
{
    const struct neap_chunk_event *found = NULL;

    assert_error(neap_chunk_decode(codec->reader, blob, length, count, &found), code,
                 words);
    assert_null(found);
}

static void what_is_no_chunk(void **state)
{
    struct program program = {.threads = 2, .sites = 9, .align = 4};
    struct codec *codec = *state;
    unsigned char *copy;
    const void *blob;
    size_t length;

    fill(codec, &program, 1000);
    blob = encode(codec, &length);
    copy = malloc(length + 1);
    assert_non_null(copy);
    memcpy(copy, blob, length);
    copy[length] = 0;
    assert_not(codec, copy, 0, 1000, NEAP_ERROR_DAMAGED, "empty");
    assert_not(codec, copy, length, 999, NEAP_ERROR_DAMAGED, "another number");
    assert_not(codec, copy, length, 1001, NEAP_ERROR_DAMAGED, "another number");
    assert_not(codec, copy, length, NEAP_CHUNK_EVENTS + 1, NEAP_ERROR_DAMAGED,
               "more events than");
    copy[0]++;
    assert_not(codec, copy, length, 1000, NEAP_ERROR_NEWER, "format 2, this reads 1");
    copy[0]--;
    for (size_t cut = 0; cut < length; cut += 1 + cut / 64)
        assert_not(codec, copy, cut, 1000, NEAP_ERROR_DAMAGED, "");
    assert_not(codec, copy, length + 1, 1000, NEAP_ERROR_DAMAGED, "");
    free(copy);
}

/* Flipped bits: an error, or, where the frame's own head does not mind, no difference.
 */
static void flipped_bits(void **state)
{
    struct program program = {.threads = 3, .sites = 30, .align = 3};
    struct codec *codec = *state;
    const struct neap_chunk_event *events;
    struct neap_chunk_event *right;
    unsigned char *copy;
    const void *blob;
    size_t length;
    int errors = 0;

    fill(codec, &program, 1000);
    blob = encode(codec, &length);
    copy = malloc(length);
    right = malloc(1000 * sizeof(*right));
    assert_true(copy && right);
    memcpy(copy, blob, length);
    assert_null(neap_chunk_decode(codec->reader, copy, length, 1000, &events));
    memcpy(right, events, 1000 * sizeof(*right));
    for (size_t bit = 0; bit < length * 8; bit += 1 + draw(3)) {
        const struct neap_chunk_event *found = NULL;
        struct neap_error *error;

        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
        error = neap_chunk_decode(codec->reader, copy, length, 1000, &found);
        errors += error != NULL;
        neap_error_destroy(error);
        if (!error)
            assert_memory_equal(found, right, 1000 * sizeof(*right));
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(errors > 0);
    free(right);
    free(copy);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(programs),         TEST(a_chunk_that_grows), TEST(nothing_is_shared),
        TEST(what_is_no_chunk), TEST(flipped_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
