/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that change hands between threads.
 *
 *     handoff queue   producers allocate, consumers free
 *     handoff race    threads free and realloc one another's blocks, so that an
 *                     address that one gives up is at once another's; run it with one
 *                     arena and no tcache for the most of that
 *
 * The race counts what it does with counters of its own. Nothing is live at the end.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/targets/target.h"

enum {
    PRODUCERS = 2,
    BLOCKS = 20000,
    QUEUE = 64,
    RACERS = 4,
    ROUNDS = 40000,
    SLOTS = 16
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void *blocks[QUEUE];
    unsigned head, tail;
};

static struct queue queues[PRODUCERS];
static _Atomic(void *) slots[SLOTS];
static _Atomic long race_allocs, race_bytes, race_reallocs, race_rebytes;

static SITE void *produce_block(size_t size)
{
    return keep(malloc(size));
}

static void *produce(void *arg)
{
    struct queue *q = arg;

    for (unsigned i = 0; i < BLOCKS; i++) {
        void *block = produce_block(16 * (i % 7 + 1));

        pthread_mutex_lock(&q->lock);
        while (q->head - q->tail == QUEUE)
            pthread_cond_wait(&q->changed, &q->lock);
        q->blocks[q->head++ % QUEUE] = block;
        pthread_cond_signal(&q->changed);
        pthread_mutex_unlock(&q->lock);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct queue *q = arg;

    for (unsigned i = 0; i < BLOCKS; i++) {
        void *block;

        pthread_mutex_lock(&q->lock);
        while (q->head == q->tail)
            pthread_cond_wait(&q->changed, &q->lock);
        block = q->blocks[q->tail++ % QUEUE];
        pthread_cond_signal(&q->changed);
        pthread_mutex_unlock(&q->lock);
        free(block);
    }
    return NULL;
}

static void run_queue(void)
{
    pthread_t ids[2 * PRODUCERS];
    long bytes = 0;

    for (int i = 0; i < PRODUCERS; i++) {
        pthread_mutex_init(&queues[i].lock, NULL);
        pthread_cond_init(&queues[i].changed, NULL);
        need(pthread_create(&ids[2 * i], NULL, produce, &queues[i]) == 0, "no thread");
        need(pthread_create(&ids[2 * i + 1], NULL, consume, &queues[i]) == 0,
             "no thread");
    }
    for (int i = 0; i < 2 * PRODUCERS; i++)
        pthread_join(ids[i], NULL);
    for (long i = 0; i < BLOCKS; i++)
        bytes += 16 * (i % 7 + 1);
    site("produce_block", PRODUCERS * BLOCKS, PRODUCERS * bytes, PRODUCERS * BLOCKS,
         PRODUCERS * bytes);
}

static SITE void *race_alloc(size_t size)
{
    atomic_fetch_add(&race_allocs, 1);
    atomic_fetch_add(&race_bytes, (long)size);
    return keep(malloc(size));
}

static SITE void *race_realloc(void *block, size_t size)
{
    void *moved = keep(realloc(block, size));

    need(moved != NULL, "realloc failed");
    atomic_fetch_add(&race_reallocs, 1);
    atomic_fetch_add(&race_rebytes, (long)size);
    return moved;
}

static void *racer(void *arg)
{
    unsigned random = (unsigned)(size_t)arg * 2654435761u + 1;

    for (int i = 0; i < ROUNDS; i++) {
        void *block;
        size_t size;

        random = random * 1664525u + 1013904223u;
        size = 600 + (random >> 8) % 800;
        block = atomic_exchange(&slots[(random >> 24) % SLOTS], NULL);
        if (block == NULL) {
            block = race_alloc(size);
        } else if (random >> 20 & 1) {
            free(block);
            block = NULL;
        } else {
            block = race_realloc(block, size);
        }
        if (block != NULL)
            block = atomic_exchange(&slots[(random >> 16) % SLOTS], block);
        free(block);
    }
    return NULL;
}

static void run_race(void)
{
    pthread_t ids[RACERS];

    need(mallopt(M_ARENA_MAX, 1) == 1, "mallopt failed");
    for (size_t i = 0; i < RACERS; i++)
        need(pthread_create(&ids[i], NULL, racer, (void *)i) == 0, "no thread");
    for (int i = 0; i < RACERS; i++)
        pthread_join(ids[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        free(slots[i]);
    site("race_alloc", race_allocs, race_bytes, race_allocs, race_bytes);
    site("race_realloc", race_reallocs, race_rebytes, race_reallocs, race_rebytes);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "queue") == 0)
        run_queue();
    else if (strcmp(mode, "race") == 0)
        run_race();
    else
        need(0, "usage: handoff queue|race");
    return 0;
}
