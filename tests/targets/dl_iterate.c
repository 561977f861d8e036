/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation inside dl_iterate_phdr callbacks, under the loader's lock, while other
 * threads allocate for the first time, on stacks nobody has walked yet: whoever
 * unwinds with that lock, or waits for one that is held here, never ends.
 */
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/targets/target.h"

enum {
    WALKERS = 2,
    WALKS = 1500,
    STARTERS = 2,
    STARTS = 400
};

static _Atomic long callbacks;

static SITE int in_callback(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info;
    (void)size;
    (void)arg;
    free(keep(malloc(401)));
    keep(malloc(24));
    atomic_fetch_add(&callbacks, 1);
    return 0;
}

static void *walk(void *unused)
{
    for (int i = 0; i < WALKS; i++)
        dl_iterate_phdr(in_callback, NULL);
    return unused;
}

static SITE void cold_stack(size_t size)
{
    free(keep(malloc(size)));
}

static SITE void cold_stack_deeper(size_t size)
{
    cold_stack(size + 1);
}

static void *short_life(void *unused)
{
    cold_stack(409);
    cold_stack_deeper(409);
    return unused;
}

static void *start(void *unused)
{
    for (int i = 0; i < STARTS; i++) {
        pthread_t id;

        need(pthread_create(&id, NULL, short_life, NULL) == 0, "no thread");
        pthread_join(id, NULL);
    }
    return unused;
}

int main(void)
{
    pthread_t ids[WALKERS + STARTERS];

    for (int i = 0; i < WALKERS + STARTERS; i++)
        need(pthread_create(&ids[i], NULL, i < WALKERS ? walk : start, NULL) == 0,
             "no thread");
    for (int i = 0; i < WALKERS + STARTERS; i++)
        pthread_join(ids[i], NULL);
    site("in_callback", 2 * callbacks, 425 * callbacks, callbacks, 401 * callbacks);
    site("cold_stack", 2 * STARTERS * STARTS, 819L * STARTERS * STARTS,
         2 * STARTERS * STARTS, 819L * STARTERS * STARTS);
    return 0;
}
