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
    line[strcspn(line, "\n")] = 0;
    word = line + 2 + strspn(line + 2, " \t");
    word[strcspn(word, " \t")] = 0;
    return *word ? strdup(word) : NULL;
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

static struct neap_error *inspect(const char *path, unsigned depth, char **ret_note)
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
        return inspect(interpreter, depth + 1, ret_note);
    }
    error = refuse(path, &elf);
    if (error)
        return error;
    text = choose_note(fd, &elf);
    if (text && asprintf(ret_note, "note: %s %s", path, text) < 0) {
        *ret_note = NULL;
        return NEAP_NO_MEMORY;
    }
    return NULL;
}

struct neap_error *neap_program_inspect(const char *path, char **ret_note)
{
    *ret_note = NULL;
    return inspect(path, 0, ret_note);
}
