/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/cfi: each instruction of the table and each operator of expressions, on
 * modules made by hand; then this program's own functions, against backtrace(), and
 * a signal's frame, against what the kernel saved in it.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c tests/unit/cfi_sample.c
 */
#include "libhook/cfi.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

#include "libhook/cursor.h"
#include "tests/unit/cfi_sample.h"

#define BYTES(...) \
    (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* ---- numbers ---- */

static void numbers_are_read_within_their_bounds(void **state)
{
    static const uint8_t bytes[] = {0x78, 0xff, 0xff, 0xe5, 0x8e, 0x26, 0x7f, 0x80};
    struct neap_cursor c = {bytes, bytes + sizeof(bytes), false};

    (void)state;
    assert_int_equal(neap_cursor_sleb(&c), -8);
    assert_int_equal(neap_cursor_signed(&c, 2), -1);
    assert_int_equal(neap_cursor_uleb(&c), 624485);
    assert_int_equal(neap_cursor_sleb(&c), -1);
    assert_false(c.bad);
    /* An endless number ends with the bytes. */
    assert_int_equal(neap_cursor_uleb(&c), 0);
    assert_true(c.bad);
    assert_ptr_equal(c.at, c.end);
    assert_int_equal(neap_cursor_unsigned(&c, 4), 0);
    assert_int_equal(neap_cursor_sleb(&c), 0);
}

static void a_number_that_does_not_fit_takes_nothing_beyond_the_end(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3};

    (void)state;
    for (size_t width = 4; width <= 8; width += 4) {
        struct neap_cursor c = {bytes, bytes + sizeof(bytes), false};

        assert_int_equal(neap_cursor_unsigned(&c, width), 0);
        assert_true(c.bad);
        assert_ptr_equal(c.at, c.end);
    }
}

static void numbers_of_too_many_bits_keep_the_low_64(void **state)
{
    uint8_t bytes[16];
    struct neap_cursor c = {bytes, bytes + sizeof(bytes), false};

    (void)state;
    memset(bytes, 0xff, sizeof(bytes));
    bytes[15] = 0x7f;
    assert_true(neap_cursor_uleb(&c) == UINT64_MAX);
    assert_false(c.bad);
    c.at = bytes;
    assert_true(neap_cursor_sleb(&c) == -1);
    assert_ptr_equal(c.at, c.end);
}

/* ---- instructions ---- */

static void find(const uint8_t *program, size_t length, uint32_t offset,
                 struct neap_cfi_row *ret)
{
    struct cfi_sample sample;
    struct cfi_loaded loaded;
    bool signal = true;

    cfi_sample_make(&sample, "zR", program, length);
    cfi_sample_load(&loaded, sample.bytes, sample.length, false);
    assert_int_equal(cfi_sample_find(&loaded, offset, ret, &signal), NEAP_CFI_OK);
    assert_false(signal);
    cfi_sample_unload(&loaded);
}

static void a_function_has_the_rules_of_each_place(void **state)
{
    /* push rbp; mov rsp, rbp; ...; leave */
    static const uint8_t program[] = {0x41, 0x0e, 16,   0x86, 2, 0x43, 0x0d,
                                      6,    0x02, 0x30, 0x0c, 7, 8,    0xc6};
    static const struct {
        uint32_t offset, cfa_reg;
        int32_t cfa_value;
        uint32_t rbp;
    } expected[] = {
        {0, NEAP_REG_RSP, 8, NEAP_CFI_SAME},
        {1, NEAP_REG_RSP, 16, NEAP_CFI_OFFSET},
        {3, NEAP_REG_RSP, 16, NEAP_CFI_OFFSET},
        {4, NEAP_REG_RBP, 16, NEAP_CFI_OFFSET},
        {0x33, NEAP_REG_RBP, 16, NEAP_CFI_OFFSET},
        {0x34, NEAP_REG_RSP, 8, NEAP_CFI_SAME},
        {SAMPLE_RANGE - 1, NEAP_REG_RSP, 8, NEAP_CFI_SAME},
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(expected); i++) {
        struct neap_cfi_row row;

        find(program, sizeof(program), expected[i].offset, &row);
        assert_int_equal(row.cfa_reg, expected[i].cfa_reg);
        assert_int_equal(row.cfa_value, expected[i].cfa_value);
        assert_int_equal(row.reg[NEAP_REG_RBP].kind, expected[i].rbp);
        assert_int_equal(row.reg[NEAP_REG_RA].kind, NEAP_CFI_OFFSET);
        assert_int_equal(row.reg[NEAP_REG_RA].value, -8);
        if (expected[i].rbp == NEAP_CFI_OFFSET)
            assert_int_equal(row.reg[NEAP_REG_RBP].value, -16);
    }
}

