/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads, and threads with names.
 *
 *     threads names      five threads that name themselves before or after their
 *                        first allocation
 *     threads short N    N threads one after another
 *     threads crowd N    N threads at once, each alive until all have allocated
 *     threads rounds N   N threads, ROUND of them at a time
 */
#include <pthread.h>

#include "tests/targets/target.h"

enum {
    NAMED = 5,
    ROUND = 25,
    CROWD_EACH = 20
};

static pthread_barrier_t barrier;

static SITE void named_work(void)
{
    free(keep(malloc(601)));
}

static void *named(void *arg)
{
    size_t number = (size_t)arg;
    char name[16];

    if (number % 2)
        named_work();
    snprintf(name, sizeof(name), "worker-%zu", number);
    need(pthread_setname_np(pthread_self(), name) == 0, "pthread_setname_np");
    named_work();
    named_work();
    return NULL;
}

static void names(void)
{
    pthread_t ids[NAMED];

    for (size_t i = 0; i < NAMED; i++)
        need(pthread_create(&ids[i], NULL, named, (void *)i) == 0, "no thread");
    for (int i = 0; i < NAMED; i++)
        pthread_join(ids[i], NULL);
    site("named_work", 2 * NAMED + NAMED / 2, 601L * (2 * NAMED + NAMED / 2),
         2 * NAMED + NAMED / 2, 601L * (2 * NAMED + NAMED / 2));
}

static SITE void short_work(void)
{
    keep(malloc(40));
    free(keep(malloc(56)));
}

static void *short_life(void *unused)
{
    short_work();
    return unused;
}

static void short_threads(long count)
{
    for (long i = 0; i < count; i++) {
        pthread_t id;

        need(pthread_create(&id, NULL, short_life, NULL) == 0, "no thread");
        pthread_join(id, NULL);
    }
    site("short_work", 2 * count, 96 * count, count, 56 * count);
}

static SITE void round_work(size_t number)
{
    void *block = keep(malloc(100 + number % 64));

    block = keep(realloc(block, 300));
    free(block);
    keep(malloc(40));
}

static void *round_life(void *number)
{
    round_work((size_t)number);
    return NULL;
}

static void round_threads(long count)
{
    pthread_t ids[ROUND];
    long bytes = 0;

    for (long done = 0; done < count; done += ROUND) {
        for (long i = 0; i < ROUND; i++)
            need(pthread_create(&ids[i], NULL, round_life, (void *)(done + i)) == 0,
                 "no thread");
        for (long i = 0; i < ROUND; i++)
            pthread_join(ids[i], NULL);
    }
    for (long i = 0; i < count; i++)
        bytes += 100 + i % 64;
    site("round_work", 3 * count, bytes + 340 * count, 2 * count, bytes + 300 * count);
}

static SITE void *crowd_work(size_t size)
{
    return keep(malloc(size));
}

static void *one_of_many(void *unused)
{
    void *blocks[CROWD_EACH];

    for (size_t i = 0; i < CROWD_EACH; i++)
        blocks[i] = crowd_work(100 + i);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < CROWD_EACH; i++)
        free(blocks[i]);
    return unused;
}

static void crowd(long count)
{
    pthread_t *ids = calloc((size_t)count, sizeof(*ids));
    pthread_attr_t attributes;
    long bytes = 0;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (long i = 0; i < count; i++)
        need(pthread_create(&ids[i], &attributes, one_of_many, NULL) == 0, "no thread");
    for (long i = 0; i < count; i++)
        pthread_join(ids[i], NULL);
    free(ids);
    for (long i = 0; i < CROWD_EACH; i++)
        bytes += 100 + i;
    say("peak crowd_work %ld %ld\n", bytes * count, count * CROWD_EACH);
    site("crowd_work", count * CROWD_EACH, bytes * count, count * CROWD_EACH,
         bytes * count);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;

    if (strcmp(mode, "names") == 0)
        names();
    else if (strcmp(mode, "short") == 0)
        short_threads(count);
    else if (strcmp(mode, "rounds") == 0)
        round_threads(count);
    else if (strcmp(mode, "crowd") == 0)
        crowd(count);
    else
        need(0, "usage: threads names|short N|crowd N|rounds N");
    return 0;
}
