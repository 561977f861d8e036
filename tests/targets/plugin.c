/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A C program, with no C++ library in its search order, that loads a C++ library for
 * itself (RTLD_LOCAL), closes it, and loads it again. Prints "plugin COUNT BYTES", what
 * plugin_work allocates and frees; exceptions are libstdc++'s own.
 */
#include <dlfcn.h>

#include "tests/targets/target.h"

enum {
    ROUNDS = 3,
    COUNT = 50,
    SIZE = 1234
};

int main(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 64);
    char *slash;

    need(length > 0, "cannot read /proc/self/exe");
    path[length] = '\0';
    slash = strrchr(path, '/');
    strcpy(slash + 1, "libplugin.so");
    for (int i = 0; i < ROUNDS; i++) {
        long (*work)(long, long);
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

        need(library != NULL, "%s", dlerror());
        *(void **)&work = dlsym(library, "plugin_work");
        need(work != NULL, "no plugin_work in %s", path);
        need(work(COUNT, SIZE) == COUNT, "a huge new did not throw");
        need(dlclose(library) == 0, "dlclose");
    }
    say("plugin %d %ld\n", ROUNDS * (COUNT + 1), ROUNDS * (COUNT * (long)SIZE + 8L));
    return 0;
}
