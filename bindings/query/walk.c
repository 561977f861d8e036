/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops over events: 1 to 3 ns an event beside the 5 to 10 that reading it takes.
 * They take one path where every block counts, in full, for its stack, and another one
 * for the rest.
 */
#include "bindings/query/scan.h"

#include <stdlib.h>

#include "schema/base/cleanup.h"

#define CHECK_EVERY                                                  \
    8 /* chunks between two looks at the caller's wish to stop: 1 ms \
       */

#define FLAGS 15 /* of an event, that decide what it does: kind, REALLOC, TEMPORARY */

/* ---- from chunk to chunk ---- */

static struct neap_error *read_chunk(struct neap_scan *scan,
                                     const struct neap_events_chunk *chunk,
                                     const struct neap_chunk_event **ret)
{
    const struct neap_recording *recording = scan->recording;

    if (scan->chunks++ % CHECK_EVERY == 0 && recording->check &&
        recording->check(recording->data))
        return neap_error_create(NEAP_ERROR_CANCELLED, "stopped before the answer");
    return neap_events_decode(&scan->events, chunk, ret);
}

/* The first chunk that holds events behind number `from`, or the end. */
static size_t chunk_behind(const struct neap_events_chunk *chunks, size_t count,
                           int64_t from)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (chunks[middle].first + chunks[middle].count <= from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct neap_error *neap_scan_walk(struct neap_scan *scan, int64_t from, int64_t to,
                                  neap_scan_step *step, void *data)
{
    const struct neap_events_process *process = scan->process;
    const struct neap_events_chunk *chunks =
        process->chunks ? scan->events.chunks.data + process->chunk : NULL;
    struct neap_error *error;

    for (size_t i = chunk_behind(chunks, process->chunks, from);
         i < process->chunks && chunks[i].first < to; i++) {
        const struct neap_events_chunk *chunk = &chunks[i];
        int64_t first = chunk->first < from ? from : chunk->first;
        int64_t end = chunk->first + chunk->count;
        const struct neap_chunk_event *events;

        error = read_chunk(scan, chunk, &events);
        if (error)
            return error;
        if (!step(scan, data, events + (first - chunk->first),
                  (uint32_t)((end < to ? end : to) - first), first))
            return NEAP_NO_MEMORY;
    }
    return NULL;
}

struct neap_error *neap_scan_moment(struct neap_scan *scan, int64_t ns, int64_t *ret)
{
    const struct neap_events_process *process = scan->process;
    const struct neap_events_chunk *chunk;
    const struct neap_chunk_event *events;
    struct neap_error *error;
    uint32_t low = 0, high;
    size_t i = 0;

    *ret = process->count;
    if (ns < process->start_ns)
        *ret = 0;
    if (ns < process->start_ns || process->chunks == 0)
        return NULL;
    chunk = scan->events.chunks.data + process->chunk;
    while (i < process->chunks && chunk[i].t1 <= ns)
        i++;
    if (i == process->chunks)
        return NULL;
    *ret = chunk[i].first;
    if (chunk[i].t0 > ns)
        return NULL;
    error = read_chunk(scan, &chunk[i], &events);
    if (error)
        return error;
    high = (uint32_t)chunk[i].count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (events[middle].ts_ns <= (uint64_t)ns)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = chunk[i].first + low;
    return NULL;
}

/* ---- what one event does ---- */

/* To a metric, by kind and flags: +1, -1 or nothing. */
static int effect_of(enum neap_metric metric, unsigned flags)
{
    bool temporary = flags & NEAP_CHUNK_TEMPORARY;

    switch (flags & NEAP_CHUNK_KIND) {
    case NEAP_CHUNK_ALLOC:
        return metric != NEAP_METRIC_TEMPORARY;
    case NEAP_CHUNK_FREE:
        if (metric == NEAP_METRIC_TEMPORARY)
            return temporary;
        return metric == NEAP_METRIC_ALLOCATED ? 0 : -1;
    case NEAP_CHUNK_UNDO:
        if (metric == NEAP_METRIC_TEMPORARY)
            return temporary ? -1 : 0;
        return metric != NEAP_METRIC_ALLOCATED;
    default:
        return 0;
    }
}

static void set_effects(struct neap_scan *scan, enum neap_metric metric)
{
    for (unsigned flags = 0; flags <= FLAGS; flags++)
        scan->effect[flags] = effect_of(metric, flags);
}

struct neap_weight neap_scan_share(const struct neap_scan *scan, uint64_t size,
                                   uint64_t interval, uint64_t address)
{
    enum neap_weigh_class class = neap_weigh_class(size, interval, address);
    struct neap_weight weight = neap_weigh(size, interval);

    weight.variance *= NEAP_PEAK_SPREAD;
    if (class == NEAP_WEIGH_BOTH)
        /* Weights are even, but those of blocks that are no samples: round one up. */
        return (struct neap_weight){(weight.bytes + (scan->half == 1)) / 2,
                                    weight.count / 2, weight.variance / 2};
    return class == (enum neap_weigh_class)scan->half ? weight
                                                      : (struct neap_weight){0};
}

NEAP_ALWAYS_INLINE struct neap_weight weight_of(const struct neap_scan *scan,
                                                const struct neap_chunk_event *event)
{
    return neap_scan_weigh(scan, event->size,
                           neap_interval((uint64_t)scan->events.interval, event->shift),
                           event->address);
}

NEAP_ALWAYS_INLINE uint32_t slot_of(struct neap_scan *scan,
                                    const struct neap_chunk_event *event)
{
    switch (scan->query->by) {
    case NEAP_BY_THREAD:
        return neap_scan_slot_of_thread(scan, event->owner);
    case NEAP_BY_SIZE:
        return neap_scan_slot_of_class(scan, event->size);
    default:
        return event->site < scan->sites.count ? scan->slots[event->site]
                                               : scan->unknown_slot;
    }
}

/* `effect` times what the event's block stands for. */
NEAP_ALWAYS_INLINE void add_event(struct neap_scan *scan, uint32_t slot, int effect,
                                  const struct neap_chunk_event *event)
{
    struct neap_sums *sums = &scan->groups->work.data[slot];
    struct neap_weight weight = weight_of(scan, event);
    uint64_t times = (uint64_t)(int64_t)effect * scan->sign;

    sums->bytes += times * weight.bytes;
    sums->count += times * weight.count;
    if (weight.variance > 0)
        sums->variance += (double)(int64_t)times * weight.variance;
}

/* ---- sums ---- */

static bool add_plain(struct neap_scan *scan, void *data,
                      const struct neap_chunk_event *events, uint32_t count,
                      int64_t first)
{
    (void)data, (void)first;
    for (uint32_t i = 0; i < count; i++) {
        const struct neap_chunk_event *event = &events[i];
        int effect = scan->effect[event->op & FLAGS];

        if (effect)
            add_event(scan,
                      event->site < scan->sites.count ? scan->slots[event->site]
                                                      : scan->unknown_slot,
                      effect, event);
    }
    return true;
}

static bool add_chosen(struct neap_scan *scan, void *data,
                       const struct neap_chunk_event *events, uint32_t count,
                       int64_t first)
{
    (void)data, (void)first;
    for (uint32_t i = 0; i < count; i++) {
        const struct neap_chunk_event *event = &events[i];
        int effect = scan->effect[event->op & FLAGS];
        uint32_t slot;

        if (!effect || !neap_scan_wants(scan, event->size, event->owner))
            continue;
        slot = slot_of(scan, event);
        if (slot == NEAP_GROUP_NONE)
            return false;
        add_event(scan, slot, effect, event);
    }
    return true;
}

struct neap_error *neap_scan_sum(struct neap_scan *scan, enum neap_metric metric,
                                 int64_t from, int64_t to)
{
    bool plain = scan->query->by == NEAP_BY_STACK && !scan->filtered && scan->half < 0;

    set_effects(scan, metric);
    return neap_scan_walk(scan, from, to, plain ? add_plain : add_chosen, NULL);
}

/* ---- what is allocated and stays ---- */

enum {
    LIVES = 1,
    TAKEN /* by the first half of a realloc, which may fail */
};

static bool follow(struct neap_scan *scan, void *data,
                   const struct neap_chunk_event *events, uint32_t count, int64_t first)
{
    struct neap_map *blocks = data;

    (void)first;
    for (uint32_t i = 0; i < count; i++) {
        const struct neap_chunk_event *event = &events[i];
        unsigned kind = event->op & NEAP_CHUNK_KIND;
        bool there = true;
        uint32_t slot;

        if (kind == NEAP_CHUNK_FOREIGN ||
            !neap_scan_wants(scan, event->size, event->owner))
            continue;
        if (kind == NEAP_CHUNK_ALLOC) {
            there = neap_map_put(blocks, event->address, LIVES);
        } else if (kind == NEAP_CHUNK_UNDO) {
            if (neap_map_get(blocks, event->address) != TAKEN)
                continue;
            there = neap_map_put(blocks, event->address, LIVES);
        } else {
            if (neap_map_remove(blocks, event->address) != LIVES)
                continue;
            if (event->op & NEAP_CHUNK_REALLOC)
                there = neap_map_put(blocks, event->address, TAKEN);
        }
        slot = there ? slot_of(scan, event) : NEAP_GROUP_NONE;
        if (slot == NEAP_GROUP_NONE)
            return false;
        add_event(scan, slot, kind == NEAP_CHUNK_FREE ? -1 : 1, event);
    }
    return true;
}

struct neap_error *neap_scan_survivors(struct neap_scan *scan, int64_t from, int64_t to)
{
    neap_auto(neap_map_deinit) struct neap_map blocks = {0};

    return neap_scan_walk(scan, from, to, follow, &blocks);
}

/* ---- the highest point ---- */

struct height {
    int64_t now, most; /* over the start */
    int64_t at;
};

static bool climb(struct neap_scan *scan, void *data,
                  const struct neap_chunk_event *events, uint32_t count, int64_t first)
{
    struct height *height = data;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t effect = (uint64_t)(int64_t)scan->effect[events[i].op & FLAGS];

        height->now = (int64_t)((uint64_t)height->now + effect * events[i].size);
        if (height->now > height->most) {
            height->most = height->now;
            height->at = first + i + 1;
        }
    }
    return true;
}

