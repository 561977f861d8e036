/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker behind symbol.h: a queue of questions, a block of answers.
 *
 * Under `lock` stand the queue, the block of answers on its way to the caller (it is
 * the caller's while it is not empty), and `stop`. Modules are made by the caller
 * and never change; what the worker notes about one is the worker's alone.
 *
 * The worker takes all questions there are, sorts them by module and address, so
 * that each file and each unit of its DWARF is read once a batch, and hands answers
 * over when its block is full or the batch is done. It waits while the last block
 * has not been taken: memory stays bounded however far the caller is behind.
 *
 * Only the first FILES_MAX modules keep their descriptor; the file of a later one is
 * opened again when it is asked about and must then be the same one.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/symbol/answers.h"
#include "daemon/symbol/cache.h"
#include "daemon/symbol/debugfile.h"
#include "daemon/symbol/fault.h"
#include "daemon/symbol/symbol.h"
#include "schema/base/vec.h"

#define FILES_MAX   256u
#define STACK_BYTES (4u << 20)

struct question {
    struct neap_symbol_module *module;
    uint64_t offset;
    uint64_t token;
};

struct neap_symbolizer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;  /* the worker: a question, a block taken, stop */
    pthread_cond_t ready; /* the caller: a block to take */
    atomic_bool stop;     /* written under lock; read without it between questions */
    NEAP_VEC(struct question) queue;
    struct neap_answers full; /* the caller's while used > 0 */

    /* the caller's */
    NEAP_VEC(struct neap_symbol_module *) modules;
    uint32_t files;
    uint32_t files_max;
    uint64_t open; /* questions asked and not taken the answers of */
    struct neap_answers taken;

    /* the worker's */
    NEAP_VEC(struct question) batch;
    struct neap_answers filling;
    struct neap_symbol_cache cache;

    char *dirs; /* cache.places points into it */
};

/* ---- worker ---- */

