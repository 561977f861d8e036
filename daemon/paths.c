/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and making of paths.
 *
 * The hook: beside this program in ../lib, or NEAP_HOOK. LD_PRELOAD knows no way to
 * quote its separators, so a path with a space or a colon in it is given through a
 * link in the private directory. Only then: a process that outlives the directory
 * would else be told by the dynamic linker that its library is missing.
 */
#include "daemon/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/collect.h"
#include "schema/base/cleanup.h"

#define DIRECTORY_NAME "neap-XXXXXX"
#define HOOK_FROM_SELF "/../lib/libneap.so"

/* Formats into fresh memory. False: none. */
static bool format(char **ret, const char *before, const char *between,
                   const char *after)
{
    if (asprintf(ret, "%s%s%s", before, between, after) >= 0)
        return true;
    *ret = NULL;
    return false;
}

static struct neap_error *find_self(struct neap_paths *paths)
{
    char self[PATH_MAX + 1];
    ssize_t length = readlink("/proc/self/exe", self, PATH_MAX);

    if (length < 0)
        return neap_error_os(errno, "cannot find this program (/proc/self/exe)");
    self[length] = 0;
    paths->self = strdup(self);
    return paths->self ? NULL : NEAP_NO_MEMORY;
}

static struct neap_error *find_hook(struct neap_paths *paths)
{
    const char *given = getenv(NEAP_ENV_HOOK);
    neap_auto_free char *beside = strdup(paths->self);
    neap_auto_free char *path = NULL;
    char *slash = beside ? strrchr(beside, '/') : NULL;

    if (!slash)
        return NEAP_NO_MEMORY;
    *slash = 0;
    if (!format(&path, given && *given ? given : beside,
                given && *given ? "" : HOOK_FROM_SELF, ""))
        return NEAP_NO_MEMORY;
    paths->hook = realpath(path, NULL);
    if (!paths->hook || access(paths->hook, R_OK))
        return neap_error_create(NEAP_ERROR_OS,
                                 "cannot use libneap.so at %s: %s; set %s to its path",
                                 path, strerror(errno), NEAP_ENV_HOOK);
    return NULL;
}

/* A directory in `parent`, if its socket's path is short enough to be an address. */
static bool try_directory(struct neap_paths *paths, const char *parent)
{
    neap_auto_free char *path = NULL;
    struct sockaddr_un address;

    if (!parent || parent[0] != '/' || !format(&path, parent, "/", DIRECTORY_NAME))
        return false;
    if (strlen(path) + sizeof("/" NEAP_COLLECT_SOCKET) > sizeof(address.sun_path))
        return false;
    if (!mkdtemp(path))
        return false;
    paths->directory = neap_take(path);
    return true;
}

static struct neap_error *make_directory(struct neap_paths *paths)
{
    if (!try_directory(paths, getenv("XDG_RUNTIME_DIR")) &&
        !try_directory(paths, getenv("TMPDIR")) && !try_directory(paths, "/tmp"))
        return neap_error_os(errno,
                             "cannot make a directory for the socket in "
                             "XDG_RUNTIME_DIR, TMPDIR or /tmp (set TMPDIR to a short "
                             "path that can be written)");
    if (!format(&paths->socket, paths->directory, "/", NEAP_COLLECT_SOCKET))
        return NEAP_NO_MEMORY;
    return NULL;
}

/* See the head of this file. */
static struct neap_error *link_hook(struct neap_paths *paths)
{
    neap_auto_free char *link = NULL;

    if (!strpbrk(paths->hook, ": "))
        return NULL;
    if (!format(&link, paths->directory, "/", NEAP_COLLECT_HOOK))
        return NEAP_NO_MEMORY;
    if (strpbrk(link, ": "))
        return neap_error_create(NEAP_ERROR_OS,
                                 "cannot preload %s: neither its path nor %s may have "
                                 "a space or a colon (set TMPDIR to one without)",
                                 paths->hook, paths->directory);
    if (symlink(paths->hook, link))
        return neap_error_os(errno, "cannot make a link at %s", link);
    free(paths->hook);
    paths->hook = neap_take(link);
    return NULL;
}

static struct neap_error *name_output(struct neap_paths *paths,
                                      const struct neap_config *config)
{
    const char *name = config->command[0];
    const char *slash = strrchr(name, '/');

    if (config->output) {
        paths->output = strdup(config->output);
        return paths->output ? NULL : NEAP_NO_MEMORY;
    }
    if (slash && slash[1])
        name = slash + 1;
    /* A name that begins with a dash would be an option of the next command. */
    if (asprintf(&paths->output, "%s%s.%d.neap", name[0] == '-' ? "./" : "", name,
                 (int)getpid()) < 0) {
        paths->output = NULL;
        return NEAP_NO_MEMORY;
    }
    return NULL;
}

struct neap_error *neap_paths_init(struct neap_paths *paths,
                                   const struct neap_config *config)
{
    struct neap_error *error = find_self(paths);

    if (!error)
        error = find_hook(paths);
    if (!error)
        error = name_output(paths, config);
    if (!error)
        error = make_directory(paths);
    if (!error) {
        error = link_hook(paths);
        if (error)
            neap_paths_remove_directory(paths->directory);
    }
    return error;
}

void neap_paths_deinit(struct neap_paths *paths)
{
    free(paths->self);
    free(paths->hook);
    free(paths->directory);
    free(paths->socket);
    free(paths->output);
    *paths = (struct neap_paths){0};
}

void neap_paths_remove_directory(const char *directory)
{
    static const char *const names[] = {NEAP_COLLECT_SOCKET, NEAP_COLLECT_HOOK};

    if (!directory)
        return;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        neap_auto_free char *path = NULL;

        if (format(&path, directory, "/", names[i]))
            unlink(path);
    }
    rmdir(directory);
}
