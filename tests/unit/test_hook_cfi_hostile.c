/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/cfi on tables that lie: it must refuse them, end, and read nothing outside
 * the module. Blocks of the heap's exact size let the address sanitizer see a byte too
 * much; without it, unreadable pages on both sides do.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c tests/unit/cfi_sample.c
 */
#include "libhook/cfi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cfi_sample.h"

#define BYTES(...) \
    (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* What the sample's bytes give, at the code's first byte. */
static enum neap_cfi_found find(const struct cfi_sample *sample, bool *ret_applied)
{
    enum neap_cfi_found found = NEAP_CFI_NONE;

    for (int guarded = 0; guarded < 2; guarded++) {
        struct cfi_loaded loaded;
        struct neap_cfi_regs regs;
        struct neap_cfi_row row;
        bool signal, end;

        cfi_sample_load(&loaded, sample->bytes, sample->length, guarded);
        found = cfi_sample_find(&loaded, 0, &row, &signal);
        cfi_sample_regs(&regs);
        *ret_applied =
            found == NEAP_CFI_OK &&
            neap_cfi_apply(&loaded.module, &row, cfi_sample_peek, NULL, &regs, &end);
        cfi_sample_unload(&loaded);
    }
    return found;
}

static enum neap_cfi_found find_program(const uint8_t *program, size_t length)
{
    struct cfi_sample sample;
    bool applied;

    cfi_sample_make(&sample, "zR", program, length);
    return find(&sample, &applied);
}

/* ---- tables that lie in one place ---- */

static enum neap_cfi_found find_patched(const char *augmentation, int where,
                                        const uint8_t *bytes, size_t length)
{
    struct cfi_sample sample;
    bool applied;

    cfi_sample_make(&sample, augmentation, BYTES(0, 0, 0, 0, 0, 0, 0, 0));
    switch (where) {
    case 'c':
        memcpy(sample.bytes + sample.cie, bytes, length);
        break;
    case 'f':
        memcpy(sample.bytes + sample.fde, bytes, length);
        break;
    case 'a':
        memcpy(sample.bytes + sample.augmentation, bytes, length);
        break;
    default:
        memcpy(sample.bytes + where, bytes, length);
    }
    return find(&sample, &applied);
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    assert_int_equal(find_patched("zR", 0, BYTES(1)), NEAP_CFI_OK);
    assert_int_equal(find_patched("zR", 0, BYTES(2)), NEAP_CFI_NONE);
    assert_int_equal(find_patched("zR", 3, BYTES(0x1b)), NEAP_CFI_NONE);
    assert_int_equal(find_patched("zR", 1, BYTES(0x2b)), NEAP_CFI_NONE);
    assert_int_equal(find_patched("zR", 2, BYTES(0x0d)), NEAP_CFI_NONE);
    /* more entries than there are bytes, none at all */
    assert_int_equal(find_patched("zR", 8, BYTES(0xff, 0xff, 0xff, 0xff)),
                     NEAP_CFI_NONE);
    assert_int_equal(find_patched("zR", 8, BYTES(0, 0, 0, 0)), NEAP_CFI_NONE);
    /* FDEs before the module, at its end, far behind it */
    assert_int_equal(find_patched("zR", 16, BYTES(0xff, 0xff, 0xff, 0xff)),
                     NEAP_CFI_BAD);
    assert_int_equal(find_patched("zR", 16, BYTES(0, 0, 0, 0x80)), NEAP_CFI_BAD);
    assert_int_equal(find_patched("zR", 16, BYTES(0xff, 0xff, 0xff, 0x7f)),
                     NEAP_CFI_BAD);
}

static void entries_of_no_or_too_much_length_are_refused(void **state)
{
    static const int entries[] = {'c', 'f'};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(entries); i++) {
        assert_int_equal(find_patched("zR", entries[i], BYTES(0, 0, 0, 0)),
                         NEAP_CFI_BAD);
        assert_int_equal(find_patched("zR", entries[i], BYTES(1, 0, 0, 0)),
                         NEAP_CFI_BAD);
        assert_int_equal(find_patched("zR", entries[i], BYTES(0xfe, 0xff, 0xff, 0xff)),
                         NEAP_CFI_BAD);
        assert_int_equal(find_patched("zR", entries[i],
                                      BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                            0xff, 0xff, 0xff, 0xff, 0xff)),
                         NEAP_CFI_BAD);
    }
}

