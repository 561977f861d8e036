/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open objects of modules, see cache.h.
 */
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include "daemon/symbol/cache.h"
#include "daemon/symbol/fault.h"
#include "schema/base/cleanup.h"

static void close_object(struct neap_symbol_cache *cache, uint32_t at)
{
    struct neap_symbol_module *module = cache->open[at];

    neap_object_destroy(module->object);
    module->object = NULL;
    cache->open[at] = cache->open[--cache->count];
}

/* Forget an object in the state a fault left it in; its memory is given up. */
static void abandon(struct neap_symbol_cache *cache, struct neap_symbol_module *module)
{
    module->dead = true;
    module->object = NULL;
    for (uint32_t i = 0; i < cache->count; i++) {
        if (cache->open[i] == module) {
            cache->open[i] = cache->open[--cache->count];
            return;
        }
    }
}

static uint32_t least_recent(const struct neap_symbol_cache *cache)
{
    uint32_t at = 0;

    for (uint32_t i = 1; i < cache->count; i++) {
        if (cache->open[i]->used < cache->open[at]->used)
            at = i;
    }
    return at;
}

/* Close what is too much. */
static void trim(struct neap_symbol_cache *cache)
{
    bool closed = false;
    size_t total = 0;

    for (uint32_t i = cache->count; i-- > 0;) {
        if (neap_object_is_grown(cache->open[i]->object)) {
            close_object(cache, i);
            closed = true;
        } else {
            total += neap_object_weight(cache->open[i]->object);
        }
    }
    while (total > NEAP_CACHE_WEIGHT_MAX && cache->count > 1) {
        uint32_t at = least_recent(cache);

        total -= neap_object_weight(cache->open[at]->object);
        close_object(cache, at);
        closed = true;
    }
    if (closed)
        malloc_trim(1u << 20);
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The descriptor to read `module` by, opened anew where it was not kept. */
static int open_file(const struct neap_symbol_module *module)
{
    neap_auto_close int fd = -1;
    struct stat now;

    if (module->fd >= 0)
        return fcntl(module->fd, F_DUPFD_CLOEXEC, 0);
    if (module->stat.st_ino == 0)
        return -1;
    fd = neap_debug_open(module->path, &now);
    return fd >= 0 && is_same_file(&now, &module->stat) ? neap_take_fd(fd) : -1;
}

struct reading {
    struct neap_symbol_cache *cache;
    struct neap_symbol_module *module;
    uint64_t offset;
    struct neap_answers *answers;
};

static void read_names(void *argument)
{
    struct reading *reading = argument;
    struct neap_symbol_module *module = reading->module;

    if (!module->object)
        module->object = neap_object_create(&reading->cache->places, open_file(module),
                                            module->path, module->build_id,
                                            module->build_id_len, &module->unpacked);
    if (module->object)
        neap_object_name(module->object, reading->offset, reading->answers);
    else
        module->dead = true;
}

void neap_symbol_cache_answer(struct neap_symbol_cache *cache,
                              struct neap_symbol_module *module, uint64_t offset,
                              uint64_t token, struct neap_answers *answers)
{
    struct reading reading = {cache, module, offset, answers};
    bool was_open = module->object != NULL;

    neap_answers_begin(answers, token);
    if (!module->dead) {
        if (!was_open && cache->count == NEAP_CACHE_OBJECTS_MAX)
            close_object(cache, least_recent(cache));
        module->used = ++cache->clock;
        if (!neap_fault_guard(read_names, &reading)) {
            abandon(cache, module);
            neap_answers_begin(answers, token);
        } else if (module->object) {
            if (!was_open)
                cache->open[cache->count++] = module;
            trim(cache);
        }
    }
    neap_answers_end(answers);
}

void neap_symbol_cache_deinit(struct neap_symbol_cache *cache)
{
    while (cache->count > 0)
        close_object(cache, 0);
}
