/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolution of a command as execvp does it, and the verdict on the file found.
 *
 * The verdict is about the file given, or its interpreter; what that starts later on
 * is judged by the dynamic linker alone. Doubt lets the program run: only what is
 * known to be unrecordable is refused.
 */
#include "daemon/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/elf.h"
#include "schema/base/cleanup.h"

#define SCRIPT_LINE  256 /* as much as the kernel reads */
#define SCRIPT_DEPTH 5

/* errno of an attempt to execute `path`, without doing it. */
static int try_file(const char *path)
{
    struct stat st;

    if (stat(path, &st))
        return errno;
    if (!S_ISREG(st.st_mode))
        return EACCES;
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) ? errno : 0;
}

static struct neap_error *not_run(const char *name, int errnum, int *ret_status)
{
    *ret_status = errnum == ENOENT ? NEAP_STATUS_NOT_FOUND : NEAP_STATUS_CANNOT;
    if (errnum == ENOENT && !strchr(name, '/'))
        return neap_error_create(NEAP_ERROR_MISSING,
                                 "cannot run '%s': not found in PATH", name);
    return neap_error_os(errnum, "cannot run '%s'", name);
}

struct neap_error *neap_program_find(const char *name, char **ret, int *ret_status)
{
    const char *path = getenv("PATH");
    int seen = ENOENT;

    if (!*name)
        return not_run(name, ENOENT, ret_status);
    if (strchr(name, '/')) {
        int errnum = try_file(name);

        if (errnum)
            return not_run(name, errnum, ret_status);
        *ret = strdup(name);
        return *ret ? NULL : NEAP_NO_MEMORY;
    }
    if (!path)
        path = "/bin:/usr/bin";
    for (;;) {
        size_t length = strcspn(path, ":");
        neap_auto_free char *candidate = NULL;
        int errnum;

        if (asprintf(&candidate, "%.*s%s%s", (int)length, path, length ? "/" : "./",
                     name) < 0) {
            candidate = NULL;
            *ret_status = NEAP_STATUS_FAILED;
            return NEAP_NO_MEMORY;
        }
        errnum = try_file(candidate);
        if (errnum == 0) {
            *ret = neap_take(candidate);
            return NULL;
        }
        /* As execvp: go on, but remember that there was one. */
        if (errnum == EACCES)
            seen = EACCES;
        if (!path[length])
            return not_run(name, seen, ret_status);
        path += length + 1;
    }
}

/* The interpreter of a "#!" line in fresh memory, NULL if there is none. */
static char *script_interpreter(int fd)
{
    char line[SCRIPT_LINE + 1];
    ssize_t length = pread(fd, line, SCRIPT_LINE, 0);
    char *word;

    if (length < 3 || line[0] != '#' || line[1] != '!')
        return NULL;
    line[length] = 0;
    word = line + 2 + strspn(line + 2, " \t");
    /* The kernel wants no part of a path that goes on behind what it reads. */
    if (length == SCRIPT_LINE && word[strcspn(word, " \t\n")] == 0)
        return NULL;
    line[strcspn(line, "\n")] = 0;
    word[strcspn(word, " \t")] = 0;
    return *word ? strdup(word) : NULL;
}

/* `text` with what is no visible character spelt out, cut if it is very long. */
static const char *visible(const char *text, char *ret, size_t size)
{
    char *to = ret;

    for (; *text && to + sizeof("\\xff") <= ret + size; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '\r')
            to = stpcpy(to, "\\r");
        else if (byte < ' ' || byte == 0x7f)
            to += sprintf(to, "\\x%02x", byte);
        else
            *to++ = *text;
    }
    *to = 0;
    return ret;
}

/* The exec of `path` would say only that something is not there, not what. */
static struct neap_error *try_interpreter(const char *path, const char *interpreter,
                                          bool is_script, int *ret_status)
{
    int errnum = try_file(interpreter);
    size_t length = strlen(interpreter);
    char name[512];

    if (!errnum)
        return NULL;
    *ret_status = errnum == ENOENT ? NEAP_STATUS_NOT_FOUND : NEAP_STATUS_CANNOT;
    visible(interpreter, name, sizeof(name));
    if (is_script && length && interpreter[length - 1] == '\r')
        return neap_error_create(NEAP_ERROR_MISSING,
                                 "cannot run '%s': there is no interpreter '%s'; its "
                                 "lines end in CR LF: save it with Unix line ends",
                                 path, name);
    return neap_error_os(errnum, "cannot run '%s': its interpreter '%s'", path, name);
}

