/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Call frame information written byte by byte, as an assembler would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tests/unit/cfi_sample.h"

enum {
    PAGE = 4096
};

static void put(struct cfi_sample *s, const void *bytes, size_t length)
{
    assert_true(s->length + length <= SAMPLE_MAX);
    memcpy(s->bytes + s->length, bytes, length);
    s->length += (uint32_t)length;
}

static void put_byte(struct cfi_sample *s, unsigned byte)
{
    uint8_t value = (uint8_t)byte;

    put(s, &value, 1);
}

static void put_word(struct cfi_sample *s, uint32_t word)
{
    put(s, &word, 4);
}

/* The length word at `at` counts what has been put since. */
static void close_entry(struct cfi_sample *s, uint32_t at)
{
    uint32_t length;

    while (s->length % 4)
        put_byte(s, 0);
    length = s->length - at - 4;
    memcpy(s->bytes + at, &length, 4);
}

void cfi_sample_make(struct cfi_sample *s, const char *augmentation,
                     const uint8_t *program, size_t length)
{
    static const uint8_t header[] = {1, 0x1b, 0x03, 0x3b};
    static const uint8_t initial[] = {0x0c, 7, 8, 0x90, 1};

    memset(s, 0, sizeof(*s));
    put(s, header, sizeof(header));
    put_word(s, 16); /* .eh_frame, from here */
    put_word(s, 1);
    put_word(s, SAMPLE_CODE);
    put_word(s, 0); /* the FDE's place, below */
    s->cie = s->length;
    put_word(s, 0);
    put_word(s, 0);
    put_byte(s, 1);
    s->augmentation = s->length;
    put(s, augmentation, strlen(augmentation) + 1);
    put_byte(s, 1);    /* code factor */
    put_byte(s, 0x78); /* data factor -8 */
    put_byte(s, NEAP_REG_RA);
    if (augmentation[0] == 'z') {
        put_byte(s, 1);
        put_byte(s, 0x1b);
    }
    put(s, initial, sizeof(initial));
    close_entry(s, s->cie);
    s->fde = s->length;
    memcpy(s->bytes + 16, &s->fde, 4);
    put_word(s, 0);
    put_word(s, s->length - s->cie);
    if (augmentation[0] == 'z') {
        put_word(s, SAMPLE_CODE - s->length);
        put_word(s, SAMPLE_RANGE);
        put_byte(s, 0);
    } else {
        put(s, (uint64_t[]){0, 0}, 16); /* absolute: cfi_sample_load fills it in */
    }
    s->program = s->length;
    put(s, program, length);
    close_entry(s, s->fde);
}

void cfi_sample_load(struct cfi_loaded *loaded, const uint8_t *bytes, size_t length,
                     bool guarded)
{
    loaded->guarded = guarded;
    if (guarded) {
        assert_true(length <= PAGE);
        loaded->block =
            mmap(NULL, 3 * (size_t)PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(loaded->block != MAP_FAILED);
        assert_int_equal(mprotect(loaded->block + PAGE, PAGE, PROT_READ | PROT_WRITE),
                         0);
        loaded->bytes = loaded->block + 2 * PAGE - length;
    } else {
        loaded->bytes = loaded->block = malloc(length ? length : 1);
        assert_non_null(loaded->block);
    }
    memcpy(loaded->bytes, bytes, length);
    loaded->module = (struct neap_cfi_module){
        .hdr = loaded->bytes, .start = loaded->bytes, .end = loaded->bytes + length};
}

void cfi_sample_unload(struct cfi_loaded *loaded)
{
    if (loaded->guarded)
        munmap(loaded->block, 3 * (size_t)PAGE);
    else
        free(loaded->block);
}

enum neap_cfi_found cfi_sample_find(const struct cfi_loaded *loaded, uint32_t offset,
                                    struct neap_cfi_row *ret, bool *ret_signal)
{
    uint64_t pc = (uint64_t)(uintptr_t)loaded->bytes + SAMPLE_CODE + offset;

    return neap_cfi_find(&loaded->module, pc, ret, ret_signal);
}

bool cfi_sample_peek(void *context, uint64_t address, uint64_t *ret)
{
    (void)context;
    if (address % 8 != 0)
        return false;
    *ret = ~address;
    return true;
}

void cfi_sample_regs(struct neap_cfi_regs *ret)
{
    ret->known = (1u << NEAP_REGS) - 1;
    for (uint64_t i = 0; i < NEAP_REGS; i++)
        ret->value[i] = 0x10000 * (i + 1);
}