static void an_fde_finds_no_cie_in_itself_or_outside(void **state)
{
    static const uint32_t ways[] = {0, 4, 8, 0x7fffffff, 0xffffffff, 0xfffffff0};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(ways); i++) {
        struct cfi_sample sample;
        bool applied;

        cfi_sample_make(&sample, "zR", BYTES(0));
        memcpy(sample.bytes + sample.fde + 4, &ways[i], 4);
        assert_int_equal(find(&sample, &applied), NEAP_CFI_BAD);
    }
}

static void cies_that_lie_are_refused(void **state)
{
    (void)state;
    assert_int_equal(find_patched("zX", 'a', BYTES('z')), NEAP_CFI_BAD);
    assert_int_equal(find_patched("eh", 'a', BYTES('e')), NEAP_CFI_BAD);
    assert_int_equal(find_patched("zR", 'a', BYTES('z', 'R', 'R', 'R', 'R', 'R')),
                     NEAP_CFI_BAD);
    /* augmentation data that is longer than all there is: up to 2^64 - 1 bytes */
    assert_int_equal(find_patched("zR", 'a', BYTES('z', 'R', 0, 1, 0x78, 16, 0x7f)),
                     NEAP_CFI_BAD);
    assert_int_equal(find_patched("zR", 'a',
                                  BYTES('z', 'R', 0, 1, 0x78, 16, 0xff, 0xff, 0xff,
                                        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)),
                     NEAP_CFI_BAD);
    /* a pointer encoding that is none */
    assert_int_equal(find_patched("zR", 'a', BYTES('z', 'R', 0, 1, 0x78, 16, 1, 0x5b)),
                     NEAP_CFI_BAD);
    assert_int_equal(find_patched("zR", 'a', BYTES('z', 'R', 0, 1, 0x78, 16, 1, 0x1d)),
                     NEAP_CFI_BAD);
    /* a version that is none */
    struct cfi_sample sample;
    bool applied;

    cfi_sample_make(&sample, "zR", BYTES(0));
    sample.bytes[sample.augmentation - 1] = 4;
    assert_int_equal(find(&sample, &applied), NEAP_CFI_BAD);
}

static void text_and_numbers_without_an_end_are_refused(void **state)
{
    struct cfi_sample sample;
    bool applied;

    (void)state;
    cfi_sample_make(&sample, "zR", BYTES(0));
    for (uint32_t i = sample.augmentation; i < sample.length; i++)
        if (i < sample.fde || i >= sample.fde + 8)
            sample.bytes[i] = 0xff;
    assert_int_equal(find(&sample, &applied), NEAP_CFI_BAD);
    cfi_sample_make(&sample, "zR", BYTES(0));
    for (uint32_t i = sample.augmentation + 3; i < sample.fde; i++)
        sample.bytes[i] = 0x80;
    assert_int_equal(find(&sample, &applied), NEAP_CFI_BAD);
}

/* ---- programs that lie ---- */