static int compare_questions(const void *left, const void *right)
{
    const struct question *a = left;
    const struct question *b = right;

    if (a->module != b->module)
        return a->module->number < b->module->number ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* Wait for questions and take them all. False: the end. */
static bool take_batch(struct neap_symbolizer *symbolizer)
{
    __typeof__(symbolizer->queue) queue;

    pthread_mutex_lock(&symbolizer->lock);
    while (!symbolizer->stop && symbolizer->queue.count == 0)
        pthread_cond_wait(&symbolizer->wake, &symbolizer->lock);
    memcpy(&queue, &symbolizer->queue, sizeof(queue));
    memcpy(&symbolizer->queue, &symbolizer->batch, sizeof(queue));
    memcpy(&symbolizer->batch, &queue, sizeof(queue));
    symbolizer->queue.count = 0;
    pthread_mutex_unlock(&symbolizer->lock);
    return !symbolizer->stop;
}

/* Give the answers to the caller as soon as it has taken the last ones. */
static void hand_over(struct neap_symbolizer *symbolizer)
{
    struct neap_answers block;

    pthread_mutex_lock(&symbolizer->lock);
    while (!symbolizer->stop && symbolizer->full.used > 0)
        pthread_cond_wait(&symbolizer->wake, &symbolizer->lock);
    if (!symbolizer->stop) {
        block = symbolizer->full;
        symbolizer->full = symbolizer->filling;
        symbolizer->filling = block;
        pthread_cond_signal(&symbolizer->ready);
    }
    pthread_mutex_unlock(&symbolizer->lock);
}

static void answer(struct neap_symbolizer *symbolizer, const struct question *question)
{
    neap_symbol_cache_answer(&symbolizer->cache, question->module, question->offset,
                             question->token, &symbolizer->filling);
}

static void *work(void *argument)
{
    struct neap_symbolizer *symbolizer = argument;

    while (take_batch(symbolizer)) {
        qsort(symbolizer->batch.data, symbolizer->batch.count,
              sizeof(*symbolizer->batch.data), compare_questions);
        for (size_t i = 0; i < symbolizer->batch.count && !symbolizer->stop; i++) {
            if (!neap_answers_has_room(&symbolizer->filling))
                hand_over(symbolizer);
            if (!symbolizer->stop)
                answer(symbolizer, &symbolizer->batch.data[i]);
        }
        hand_over(symbolizer);
    }
    neap_symbol_cache_deinit(&symbolizer->cache);
    return NULL;
}

/* All signals but SIGBUS, which is this thread's own affair, stay with the others. */
static int start(struct neap_symbolizer *symbolizer)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int status;

    status = pthread_attr_init(&attributes);
    if (status != 0)
        return status;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    status = pthread_create(&symbolizer->thread, &attributes, work, symbolizer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return status;
}

/* ---- caller ---- */

static void module_destroy(struct neap_symbol_module *module)
{
    if (module->fd >= 0)
        close(module->fd);
    if (module->unpacked >= 0)
        close(module->unpacked);
    free(module->build_id);
    free(module->path);
    free(module);
}

static void release(struct neap_symbolizer *symbolizer)
{
    for (size_t i = 0; i < symbolizer->modules.count; i++)
        module_destroy(symbolizer->modules.data[i]);
    neap_vec_deinit(&symbolizer->modules);
    neap_vec_deinit(&symbolizer->queue);
    neap_vec_deinit(&symbolizer->batch);
    neap_answers_deinit(&symbolizer->full);
    neap_answers_deinit(&symbolizer->taken);
    neap_answers_deinit(&symbolizer->filling);
    pthread_cond_destroy(&symbolizer->ready);
    pthread_cond_destroy(&symbolizer->wake);
    pthread_mutex_destroy(&symbolizer->lock);
    free(symbolizer->dirs);
    free(symbolizer);
}

static bool read_settings(struct neap_symbolizer *symbolizer)
{
    const char *dirs = getenv("NEAP_DEBUG_DIR");
    const char *debuginfod = getenv("NEAP_DEBUGINFOD");
    struct rlimit files;

    symbolizer->cache.places.debuginfod = debuginfod && strcmp(debuginfod, "1") == 0;
    symbolizer->files_max = FILES_MAX;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / 4 < FILES_MAX)
        symbolizer->files_max = (uint32_t)(files.rlim_cur / 4);
    if (dirs && *dirs) {
        symbolizer->dirs = strdup(dirs);
        symbolizer->cache.places.dirs = symbolizer->dirs;
        return symbolizer->dirs != NULL;
    }
    return true;
}

struct neap_error *neap_symbolizer_create(struct neap_symbolizer **ret)
{
    struct neap_symbolizer *symbolizer = calloc(1, sizeof(*symbolizer));
    int status;

    if (!symbolizer)
        return NEAP_NO_MEMORY;
    pthread_mutex_init(&symbolizer->lock, NULL);
    pthread_cond_init(&symbolizer->wake, NULL);
    pthread_cond_init(&symbolizer->ready, NULL);
    if (!read_settings(symbolizer) || !neap_answers_init(&symbolizer->full) ||
        !neap_answers_init(&symbolizer->taken) ||
        !neap_answers_init(&symbolizer->filling)) {
        release(symbolizer);
        return NEAP_NO_MEMORY;
    }
    status = neap_fault_install() ? start(symbolizer) : ENOTSUP;
    if (status != 0) {
        release(symbolizer);
        return neap_error_os(status, "cannot start the thread that looks up names");
    }
    *ret = symbolizer;
    return NULL;
}

void neap_symbolizer_destroy(struct neap_symbolizer *symbolizer)
{
    if (!symbolizer)
        return;
    pthread_mutex_lock(&symbolizer->lock);
    symbolizer->stop = true;
    pthread_cond_signal(&symbolizer->wake);
    pthread_mutex_unlock(&symbolizer->lock);
    pthread_join(symbolizer->thread, NULL);
    release(symbolizer);
}

