/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/event_model.h"

#include <stdlib.h>
#include <string.h>

#include "schema/base/weigh.h"
#include "tests/unit/feed.h"

#define EVENTS_MAX 500000u

struct event_model *event_model_create(void)
{
    struct event_model *model = calloc(1, sizeof(*model));

    if (!model)
        abort();
    model->room = EVENTS_MAX;
    model->events = calloc(model->room, sizeof(*model->events));
    if (!model->events)
        abort();
    event_model_reset(model);
    return model;
}

void event_model_destroy(struct event_model *model)
{
    free(model->events);
    free(model);
}

void event_model_reset(struct event_model *model)
{
    *model = (struct event_model){.events = model->events,
                                  .room = model->room,
                                  .state = 88172645463325252u,
                                  .now = 2000};
}

static uint64_t draw(struct event_model *model, uint64_t below)
{
    model->state ^= model->state << 13;
    model->state ^= model->state >> 7;
    model->state ^= model->state << 17;
    return (model->state >> 20) % below;
}

static uint32_t tid_of(uint32_t thread)
{
    return 100 + thread;
}

static uint64_t address_of(uint64_t at)
{
    return 0x7f0000000000 + 32 * at;
}

static uint64_t place_of(uint64_t address)
{
    return (address - address_of(0)) / 32;
}

int64_t event_delta(const struct neap_chunk_event *event, uint64_t interval)
{
    uint64_t bytes =
        neap_weigh(event->size, neap_interval(interval, event->shift)).bytes;

    switch (event->op & NEAP_CHUNK_KIND) {
    case NEAP_CHUNK_ALLOC:
    case NEAP_CHUNK_UNDO:
        return (int64_t)bytes;
    case NEAP_CHUNK_FREE:
        return -(int64_t)bytes;
    default:
        return 0;
    }
}

void event_sum(struct event_sums *sums, const struct neap_chunk_event *event)
{
    unsigned kind = event->op & NEAP_CHUNK_KIND;
    uint64_t by = kind == NEAP_CHUNK_UNDO ? UINT64_MAX : 1; /* -1: it takes back */

    if (kind == NEAP_CHUNK_FOREIGN)
        return;
    if (kind == NEAP_CHUNK_ALLOC) {
        sums->alloc_count++;
        sums->alloc_bytes += event->size;
        return;
    }
    sums->free_count += by;
    sums->free_bytes += by * event->size;
    if (event->op & NEAP_CHUNK_TEMPORARY) {
        sums->temporary_count += by;
        sums->temporary_bytes += by * event->size;
    }
}

static void expect(struct event_model *model, uint32_t thread, uint64_t address,
                   const struct event_block *block, unsigned op)
{
    struct neap_chunk_event event = {.ts_ns = model->now,
                                     .address = address,
                                     .site = NEAP_CHUNK_NONE,
                                     .tid = tid_of(thread),
                                     .op = (uint8_t)op};

    if (block) {
        event.size = block->size;
        event.site = block->hash;
        event.owner = block->owner;
        event_sum(&model->sums[block->hash], &event);
    }
    if (model->count == model->room)
        abort();
    model->events[model->count++] = event;
    model->live_bytes += (uint64_t)event_delta(&event, 0);
    if (model->live_bytes > model->peak_bytes) {
        model->peak_bytes = model->live_bytes;
        model->peak_event = model->count;
    }
}

void event_model_start(struct event_model *model, struct neap_ingest_process *process)
{
    model->process = process;
    feed_module(process, 0, 0, 0x100000, 0x200000, "/bin/app");
    feed_time(process, 0, model->now);
    for (uint32_t i = 0; i < EVENT_MODEL_THREADS; i++)
        feed_thread(process, i, tid_of(i), "thread");
    for (uint64_t hash = 0; hash < EVENT_MODEL_HASHES; hash++) {
        uint64_t pcs[] = {0x100011 + 16 * hash, 0};

        feed_stack(process, 0, hash, 0, 0, pcs);
    }
}