static void programs_that_cannot_be_run_are_refused(void **state)
{
    (void)state;
    assert_int_equal(find_program(BYTES(0x0a, 0x0a, 0x0a, 0x0a)), NEAP_CFI_OK);
    assert_int_equal(find_program(BYTES(0x0a, 0x0a, 0x0a, 0x0a, 0x0a)), NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x0b)), NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x0a, 0x0b, 0x0b)), NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x3f)), NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x0c, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80)),
                     NEAP_CFI_BAD);
    /* an expression of more bytes than are left, or of a length without an end */
    assert_int_equal(find_program(BYTES(0x10, 3, 5, 0x30, 0x30, 0x30, 0x30)),
                     NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x0f, 0x7f, 0, 0)), NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x16, 3, 0xff, 0xff)), NEAP_CFI_BAD);
    assert_int_equal(find_program(BYTES(0x16, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                        0xff, 0xff, 0xff, 0x01)),
                     NEAP_CFI_BAD);
}

static void products_that_overflow_stay_numbers(void **state)
{
    (void)state;
    /* 2^63 times -8 */
    assert_int_equal(find_program(BYTES(0x05, 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                        0x80, 0x80, 0x80, 0x01, 0, 0)),
                     NEAP_CFI_OK);
    assert_int_equal(find_program(BYTES(0x11, 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                        0x80, 0x80, 0x80, 0x7f, 0, 0)),
                     NEAP_CFI_OK);
    assert_int_equal(find_program(BYTES(0x13, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                        0x80, 0x80, 0x7f, 0)),
                     NEAP_CFI_OK);
}

/* The CFA's place is an expression's only where an instruction has said so. */
static void a_cfa_that_only_looks_like_an_expression_is_refused(void **state)
{
    static const struct {
        uint8_t bytes[12];
    } programs[] = {
        /* register 0xffff, far away */
        {{0x0c, 0xff, 0xff, 0x03, 0xff, 0xff, 0xff, 0xff, 0x07}},
        {{0x0d, 0xff, 0xff, 0x03, 0x0e, 0xff, 0xff, 0xff, 0xff, 0x07}},
        {{0x12, 0xff, 0xff, 0x03, 0x80, 0x80, 0x80, 0x01}},
        /* an expression, moved */
        {{0x0f, 1, 0x30, 0x0e, 0xff, 0xff, 0xff, 0xff, 0x07}},
        {{0x0f, 1, 0x30, 0x13, 0x80, 0x80, 0x80, 0x01}},
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(programs); i++) {
        struct cfi_sample sample;
        bool applied = true;

        cfi_sample_make(&sample, "zR", programs[i].bytes, sizeof(programs[i].bytes));
        find(&sample, &applied);
        assert_false(applied);
    }
}

static void an_expression_cannot_outgrow_its_stack(void **state)
{
    uint8_t program[64] = {0x0f, 16};
    struct cfi_sample sample;
    bool applied;

    (void)state;
    memset(program + 2, 0x30, 17);
    cfi_sample_make(&sample, "zR", program, 18);
    assert_int_equal(find(&sample, &applied), NEAP_CFI_OK);
    assert_true(applied);
    program[1] = 17;
    cfi_sample_make(&sample, "zR", program, 19);
    assert_int_equal(find(&sample, &applied), NEAP_CFI_OK);
    assert_false(applied);
}

/* ---- any bytes ---- */

static uint64_t dice;

static uint32_t roll(uint32_t below)
{
    dice = dice * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(dice >> 33) % below;
}

/* Look everything up in a module of these bytes; what is found, do. */
static unsigned try_all(const uint8_t *bytes, uint32_t length, bool guarded)
{
    struct cfi_loaded loaded;
    unsigned good = 0;

    cfi_sample_load(&loaded, bytes, length, guarded);
    for (uint32_t offset = 0; offset < SAMPLE_RANGE; offset += 37) {
        struct neap_cfi_row row;
        struct neap_cfi_regs regs;
        bool signal, end;

        if (cfi_sample_find(&loaded, offset, &row, &signal) != NEAP_CFI_OK)
            continue;
        cfi_sample_regs(&regs);
        if (!neap_cfi_apply(&loaded.module, &row, cfi_sample_peek, NULL, &regs, &end))
            continue;
        /* What a step needs next is there after each that was made. */
        assert_true(end || (regs.known >> NEAP_REG_RA & 1));
        assert_true(end || (regs.known >> NEAP_REG_RSP & 1));
        good++;
    }
    cfi_sample_unload(&loaded);
    return good;
}

