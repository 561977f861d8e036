/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that allocate and free all the time, and a main thread that forks meanwhile.
 * Each child allocates as well, and must find a heap that nobody holds:
 *
 *     forkheap CHILDREN
 */
#include <pthread.h>
#include <stdint.h>
#include <sys/wait.h>

#include "tests/targets/target.h"

static volatile int stop;

static void churn(unsigned rounds, uint64_t seed)
{
    char *slots[64] = {0};

    for (unsigned i = 0; i < rounds; i++) {
        size_t size;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size = (seed >> 33) % (i % 100 == 0 ? 3000000 : 3000) + 1;
        free(slots[seed >> 58]);
        slots[seed >> 58] = keep(malloc(size));
        need(slots[seed >> 58] != NULL, "no memory");
        slots[seed >> 58][0] = slots[seed >> 58][size - 1] = 1;
    }
    for (unsigned i = 0; i < 64; i++)
        free(slots[i]);
}

static void *work(void *seed)
{
    for (uint64_t round = (uint64_t)(uintptr_t)seed; !stop; round += 8)
        churn(100, round);
    return NULL;
}

static SITE char *made_by_child(void)
{
    return keep(malloc(777));
}

int main(int argc, char **argv)
{
    int children = argc > 1 ? atoi(argv[1]) : 10;
    pthread_t threads[3];

    for (uintptr_t i = 0; i < 3; i++)
        need(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "no thread");
    for (int i = 0; i < children; i++) {
        pid_t child = fork();
        int status;

        need(child >= 0, "no child");
        if (child == 0) {
            churn(1000, (uint64_t)i);
            made_by_child();
            _exit(0);
        }
        need(waitpid(child, &status, 0) == child && status == 0, "a child failed");
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    site("made_by_child", children, 777L * children, 0, 0);
    return 0;
}