static void code_outside_the_function_has_no_rules(void **state)
{
    struct cfi_sample sample;
    struct cfi_loaded loaded;
    struct neap_cfi_row row;
    bool signal;

    (void)state;
    cfi_sample_make(&sample, "zR", BYTES(0));
    cfi_sample_load(&loaded, sample.bytes, sample.length, true);
    assert_int_equal(cfi_sample_find(&loaded, SAMPLE_RANGE, &row, &signal),
                     NEAP_CFI_NONE);
    assert_int_equal(cfi_sample_find(&loaded, (uint32_t)-1, &row, &signal),
                     NEAP_CFI_NONE);
    assert_int_equal(neap_cfi_find(&loaded.module, 0, &row, &signal), NEAP_CFI_NONE);
    assert_int_equal(neap_cfi_find(&loaded.module, UINT64_MAX, &row, &signal),
                     NEAP_CFI_NONE);
    cfi_sample_unload(&loaded);
}

static void each_instruction_sets_its_rule(void **state)
{
    static const struct {
        uint8_t program[8];
        uint32_t reg;
        struct neap_cfi_rule rule;
    } cases[] = {
        {{0x83, 3}, 3, {NEAP_CFI_OFFSET, -24}},
        {{0x05, 12, 4}, 12, {NEAP_CFI_OFFSET, -32}},
        {{0x11, 12, 0x7e}, 12, {NEAP_CFI_OFFSET, 16}},
        {{0x14, 7, 2}, 7, {NEAP_CFI_VAL_OFFSET, -16}},
        {{0x15, 7, 0x7f}, 7, {NEAP_CFI_VAL_OFFSET, 8}},
        {{0x09, 16, 2}, 16, {NEAP_CFI_REGISTER, 2}},
        {{0x07, 16}, 16, {NEAP_CFI_UNDEFINED, 0}},
        {{0x83, 3, 0x08, 3}, 3, {NEAP_CFI_SAME, 0}},
        {{0x83, 3, 0x06, 3}, 3, {NEAP_CFI_SAME, 0}},
        {{0x07, 16, 0xd0}, 16, {NEAP_CFI_OFFSET, -8}},
        {{0x0a, 0x83, 3, 0x0b}, 3, {NEAP_CFI_SAME, 0}},
        {{0x2e, 16, 0x83, 3}, 3, {NEAP_CFI_OFFSET, -24}},
        {{0x83, 3, 0xbf, 3, 0x05, 99, 1}, 3, {NEAP_CFI_OFFSET, -24}},
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(cases); i++) {
        struct neap_cfi_row row;

        find(cases[i].program, sizeof(cases[i].program), 0, &row);
        if (row.reg[cases[i].reg].kind != cases[i].rule.kind ||
            row.reg[cases[i].reg].value != cases[i].rule.value)
            fail_msg("case %zu: kind %u value %d", i, row.reg[cases[i].reg].kind,
                     row.reg[cases[i].reg].value);
    }
}

static void each_instruction_moves_the_location(void **state)
{
    static const uint8_t programs[][7] = {
        {0x45, 0x0e, 32},
        {0x02, 5, 0x0e, 32},
        {0x03, 5, 0, 0x0e, 32},
        {0x04, 5, 0, 0, 0, 0x0e, 32},
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(programs); i++) {
        struct neap_cfi_row row;

        find(programs[i], sizeof(programs[i]), 4, &row);
        assert_int_equal(row.cfa_value, 8);
        find(programs[i], sizeof(programs[i]), 5, &row);
        assert_int_equal(row.cfa_value, 32);
    }
}

/* ---- applying ---- */

