/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an executable is, as far as preloading a library into it goes.
 *
 * Anyone's file may be handed in. Every offset and count is checked against the size
 * of the file before it is used, and nothing is mapped: a file that shrinks while it
 * is read gives a short read, not a SIGBUS.
 */
#ifndef NEAP_DAEMON_ELF_H
#define NEAP_DAEMON_ELF_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct neap_elf {
    bool is_elf;      /* nothing below means anything otherwise */
    bool malformed;   /* an ELF header whose rest makes no sense */
    unsigned bits;    /* 32 or 64 */
    unsigned machine; /* EM_* */
    bool interpreted; /* has PT_INTERP */
    bool named;       /* has DT_SONAME: a library that can be run, such as ld.so */
    bool go;          /* made by the Go linker */
    bool own_malloc;  /* exports malloc itself */
    /* The sanitizer whose shared library it asks for, an option of -fsanitize=. */
    const char *sanitizer;      /* NULL: none */
    char interpreter[PATH_MAX]; /* PT_INTERP's text, "" where it makes no sense */
};

/* Look into `fd`, wherever its offset stands. Never fails: what is no ELF says so. */
void neap_elf_inspect(int fd, struct neap_elf *ret);
/* Whether `elf` is of the machine this code was compiled for. */
bool neap_elf_is_native(const struct neap_elf *elf);

#endif
