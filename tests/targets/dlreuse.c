/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two libraries that take turns at one address. Each allocates from a function of
 * its own at the same offset, and its blocks outlive it. Prints, besides the sites,
 * "reused N": how often one library came to where the other had been.
 */
#include <dlfcn.h>

#include "tests/targets/target.h"

enum {
    TURNS = 20
};

static void library_path(char *path, size_t room, const char *name)
{
    ssize_t length = readlink("/proc/self/exe", path, room - 64);
    char *slash;

    need(length > 0, "cannot read /proc/self/exe");
    path[length] = '\0';
    slash = strrchr(path, '/');
    strcpy(slash + 1, name);
}

int main(void)
{
    static const char *const names[2] = {"libreuse_a.so", "libreuse_b.so"};
    static const char *const functions[2] = {"reuse_a", "reuse_b"};
    void *last[2] = {NULL, NULL};
    char path[4096];
    int reused = 0;

    for (int turn = 0; turn < TURNS; turn++) {
        int which = turn & 1;
        void *(*function)(size_t);
        void *library;

        library_path(path, sizeof(path), names[which]);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        need(library != NULL, "%s", dlerror());
        *(void **)&function = dlsym(library, functions[which]);
        need(function != NULL, "no function in %s", path);
        last[which] = *(void **)&function;
        reused += last[which] == last[!which];
        keep(function(500 + (size_t)which));
        keep(function(500 + (size_t)which));
        need(dlclose(library) == 0, "dlclose");
    }
    say("reused %d\n", reused);
    site("reuse_a", TURNS, 500L * TURNS, 0, 0);
    site("reuse_b", TURNS, 501L * TURNS, 0, 0);
    return 0;
}