static const uint8_t busy[] = {
    0x41, 0x0e, 16,   0x86, 2,    0x43, 0x0d, 6,    0x0a, 0x10, 3,    3,    0x77, 8,
    0x06, 0x42, 0x16, 12,   5,    0x77, 0x78, 0x23, 8,    0x22, 0x0b, 0x02, 9,    0x0f,
    5,    0x77, 8,    0x31, 0x22, 0x06, 0x03, 20,   0,    0x0c, 7,    8,    0xc6, 0x2e,
    16,   0x11, 13,   0x7e, 0x14, 14,   1,    0x09, 15,   3,    0x05, 1,    9,
};

static void mutated_tables_do_no_harm(void **state)
{
    unsigned good = 0;

    (void)state;
    dice = 1;
    for (int i = 0; i < 40000; i++) {
        static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, 0x0f, 0x10, 0x16};
        struct cfi_sample sample;

        cfi_sample_make(&sample, i % 3 ? "zR" : "zRS", busy, sizeof(busy));
        for (uint32_t changes = 1 + roll(6); changes > 0; changes--) {
            uint32_t at = roll(sample.length);

            sample.bytes[at] =
                roll(2) ? (uint8_t)roll(256) : telling[roll(NEAP_ARRAY_LEN(telling))];
        }
        if (roll(8) == 0)
            sample.length = 1 + roll(sample.length);
        good += try_all(sample.bytes, sample.length, i % 16 == 0);
    }
    /* Enough of them were still good for the rest of the code to be reached. */
    assert_true(good > 1000);
}

static void random_programs_do_no_harm(void **state)
{
    unsigned good = 0;

    (void)state;
    dice = 2;
    for (int i = 0; i < 40000; i++) {
        uint8_t program[96];
        uint32_t length = 1 + roll(sizeof(program));
        struct cfi_sample sample;

        for (uint32_t k = 0; k < length; k++)
            program[k] = (uint8_t)(roll(3) ? roll(0x18) : roll(256));
        cfi_sample_make(&sample, "zR", program, length);
        good += try_all(sample.bytes, sample.length, i % 16 == 0);
    }
    assert_true(good > 1000);
}

static void random_bytes_do_no_harm(void **state)
{
    (void)state;
    dice = 3;
    for (int i = 0; i < 40000; i++) {
        uint8_t bytes[256];
        uint32_t length = 1 + roll(sizeof(bytes));

        for (uint32_t k = 0; k < length; k++)
            bytes[k] = (uint8_t)roll(256);
        /* A good start, or nothing behind it would ever be looked at. */
        memcpy(bytes, BYTES(1, 0x1b, 0x03, 0x3b));
        if (length > 24)
            memcpy(bytes + 8, BYTES(1, 0, 0, 0, 0, 0x10, 0, 0, 20, 0, 0, 0));
        assert_in_range(try_all(bytes, length, i % 16 == 0), 0, SAMPLE_RANGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(entries_of_no_or_too_much_length_are_refused),
        cmocka_unit_test(an_fde_finds_no_cie_in_itself_or_outside),
        cmocka_unit_test(cies_that_lie_are_refused),
        cmocka_unit_test(text_and_numbers_without_an_end_are_refused),
        cmocka_unit_test(programs_that_cannot_be_run_are_refused),
        cmocka_unit_test(products_that_overflow_stay_numbers),
        cmocka_unit_test(a_cfa_that_only_looks_like_an_expression_is_refused),
        cmocka_unit_test(an_expression_cannot_outgrow_its_stack),
        cmocka_unit_test(mutated_tables_do_no_harm),
        cmocka_unit_test(random_programs_do_no_harm),
        cmocka_unit_test(random_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
