/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library whose constructor asks to be called around forks, before any of the
 * program's code runs; what is done then is the program's first argument. See
 * atforkers.c.
 *
 * Links: -Wl,-soname,libatforkers.so
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/targets/target.h"

int atforkers_calls(void);

static _Atomic int calls;
static _Atomic int working, quit;
static pthread_t worker;

int atforkers_calls(void)
{
    return calls;
}

static void allocate(void)
{
    char *block = keep(malloc(200000));

    need(block != NULL, "no memory");
    memset(block, 1, 200000);
    free(block);
    calls++;
}

static void *work(void *arg)
{
    free(keep(malloc(100)));
    working = 1;
    while (!quit)
        usleep(100);
    free(keep(malloc(3000)));
    return arg;
}

static void start_worker(void)
{
    working = quit = 0;
    need(pthread_create(&worker, NULL, work, NULL) == 0, "no thread");
    while (!working)
        usleep(100);
}

static void join_worker(void)
{
    quit = 1;
    need(pthread_join(worker, NULL) == 0, "no join");
    calls++;
}

static __attribute__((constructor)) void library_starts(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "allocate") == 0) {
        need(pthread_atfork(allocate, allocate, allocate) == 0, "no handlers");
    } else if (argc > 1 && strcmp(argv[1], "join") == 0) {
        /* Before anything has allocated, as OpenBLAS does. */
        need(pthread_atfork(join_worker, start_worker, NULL) == 0, "no handlers");
        start_worker();
    }
}