/*
 * Of samples: the two moments of daemon/ingest/estimate.h, in the same words. Moment m
 * is when half m, doubled, and what is in both are highest, and while they stay so,
 * when the other half is.
 */
struct moments {
    uint64_t live[NEAP_WEIGH_CLASSES]; /* over the start, modulo 2^64 */
    struct {
        int64_t highest, best, at;
        bool high, lasts;
    } moment[2];
};

static void begin_moments(struct moments *moments)
{
    for (unsigned m = 0; m < 2; m++) {
        uint64_t both = moments->live[NEAP_WEIGH_BOTH];
        int64_t height = (int64_t)(2 * moments->live[m] + both);
        int64_t share = (int64_t)(2 * moments->live[1 - m] + both);

        if (height > moments->moment[m].highest) {
            moments->moment[m].highest = height;
            moments->moment[m].high = true;
        } else if (!moments->moment[m].high || share <= moments->moment[m].best) {
            continue;
        }
        moments->moment[m].best = share;
        moments->moment[m].lasts = true;
    }
}

static void end_moments(struct moments *moments, enum neap_weigh_class class,
                        int64_t events)
{
    for (unsigned m = 0; m < 2; m++) {
        if (moments->moment[m].lasts)
            moments->moment[m].at = events;
        moments->moment[m].lasts = false;
        moments->moment[m].high &= class == 1 - m;
    }
}

