/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of daemon/symbol: programs made by the compilers of this machine in
 * a directory of their own, and a symbolizer asked about them.
 */
#ifndef NEAP_TESTS_UNIT_SYMBOL_FILES_H
#define NEAP_TESTS_UNIT_SYMBOL_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/symbol/symbol.h"

struct symbol_build_id {
    uint8_t bytes[64];
    uint32_t length;
};

struct symbol_frames { /* of one answer, copied */
    uint32_t count;
    struct {
        char function[256]; /* "" = NULL */
        char file[512];
        uint32_t line;
        bool inlined;
    } frames[16];
};

/* The directory, absolute; made for the group and removed after it. */
extern char symbol_dir[64];
int symbol_files_setup(void **state);
int symbol_files_teardown(void **state);

/* Run a shell command in symbol_dir; its exit status. Quiet unless it is to succeed. */
int symbol_try(const char *format, ...) NEAP_PRINTF(1, 2);
void symbol_run(const char *format, ...) NEAP_PRINTF(1, 2);
bool symbol_has_tool(const char *name);

/* A path in symbol_dir; good until the fourth call after this one. */
const char *symbol_path(const char *name);
void symbol_write(const char *name, const void *bytes, size_t length);
/* The caller frees `*ret`. */
size_t symbol_read(const char *name, uint8_t **ret);

/* Of the symbol table of a file in symbol_dir. */
uint64_t symbol_address(const char *name, const char *symbol);
void symbol_build_id(const char *name, struct symbol_build_id *ret);

/* Ask a new symbolizer about one address, the file's own build-id given. */
void symbol_ask(const char *name, uint64_t address, struct symbol_frames *ret);
void symbol_ask_id(const char *path, const struct symbol_build_id *id, uint64_t address,
                   struct symbol_frames *ret);
/* For neap_symbolizer_answers: copies the answer to the symbol_frames at `context`. */
void symbol_copy(void *context, const struct neap_symbol_answer *answer);

/* Run `body` in a child process and fail unless it ends with status 0 in a minute. */
void symbol_in_child(void (*body)(void *argument), void *argument);

#endif