/* FNV-1a, to tell names apart quickly; equal ones are compared. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

static struct neap_symbol_module *
module_create(const char *path, const uint8_t *build_id, uint32_t build_id_len)
{
    struct neap_symbol_module *module = calloc(1, sizeof(*module));

    if (!module)
        return NULL;
    module->fd = -1;
    module->unpacked = NEAP_UNPACKED_NOT_YET;
    module->path = strdup(path);
    module->build_id = malloc(build_id_len + 1u);
    if (!module->path || !module->build_id) {
        module_destroy(module);
        return NULL;
    }
    if (build_id_len)
        memcpy(module->build_id, build_id, build_id_len);
    module->build_id_len = build_id_len;
    return module;
}

/* Memory of the kernel's own ("[vdso]") has no file. */
static void module_open(struct neap_symbolizer *symbolizer,
                        struct neap_symbol_module *module)
{
    if (module->path[0] != '/')
        return;
    module->fd = neap_debug_open(module->path, &module->stat);
    if (module->fd < 0) {
        module->stat.st_ino = 0;
    } else if (symbolizer->files < symbolizer->files_max) {
        symbolizer->files++;
    } else {
        close(module->fd);
        module->fd = -1;
    }
}

struct neap_error *neap_symbolizer_module(struct neap_symbolizer *symbolizer,
                                          const char *path, const uint8_t *build_id,
                                          uint32_t build_id_len, uint32_t *ret)
{
    uint64_t hash = hash_bytes(0xcbf29ce484222325u, path, strlen(path) + 1);
    struct neap_symbol_module *module;

    hash = hash_bytes(hash, build_id, build_id_len);
    for (size_t i = 0; i < symbolizer->modules.count; i++) {
        module = symbolizer->modules.data[i];
        if (module->hash == hash && module->build_id_len == build_id_len &&
            strcmp(module->path, path) == 0 &&
            (build_id_len == 0 ||
             memcmp(module->build_id, build_id, build_id_len) == 0)) {
            *ret = module->number;
            return NULL;
        }
    }
    module = module_create(path, build_id, build_id_len);
    if (!module)
        return NEAP_NO_MEMORY;
    module->hash = hash;
    module->number = (uint32_t)symbolizer->modules.count;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): a vector of pointers is meant */
    if (!neap_vec_push(&symbolizer->modules, module)) {
        module_destroy(module);
        return NEAP_NO_MEMORY;
    }
    module_open(symbolizer, module);
    *ret = module->number;
    return NULL;
}

struct neap_error *neap_symbolizer_ask(struct neap_symbolizer *symbolizer,
                                       uint32_t module, uint64_t offset, uint64_t token)
{
    struct question question = {NULL, offset, token};
    bool done;

    if (module >= symbolizer->modules.count)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "module %u was never made known to the symbolizer",
                                 module);
    question.module = symbolizer->modules.data[module];
    pthread_mutex_lock(&symbolizer->lock);
    done = neap_vec_push(&symbolizer->queue, question);
    if (done)
        pthread_cond_signal(&symbolizer->wake);
    pthread_mutex_unlock(&symbolizer->lock);
    if (!done)
        return NEAP_NO_MEMORY;
    symbolizer->open++;
    return NULL;
}

uint64_t neap_symbolizer_answers(struct neap_symbolizer *symbolizer, bool wait,
                                 void (*take)(void *context,
                                              const struct neap_symbol_answer *answer),
                                 void *context)
{
    for (;;) {
        struct neap_answers block;

        pthread_mutex_lock(&symbolizer->lock);
        while (wait && symbolizer->open > 0 && symbolizer->full.used == 0)
            pthread_cond_wait(&symbolizer->ready, &symbolizer->lock);
        block = symbolizer->full;
        symbolizer->full = symbolizer->taken;
        symbolizer->taken = block;
        pthread_cond_signal(&symbolizer->wake);
        pthread_mutex_unlock(&symbolizer->lock);
        if (block.used == 0)
            return symbolizer->open;
        symbolizer->open -= neap_answers_take(&symbolizer->taken, take, context);
    }
}
