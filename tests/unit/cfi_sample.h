/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules made by hand: an .eh_frame_hdr with one CIE and one FDE behind it, for code
 * that starts SAMPLE_CODE bytes after the header and is SAMPLE_RANGE bytes long.
 * Include after cmocka.h. Links: tests/unit/cfi_sample.c
 */
#ifndef NEAP_TESTS_UNIT_CFI_SAMPLE_H
#define NEAP_TESTS_UNIT_CFI_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libhook/cfi.h"

#define SAMPLE_CODE  0x1000u
#define SAMPLE_RANGE 0x100u
#define SAMPLE_MAX   1024u

struct cfi_sample {
    uint8_t bytes[SAMPLE_MAX];
    uint32_t length;
    uint32_t cie, fde;     /* where their length words are */
    uint32_t augmentation; /* where the CIE's string is */
    uint32_t program;      /* where the FDE's instructions are */
};

/* CIE: code factor 1, data factor -8, CFA is rsp + 8, return address at CFA - 8. */
void cfi_sample_make(struct cfi_sample *sample, const char *augmentation,
                     const uint8_t *program, size_t length);

/* A module whose bytes are the sample's and not one more on either side. */
struct cfi_loaded {
    uint8_t *block; /* what to free or unmap */
    uint8_t *bytes;
    struct neap_cfi_module module;
    bool guarded;
};

/* `guarded`: unreadable pages lie on both sides; without, it is a block of the heap. */
void cfi_sample_load(struct cfi_loaded *loaded, const uint8_t *bytes, size_t length,
                     bool guarded);
void cfi_sample_unload(struct cfi_loaded *loaded);

/* The rules at `offset` into the code. */
enum neap_cfi_found cfi_sample_find(const struct cfi_loaded *loaded, uint32_t offset,
                                    struct neap_cfi_row *ret, bool *ret_signal);

/* A peek that knows every multiple of 8: what is there is its address, inverted. */
bool cfi_sample_peek(void *context, uint64_t address, uint64_t *ret);

/* Registers that are all known: number n holds 0x10000 * (n + 1). */
void cfi_sample_regs(struct neap_cfi_regs *ret);

#endif