static bool apply(const uint8_t *program, size_t length, struct neap_cfi_regs *regs,
                  bool *ret_end)
{
    struct cfi_sample sample;
    struct cfi_loaded loaded;
    struct neap_cfi_row row;
    bool signal, applied;

    cfi_sample_make(&sample, "zR", program, length);
    cfi_sample_load(&loaded, sample.bytes, sample.length, true);
    assert_int_equal(cfi_sample_find(&loaded, 0, &row, &signal), NEAP_CFI_OK);
    applied =
        neap_cfi_apply(&loaded.module, &row, cfi_sample_peek, NULL, regs, ret_end);
    cfi_sample_unload(&loaded);
    return applied;
}

static void a_step_restores_what_the_rules_say(void **state)
{
    struct neap_cfi_regs regs;
    uint64_t cfa = 0x80000 + 8;
    bool end = true;

    (void)state;
    cfi_sample_regs(&regs);
    assert_true(apply(BYTES(0x86, 2, 0x14, 3, 4, 0x09, 12, 13, 0x07, 14), &regs, &end));
    assert_false(end);
    assert_true(regs.value[NEAP_REG_RSP] == cfa);
    assert_true(regs.value[NEAP_REG_RA] == ~(cfa - 8));
    assert_true(regs.value[NEAP_REG_RBP] == ~(cfa - 16));
    assert_true(regs.value[NEAP_REG_RBX] == cfa - 32);
    assert_true(regs.value[12] == 0x10000 * 14);
    assert_int_equal(regs.known, ((1u << NEAP_REGS) - 1) & ~(1u << 14));
}

static void the_outermost_frame_says_so(void **state)
{
    struct neap_cfi_regs regs, before;
    bool end = false;

    (void)state;
    cfi_sample_regs(&regs);
    before = regs;
    assert_true(apply(BYTES(0x07, 16), &regs, &end));
    assert_true(end);
    assert_memory_equal(&regs, &before, sizeof(regs));
}

static void a_step_that_cannot_be_made_changes_nothing(void **state)
{
    struct neap_cfi_regs regs, before;
    bool end;

    (void)state;
    cfi_sample_regs(&regs);
    regs.known &= ~(1u << NEAP_REG_RBX);
    before = regs;
    assert_false(apply(BYTES(0x0d, 3), &regs, &end));           /* CFA from rbx */
    assert_false(apply(BYTES(0x0d, 17), &regs, &end));          /* no such register */
    assert_false(apply(BYTES(0x09, 16, 3), &regs, &end));       /* pc in rbx */
    assert_false(apply(BYTES(0x09, 16, 17), &regs, &end));      /* pc in none */
    assert_false(apply(BYTES(0x0e, 9), &regs, &end));           /* peek refuses */
    assert_false(apply(BYTES(0x07, 7), &regs, &end));           /* no stack pointer */
    assert_false(apply(BYTES(0x10, 16, 1, 0x31), &regs, &end)); /* pc at address 1 */
    assert_memory_equal(&regs, &before, sizeof(regs));
}