static void allocate(struct event_model *model, uint32_t thread, bool is_realloc)
{
    uint64_t address = address_of(draw(model, EVENT_MODEL_ADDRESSES));
    struct event_block *block = &model->blocks[place_of(address)];
    uint64_t size = draw(model, 4) ? 24 : draw(model, 5000);
    uint32_t hash = (uint32_t)draw(model, EVENT_MODEL_HASHES);

    feed_alloc(model->process, thread,
               is_realloc ? NEAP_EV_REALLOC_ALLOC : NEAP_EV_ALLOC, address, size, hash);
    if (block->live)
        expect(model, thread, address, block, NEAP_CHUNK_FREE | NEAP_CHUNK_IMPLIED);
    *block = (struct event_block){
        .live = true, .size = size, .hash = hash, .owner = tid_of(thread)};
    expect(model, thread, address, block,
           NEAP_CHUNK_ALLOC | (is_realloc ? NEAP_CHUNK_REALLOC : 0));
    model->last[thread] = address;
    if (is_realloc)
        model->pending[thread].open = false;
}

/* An address to free: often the latest, seldom one where nothing is. */
static uint64_t some_address(struct event_model *model, uint32_t thread)
{
    uint64_t at = draw(model, EVENT_MODEL_ADDRESSES);

    if (draw(model, 4) == 0 && model->last[thread])
        return model->last[thread];
    for (int i = 0; i < 20 && !model->blocks[at].live; i++)
        at = draw(model, EVENT_MODEL_ADDRESSES);
    return address_of(at);
}

/* False: foreign. */
static bool release(struct event_model *model, uint32_t thread, uint64_t address,
                    unsigned flags, bool *ret_temporary)
{
    struct event_block *block = &model->blocks[place_of(address)];

    if (!block->live) {
        expect(model, thread, address, NULL, flags | NEAP_CHUNK_FOREIGN);
        model->foreign++;
        return false;
    }
    *ret_temporary = model->last[thread] == address && block->owner == tid_of(thread);
    expect(model, thread, address, block,
           flags | NEAP_CHUNK_FREE | (*ret_temporary ? NEAP_CHUNK_TEMPORARY : 0));
    block->live = false;
    return true;
}

static void undo(struct event_model *model, uint32_t thread)
{
    struct event_pending *pending = &model->pending[thread];
    struct event_block *block;

    if (!pending->open)
        return;
    pending->open = false;
    block = &model->blocks[place_of(pending->address)];
    if (pending->foreign) {
        model->foreign--;
        return;
    }
    if (block->live)
        return;
    *block = pending->block;
    expect(model, thread, pending->address, block,
           NEAP_CHUNK_UNDO | NEAP_CHUNK_REALLOC |
               (pending->temporary ? NEAP_CHUNK_TEMPORARY : 0));
}

static void realloc_begin(struct event_model *model, uint32_t thread)
{
    struct event_pending *pending = &model->pending[thread];
    uint64_t address = some_address(model, thread);

    feed_free(model->process, thread, NEAP_EV_REALLOC_FREE, address);
    undo(model, thread);
    *pending = (struct event_pending){
        .open = true, .address = address, .block = model->blocks[place_of(address)]};
    pending->foreign =
        !release(model, thread, address, NEAP_CHUNK_REALLOC, &pending->temporary);
}

static void one_step(struct event_model *model)
{
    uint32_t thread = (uint32_t)draw(model, EVENT_MODEL_THREADS);
    uint64_t address;
    bool temporary;

    if (draw(model, 50) == 0) {
        model->now += draw(model, 4000);
        feed_time(model->process, thread, model->now);
    }
    switch (draw(model, 9)) {
    case 0:
    case 1:
    case 2:
    case 3:
        allocate(model, thread, false);
        break;
    case 4:
        realloc_begin(model, thread);
        break;
    case 5:
        allocate(model, thread, true);
        break;
    case 6:
        if (model->pending[thread].open) {
            feed_free(model->process, thread, NEAP_EV_REALLOC_FAIL,
                      model->pending[thread].address);
            undo(model, thread);
            break;
        } /* fall through */
    default:
        address = some_address(model, thread);
        feed_free(model->process, thread, NEAP_EV_FREE, address);
        (void)release(model, thread, address, 0, &temporary);
        break;
    }
}

void event_model_steps(struct event_model *model, int steps)
{
    while (steps-- > 0)
        one_step(model);
}

void event_model_end(struct event_model *model)
{
    for (uint32_t i = 0; i < EVENT_MODEL_THREADS; i++)
        undo(model, i);
    feed_end(model->process, NEAP_EXIT_EXITED, 0);
}
