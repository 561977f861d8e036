/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that one thread allocates and another one frees:
 *
 *     passing one PAIRS BLOCKS      each producer has one consumer
 *     passing cross PAIRS BLOCKS    both of a pair produce for the other
 *     passing many PAIRS BLOCKS     any consumer takes from any producer
 *
 * PAIRS pairs of threads, BLOCKS blocks a producer. They go in batches through a queue
 * with a lock, so that what is measured is mostly the allocator; the batch is a block
 * of its own, which its consumer frees too.
 */
#include <pthread.h>

#include "heapbench.h"

#define BATCH 128
#define DEEP  32

struct batch {
    void *blocks[BATCH];
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t some, less;
    struct batch *batches[DEEP];
    size_t first, count;
};

struct pair {
    struct queue own[2];
    struct queue *to[2];
    uint64_t seed[2];
};

static size_t batches;

static void open_queue(struct queue *queue)
{
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->some, NULL);
    pthread_cond_init(&queue->less, NULL);
}

static void put(struct queue *queue, struct batch *batch)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == DEEP)
        pthread_cond_wait(&queue->less, &queue->lock);
    queue->batches[(queue->first + queue->count++) % DEEP] = batch;
    pthread_cond_signal(&queue->some);
    pthread_mutex_unlock(&queue->lock);
}

static struct batch *take(struct queue *queue)
{
    struct batch *batch;

    pthread_mutex_lock(&queue->lock);
    while (!queue->count)
        pthread_cond_wait(&queue->some, &queue->lock);
    batch = queue->batches[queue->first];
    queue->first = (queue->first + 1) % DEEP;
    queue->count--;
    pthread_cond_signal(&queue->less);
    pthread_mutex_unlock(&queue->lock);
    return batch;
}

static struct batch *made(uint64_t *seed)
{
    struct batch *batch = must(malloc(sizeof(*batch)));

    for (size_t i = 0; i < BATCH; i++) {
        batch->blocks[i] = must(malloc(random_size(seed, 16, 6)));
        *(char *)batch->blocks[i] = 1;
    }
    return batch;
}

static void freed(struct batch *batch)
{
    for (size_t i = 0; i < BATCH; i++)
        free(batch->blocks[i]);
    free(batch);
}

static void *produce(void *given)
{
    struct pair *pair = given;

    for (size_t i = 0; i < batches; i++)
        put(pair->to[0], made(&pair->seed[0]));
    return NULL;
}

static void *consume(void *given)
{
    struct pair *pair = given;

    for (size_t i = 0; i < batches; i++)
        freed(take(pair->to[0]));
    return NULL;
}

static void cross(struct queue *out, struct queue *in, uint64_t *seed)
{
    for (size_t i = 0; i < batches; i++) {
        put(out, made(seed));
        freed(take(in));
    }
}

static void *cross_left(void *given)
{
    struct pair *pair = given;

    cross(pair->to[0], pair->to[1], &pair->seed[0]);
    return NULL;
}

static void *cross_right(void *given)
{
    struct pair *pair = given;

    cross(pair->to[1], pair->to[0], &pair->seed[1]);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    size_t count = (size_t)argument(argc, argv, 2);
    int crossing = !strcmp(what, "cross"), many = !strcmp(what, "many");
    pthread_t *threads = room(2 * count * sizeof(*threads));
    struct pair *pairs = room(count * sizeof(*pairs));
    double start = now();

    if (!crossing && !many && strcmp(what, "one") != 0)
        die("passing: one, cross or many");
    batches = (size_t)argument(argc, argv, 3) / BATCH;
    for (size_t i = 0; i < count; i++) {
        pairs[i].seed[0] = 2 * i + 1;
        pairs[i].seed[1] = 2 * i + 2;
        for (size_t j = 0; j < 2; j++) {
            open_queue(&pairs[i].own[j]);
            pairs[i].to[j] = &pairs[many ? 0 : i].own[j];
        }
    }
    for (size_t i = 0; i < 2 * count; i++) {
        void *(*left)(void *) = crossing ? cross_left : produce;
        void *(*right)(void *) = crossing ? cross_right : consume;

        if (pthread_create(&threads[i], NULL, i % 2 ? right : left, &pairs[i / 2]) != 0)
            die("no thread");
    }
    for (size_t i = 0; i < 2 * count; i++)
        pthread_join(threads[i], NULL);
    say_pairs(start, (double)batches * BATCH * (double)count * (crossing ? 2 : 1));
    return 0;
}
