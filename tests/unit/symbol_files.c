/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See symbol_files.h.
 */
#include "tests/unit/symbol_files.h"

#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <gelf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"

char symbol_dir[64];

NEAP_PRINTF(2, 0)
static int run_shell(bool quiet, const char *format, va_list args)
{
    char command[4096];
    int length = snprintf(command, sizeof(command), "cd %s && { ", symbol_dir);
    int status;

    length +=
        vsnprintf(command + length, sizeof(command) - (size_t)length, format, args);
    snprintf(command + length, sizeof(command) - (size_t)length, "; }%s",
             quiet ? " >/dev/null 2>&1" : "");
    status = system(command); /* NOLINT(cert-env33-c): the commands are ours */
    if (status != 0 && !quiet)
        print_error("failed: %s\n", command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

int symbol_try(const char *format, ...)
{
    va_list args;
    int status;

    va_start(args, format);
    status = run_shell(true, format, args);
    va_end(args);
    return status;
}

void symbol_run(const char *format, ...)
{
    va_list args;
    int status;

    va_start(args, format);
    status = run_shell(false, format, args);
    va_end(args);
    assert_int_equal(status, 0);
}

bool symbol_has_tool(const char *name)
{
    return symbol_try("command -v %s", name) == 0;
}

int symbol_files_setup(void **state)
{
    (void)state;
    unsetenv("NEAP_DEBUG_DIR");
    unsetenv("NEAP_DEBUGINFOD");
    strcpy(symbol_dir, "/tmp/neap-symbol-XXXXXX");
    return mkdtemp(symbol_dir) ? 0 : -1;
}

int symbol_files_teardown(void **state)
{
    (void)state;
    return symbol_try("rm -rf %s", symbol_dir);
}

const char *symbol_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % NEAP_ARRAY_LEN(paths)];

    snprintf(path, sizeof(paths[0]), "%s/%s", symbol_dir, name);
    return path;
}

void symbol_write(const char *name, const void *bytes, size_t length)
{
    neap_auto_fclose FILE *file = fopen(symbol_path(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
}

size_t symbol_read(const char *name, uint8_t **ret)
{
    neap_auto_fclose FILE *file = fopen(symbol_path(name), "rb");
    long length;

    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    length = ftell(file);
    assert_true(length >= 0);
    rewind(file);
    *ret = malloc((size_t)length + 1);
    assert_non_null(*ret);
    assert_int_equal(fread(*ret, 1, (size_t)length, file), length);
    return (size_t)length;
}

static Elf *open_elf(const char *name, int *ret)
{
    Elf *elf;

    elf_version(EV_CURRENT);
    *ret = open(symbol_path(name), O_RDONLY | O_CLOEXEC);
    assert_true(*ret >= 0);
    elf = elf_begin(*ret, ELF_C_READ, NULL);
    assert_non_null(elf);
    return elf;
}

uint64_t symbol_address(const char *name, const char *symbol)
{
    int fd;
    Elf *elf = open_elf(name, &fd);
    Elf_Scn *section = NULL;
    uint64_t address = 0;

    while ((section = elf_nextscn(elf, section)) != NULL) {
        GElf_Shdr header;
        GElf_Sym entry;

        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_SYMTAB)
            continue;
        for (int i = 0; gelf_getsym(elf_getdata(section, NULL), i, &entry); i++) {
            const char *found = elf_strptr(elf, header.sh_link, entry.st_name);

            if (found && strcmp(found, symbol) == 0)
                address = entry.st_value;
        }
    }
    elf_end(elf);
    close(fd);
    if (!address)
        print_error("no symbol %s in %s\n", symbol, name);
    assert_true(address != 0);
    return address;
}

void symbol_build_id(const char *name, struct symbol_build_id *ret)
{
    int fd;
    Elf *elf = open_elf(name, &fd);
    const void *id;
    ssize_t length = dwelf_elf_gnu_build_id(elf, &id);

    ret->length = 0;
    if (length > 0) {
        assert_true((size_t)length <= sizeof(ret->bytes));
        memcpy(ret->bytes, id, (size_t)length);
        ret->length = (uint32_t)length;
    }
    elf_end(elf);
    close(fd);
}

void symbol_copy(void *context, const struct neap_symbol_answer *answer)
{
    struct symbol_frames *copy = context;

    memset(copy, 0, sizeof(*copy));
    assert_true(answer->count >= 1);
    assert_true(answer->count <= NEAP_ARRAY_LEN(copy->frames));
    copy->count = answer->count;
    for (uint32_t i = 0; i < answer->count; i++) {
        const struct neap_symbol_frame *frame = &answer->frames[i];

        snprintf(copy->frames[i].function, sizeof(copy->frames[i].function), "%s",
                 frame->function ? frame->function : "");
        snprintf(copy->frames[i].file, sizeof(copy->frames[i].file), "%s",
                 frame->file ? frame->file : "");
        copy->frames[i].line = frame->line;
        copy->frames[i].inlined = frame->inlined;
    }
}

void symbol_ask_id(const char *path, const struct symbol_build_id *id, uint64_t address,
                   struct symbol_frames *ret)
{
    struct neap_symbolizer *symbolizer;
    uint32_t module;

    ret->count = 0;
    assert_null(neap_symbolizer_create(&symbolizer));
    assert_null(
        neap_symbolizer_module(symbolizer, path, id->bytes, id->length, &module));
    assert_null(neap_symbolizer_ask(symbolizer, module, address, 1));
    assert_int_equal(neap_symbolizer_answers(symbolizer, true, symbol_copy, ret), 0);
    assert_true(ret->count >= 1);
    neap_symbolizer_destroy(symbolizer);
}

void symbol_ask(const char *name, uint64_t address, struct symbol_frames *ret)
{
    struct symbol_build_id id;

    symbol_build_id(name, &id);
    symbol_ask_id(symbol_path(name), &id, address, ret);
}

void symbol_in_child(void (*body)(void *argument), void *argument)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        body(argument);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        print_error("the child ended with wait status 0x%x\n", (unsigned)status);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