/* rbx becomes what the expression gives; the CFA, 0x80008, is on the stack first. */
static void expressions_compute(void **state)
{
    static const struct {
        uint8_t length;
        uint8_t bytes[12];
        bool good;
        uint64_t value;
    } cases[] = {
        {0, {0}, true, 0x80008},
        {1, {0x4f}, true, 31},
        {9, {0x03, 1, 2, 3, 4, 5, 6, 7, 8}, true, 0x0807060504030201},
        {2, {0x08, 0xff}, true, 255},
        {2, {0x09, 0xff}, true, UINT64_MAX},
        {3, {0x0a, 0xfe, 0xff}, true, 0xfffe},
        {3, {0x0b, 0xfe, 0xff}, true, (uint64_t)-2},
        {5, {0x0c, 0, 0, 0, 0x80}, true, 0x80000000},
        {5, {0x0d, 0, 0, 0, 0x80}, true, 0xffffffff80000000},
        {3, {0x10, 0x80, 1}, true, 128},
        {2, {0x11, 0x40}, true, (uint64_t)-64},
        {2, {0x12, 0x22}, true, 0x100010},
        {2, {0x31, 0x13}, true, 0x80008},
        {2, {0x23, 16}, true, 0x80018},
        {1, {0x06}, true, ~(uint64_t)0x80008},
        {2, {0x94, 1}, true, 0xf7},
        {2, {0x73, 8}, true, 0x40008},
        {2, {0x77, 0x78}, true, 0x7fff8},
        {1, {0x96}, true, 0x80008},
        {3, {0x3f, 0x39, 0x1a}, true, 9},
        {3, {0x33, 0x35, 0x1c}, true, (uint64_t)-2},
        {3, {0x33, 0x35, 0x1e}, true, 15},
        {3, {0x31, 0x36, 0x21}, true, 7},
        {3, {0x31, 0x34, 0x24}, true, 16},
        {4, {0x31, 0x08, 64, 0x24}, true, 0},
        {4, {0x09, 0xf0, 0x34, 0x25}, true, UINT64_MAX >> 4},
        {4, {0x09, 0xf0, 0x32, 0x26}, true, (uint64_t)-4},
        {3, {0x33, 0x31, 0x27}, true, 2},
        {3, {0x33, 0x33, 0x29}, true, 1},
        {4, {0x09, 0xff, 0x30, 0x2a}, true, 0},
        {4, {0x09, 0xff, 0x30, 0x2d}, true, 1},
        {3, {0x34, 0x33, 0x2b}, true, 1},
        {3, {0x34, 0x33, 0x2c}, true, 0},
        {3, {0x34, 0x33, 0x2e}, true, 1},
        {2, {0x13, 0x13}, false, 0}, /* drop from an empty stack */
        {1, {0x13}, false, 0},       /* no result */
        {2, {0x13, 0x06}, false, 0}, /* load from nowhere */
        {2, {0x31, 0x06}, false, 0}, /* unreadable */
        {2, {0x94, 9}, false, 0},    /* 9 bytes of 8 */
        {2, {0x94, 0}, false, 0},
        {3, {0x38, 0x32, 0x1b}, false, 0}, /* division: not known */
        {3, {0x2f, 0xfd, 0xff}, false, 0}, /* jump backwards */
        {3, {0x28, 0xfd, 0xff}, false, 0},
        {3, {0x81, 0, 0x22}, false, 0}, /* breg17 */
        {1, {0xff}, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(cases); i++) {
        uint8_t program[16] = {0x16, NEAP_REG_RBX, cases[i].length};
        struct neap_cfi_regs regs;
        bool end;

        memcpy(program + 3, cases[i].bytes, cases[i].length);
        cfi_sample_regs(&regs);
        assert_true(apply(program, sizeof(program), &regs, &end));
        if ((regs.known >> NEAP_REG_RBX & 1) != cases[i].good ||
            (cases[i].good && regs.value[NEAP_REG_RBX] != cases[i].value))
            fail_msg("case %zu: %llx", i, (unsigned long long)regs.value[NEAP_REG_RBX]);
    }
}

/* ---- this program ---- */

static bool peek_memory(void *context, uint64_t address, uint64_t *ret)
{
    (void)context;
    memcpy(ret, (const void *)(uintptr_t)address, sizeof(*ret));
    return true;
}

static bool find_here(uint64_t pc, struct neap_cfi_module *module,
                      struct neap_cfi_row *row, bool *signal)
{
    struct dl_find_object object;

    if (_dl_find_object((void *)(uintptr_t)pc, &object) != 0)
        return false;
    *module = (struct neap_cfi_module){object.dlfo_eh_frame, object.dlfo_map_start,
                                       object.dlfo_map_end};
    return neap_cfi_find(module, pc, row, signal) == NEAP_CFI_OK;
}

static void from_context(const ucontext_t *context, struct neap_cfi_regs *regs)
{
    static const int order[NEAP_REGS] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
        REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

    for (unsigned i = 0; i < NEAP_REGS; i++)
        regs->value[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
    regs->known = (1u << NEAP_REGS) - 1;
}

/* One frame outwards. `*signal`: whether the frame left was a signal's. */
static bool go_out(struct neap_cfi_regs *regs, bool interrupted, bool *signal)
{
    uint64_t pc = regs->value[NEAP_REG_RA];
    struct neap_cfi_module module;
    struct neap_cfi_row row;
    bool end = false;

    if (!find_here(interrupted ? pc : pc - 1, &module, &row, signal) &&
        !(find_here(pc, &module, &row, signal) && *signal))
        return false;
    return neap_cfi_apply(&module, &row, peek_memory, NULL, regs, &end) && !end;
}

static unsigned deep(unsigned more) __attribute__((noinline));
static unsigned deep_other(unsigned more) __attribute__((noinline));
static volatile unsigned sink;

/* Theirs begins in the walking function or in backtrace() itself, mine in its caller.
 */
static void compare(void *const *theirs, unsigned depth, const uint64_t *mine,
                    unsigned count)
{
    unsigned skip = 0;

    assert_true(count > 20);
    while (skip < depth && (uintptr_t)theirs[skip] != mine[0])
        skip++;
    assert_int_equal(count, depth - skip);
    for (unsigned i = 0; i < count; i++)
        assert_true(mine[i] == (uintptr_t)theirs[skip + i]);
}

static void compare_with_backtrace(void)
{
    void *theirs[128];
    uint64_t mine[128];
    volatile unsigned count = 0;
    struct neap_cfi_regs regs;
    ucontext_t context;
    bool signal = false;

    getcontext(&context);
    from_context(&context, &regs);
    while (count < 128 && go_out(&regs, false, &signal)) {
        mine[count] = regs.value[NEAP_REG_RA];
        count++;
    }
    compare(theirs, (unsigned)backtrace(theirs, 128), mine, count);
}

static unsigned deep(unsigned more)
{
    volatile uint8_t frame[40] = {(uint8_t)more};

    if (more == 0)
        compare_with_backtrace();
    else
        sink = deep_other(more - 1);
    return frame[0];
}

static unsigned deep_other(unsigned more)
{
    /* A frame whose size the compiler cannot know has its CFA from rbp. */
    volatile uint8_t *frame = __builtin_alloca(16 + more % 7 * 16);

    frame[0] = (uint8_t)more;
    if (more == 0)
        compare_with_backtrace();
    else
        sink = deep(more - 1);
    return frame[0];
}

static void own_functions_are_walked_as_backtrace_does(void **state)
{
    (void)state;
    for (unsigned depth = 20; depth < 26; depth++)
        sink = deep(depth);
}

static volatile bool handled;

static void handler(int number, siginfo_t *info, void *argument)
{
    struct neap_cfi_regs regs, interrupted;
    unsigned steps = 0;
    ucontext_t context;
    bool signal = false;

    (void)number;
    (void)info;
    getcontext(&context);
    from_context(&context, &regs);
    from_context(argument, &interrupted);
    while (!signal && steps++ < 32)
        assert_true(go_out(&regs, false, &signal));
    assert_true(signal);
    assert_int_equal(regs.known, (1u << NEAP_REGS) - 1);
    assert_memory_equal(regs.value, interrupted.value, sizeof(regs.value));
    /* And on, from the very instruction that was interrupted. */
    assert_true(go_out(&regs, true, &signal));
    assert_false(signal);
    handled = true;
}

static void a_signal_frame_gives_back_every_register(void **state)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}, before;

    (void)state;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    assert_true(handled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_within_their_bounds),
        cmocka_unit_test(a_number_that_does_not_fit_takes_nothing_beyond_the_end),
        cmocka_unit_test(numbers_of_too_many_bits_keep_the_low_64),
        cmocka_unit_test(a_function_has_the_rules_of_each_place),
        cmocka_unit_test(code_outside_the_function_has_no_rules),
        cmocka_unit_test(each_instruction_sets_its_rule),
        cmocka_unit_test(each_instruction_moves_the_location),
        cmocka_unit_test(a_step_restores_what_the_rules_say),
        cmocka_unit_test(the_outermost_frame_says_so),
        cmocka_unit_test(a_step_that_cannot_be_made_changes_nothing),
        cmocka_unit_test(expressions_compute),
        cmocka_unit_test(own_functions_are_walked_as_backtrace_does),
        cmocka_unit_test(a_signal_frame_gives_back_every_register),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