/* The dynamic linker will run this in secure mode: it does not preload then. */
static bool is_privileged(int fd)
{
    struct stat st;

    if (fstat(fd, &st))
        return false;
    if ((st.st_mode & S_ISUID) && st.st_uid != geteuid())
        return true;
    if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid())
        return true;
    return geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

/* Its library serves malloc and insists on being the first in the program. */
static struct neap_error *refuse_sanitizer(const char *path, const char *option)
{
    const char *name = strcmp(option, "address") == 0  ? "AddressSanitizer"
                       : strcmp(option, "thread") == 0 ? "ThreadSanitizer"
                       : strcmp(option, "leak") == 0   ? "LeakSanitizer"
                                                       : "HWAddressSanitizer";

    return neap_error_create(NEAP_ERROR_USAGE,
                             "%s is built with %s, whose allocator cannot be recorded; "
                             "it was not started (build it without -fsanitize=%s)",
                             path, name, option);
}

static struct neap_error *refuse(const char *path, const struct neap_elf *elf)
{
    if (elf->malformed)
        return NULL; /* the kernel says what it thinks of it */
    if (elf->bits == 32)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "%s is a 32-bit program: libneap.so is 64-bit and "
                                 "cannot be loaded into it; it was not started",
                                 path);
    if (!neap_elf_is_native(elf))
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "%s is a program for another kind of machine: "
                                 "libneap.so cannot be loaded into it; it was not "
                                 "started",
                                 path);
    if (elf->sanitizer)
        return refuse_sanitizer(path, elf->sanitizer);
    if (elf->interpreted || elf->named)
        return NULL;
    if (elf->go)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "%s is a statically linked Go program: libneap.so "
                                 "cannot be loaded into it, and Go's own heap is not "
                                 "malloc; it was not started (use Go's pprof)",
                                 path);
    return neap_error_create(
        NEAP_ERROR_USAGE,
        "%s is statically linked: libneap.so cannot be loaded into "
        "it; it was not started (link it dynamically to record it)",
        path);
}

/* What people should know about a program that can be run; NULL: nothing. */
static const char *choose_note(int fd, const struct neap_elf *elf)
{
    if (is_privileged(fd))
        return "is setuid, setgid or has file capabilities: it runs unhooked, its "
               "memory is not seen";
    if (elf->go)
        return "is a Go program: Go's own heap is not malloc, only C code in it is "
               "seen";
    if (elf->own_malloc)
        return "brings its own malloc: what that serves may not be seen";
    return NULL;
}

static struct neap_error *inspect(const char *path, unsigned depth, char **ret_note,
                                  int *ret_status)
{
    neap_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    neap_auto_free char *interpreter = NULL;
    const char *text;
    struct neap_elf elf;
    struct neap_error *error;

    if (fd < 0)
        return NULL; /* may be executed though not read */
    neap_elf_inspect(fd, &elf);
    if (!elf.is_elf) {
        interpreter = script_interpreter(fd);
        if (!interpreter || depth == SCRIPT_DEPTH)
            return NULL;
        error = try_interpreter(path, interpreter, true, ret_status);
        return error ? error : inspect(interpreter, depth + 1, ret_note, ret_status);
    }
    error = refuse(path, &elf);
    if (!error && elf.interpreter[0])
        error = try_interpreter(path, elf.interpreter, false, ret_status);
    if (error)
        return error;
    text = choose_note(fd, &elf);
    if (text && asprintf(ret_note, "note: %s %s", path, text) < 0) {
        *ret_note = NULL;
        return NEAP_NO_MEMORY;
    }
    return NULL;
}

struct neap_error *neap_program_inspect(const char *path, char **ret_note,
                                        int *ret_status)
{
    *ret_note = NULL;
    *ret_status = NEAP_STATUS_FAILED;
    return inspect(path, 0, ret_note, ret_status);
}