static bool climb_samples(struct neap_scan *scan, void *data,
                          const struct neap_chunk_event *events, uint32_t count,
                          int64_t first)
{
    struct moments *moments = data;

    for (uint32_t i = 0; i < count; i++) {
        const struct neap_chunk_event *event = &events[i];
        uint64_t interval =
            neap_interval((uint64_t)scan->events.interval, event->shift);
        enum neap_weigh_class class =
            neap_weigh_class(event->size, interval, event->address);
        uint64_t weight = neap_weigh(event->size, interval).bytes;

        if (scan->effect[event->op & FLAGS] > 0) {
            moments->live[class] += weight;
            begin_moments(moments);
        } else if (scan->effect[event->op & FLAGS] < 0) {
            end_moments(moments, class, first + i);
            moments->live[class] -= weight;
        }
    }
    return true;
}

struct neap_error *neap_scan_highest(struct neap_scan *scan, int64_t from, int64_t to,
                                     int64_t ret[2])
{
    struct moments moments = {
        .moment = {{.high = true, .lasts = true}, {.high = true, .lasts = true}}};
    struct height height = {.at = from};
    struct neap_error *error;

    set_effects(scan, NEAP_METRIC_LIVE);
    if (scan->events.interval == 0) {
        error = neap_scan_walk(scan, from, to, climb, &height);
        ret[0] = ret[1] = height.at;
        return error;
    }
    error = neap_scan_walk(scan, from, to, climb_samples, &moments);
    /* Each half dates the peak of the other. */
    for (unsigned m = 0; m < 2; m++)
        ret[1 - m] = moments.moment[m].lasts ? to : moments.moment[m].at;
    return error;
}
