/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries come and go in two threads, at whatever address is free, and allocate
 * while they are there; two other threads throw exceptions (which look for unwind
 * rules through the same lists of the loader) over frames that allocate.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdexcept>

#include "tests/targets/target.h"

namespace
{

enum {
    TURNS = 150,
    THROWS = 1500
};

char paths[2][4096];
const char *const functions[2] = {"reuse_a", "reuse_b"};

} // namespace

extern "C" {

static void *churn(void *arg)
{
    const int first = arg != nullptr;

    for (int turn = 0; turn < TURNS; turn++) {
        const int which = (turn + first) & 1;
        void *library = dlopen(paths[which], RTLD_NOW | RTLD_LOCAL);

        need(library != nullptr, "%s", dlerror());
        auto function =
            reinterpret_cast<void *(*)(size_t)>(dlsym(library, functions[which]));
        need(function != nullptr, "no function in %s", paths[which]);
        keep(function(500 + static_cast<size_t>(which)));
        keep(function(500 + static_cast<size_t>(which)));
        need(dlclose(library) == 0, "dlclose");
    }
    return nullptr;
}

SITE void *churn_block(size_t size)
{
    return keep(malloc(size));
}

SITE void churn_thrower(int depth)
{
    void *block = churn_block(700);

    if (depth == 0) {
        free(block);
        throw std::runtime_error("out of here");
    }
    free(block);
    churn_thrower(depth - 1);
    keep(block);
}

static void *throws(void *)
{
    for (int i = 0; i < THROWS; i++) {
        try {
            churn_thrower(i % 8);
        } catch (const std::runtime_error &) {
        }
    }
    return nullptr;
}

} // extern "C"

int main()
{
    pthread_t ids[4];
    long blocks = 0;

    for (int i = 0; i < 2; i++) {
        ssize_t length = readlink("/proc/self/exe", paths[i], sizeof(paths[i]) - 64);

        need(length > 0, "cannot read /proc/self/exe");
        paths[i][length] = '\0';
        strcpy(strrchr(paths[i], '/') + 1, i ? "libreuse_b.so" : "libreuse_a.so");
    }
    for (int i = 0; i < 4; i++)
        need(pthread_create(&ids[i], nullptr, i < 2 ? churn : throws,
                            i == 1 ? paths : nullptr) == 0,
             "no thread");
    for (auto id : ids)
        pthread_join(id, nullptr);
    for (int i = 0; i < THROWS; i++)
        blocks += i % 8 + 1;
    site("reuse_a", 2 * TURNS, 1000L * TURNS, 0, 0);
    site("reuse_b", 2 * TURNS, 1002L * TURNS, 0, 0);
    site("churn_block", 2 * blocks, 1400 * blocks, 2 * blocks, 1400 * blocks);
    return 0;
}
