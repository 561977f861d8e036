/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading chunks: 5 to 10 ns an event, zstd's part included.
 *
 * A BLOB may hold anything. Each column is read by a cursor that cannot leave it and is
 * `bad` from the first byte too many on; indices are checked before they are used; what
 * the columns hold beyond what the events asked for is damage too.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "schema/store/chunk.h"
#include "schema/store/chunk_model.h"

struct column {
    const uint8_t *at, *end;
    bool bad;
};

struct neap_chunk_reader {
    ZSTD_DCtx *zstd;
    struct neap_chunk_model model;
    struct column column[NEAP_COLUMNS];
    uint32_t sites[NEAP_CHUNK_EVENTS];
    uint32_t tids[2 * NEAP_CHUNK_EVENTS]; /* an event names two at most */
    uint32_t tid_count, site_count, met;
    uint32_t allocs;
    uint32_t alloc_row[NEAP_CHUNK_EVENTS];
    uint64_t outside;
    unsigned align;
    struct neap_chunk_event events[NEAP_CHUNK_EVENTS];
    uint8_t raw[NEAP_CHUNK_BYTES];
};

struct neap_error *neap_chunk_reader_create(struct neap_chunk_reader **ret)
{
    struct neap_chunk_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return NEAP_NO_MEMORY;
    reader->zstd = ZSTD_createDCtx();
    if (!reader->zstd) {
        free(reader);
        return NEAP_NO_MEMORY;
    }
    *ret = reader;
    return NULL;
}

void neap_chunk_reader_destroy(struct neap_chunk_reader *reader)
{
    if (!reader)
        return;
    ZSTD_freeDCtx(reader->zstd);
    free(reader);
}

static struct neap_error *damaged(const char *what)
{
    return neap_error_create(NEAP_ERROR_DAMAGED, "%s", what);
}

NEAP_ALWAYS_INLINE uint64_t get(struct column *column)
{
    uint64_t value = 0;

    for (unsigned shift = 0; NEAP_LIKELY(column->at < column->end); shift += 7) {
        uint8_t byte = *column->at++;

        if (NEAP_LIKELY(shift < 64))
            value |= (uint64_t)(byte & 127) << shift;
        if (NEAP_LIKELY(byte < 128))
            return value;
    }
    column->bad = true;
    return 0;
}

#define GET(name) get(&reader->column[name])

static struct neap_error *unpack(struct neap_chunk_reader *reader, const uint8_t *data,
                                 size_t length)
{
    size_t got, at = 4u * NEAP_COLUMNS;

    if (length < 1)
        return damaged("it is empty");
    if (data[0] != NEAP_CHUNK_VERSION)
        return neap_error_create(NEAP_ERROR_NEWER, "it has format %u, this reads %u",
                                 data[0], NEAP_CHUNK_VERSION);
    got = ZSTD_decompressDCtx(reader->zstd, reader->raw, sizeof(reader->raw), data + 1,
                              length - 1);
    if (ZSTD_isError(got))
        return damaged(ZSTD_getErrorName(got));
    if (got < at)
        return damaged("its columns are missing");
    for (unsigned i = 0; i < NEAP_COLUMNS; i++) {
        uint32_t bytes;

        memcpy(&bytes, reader->raw + 4u * i, 4);
        if (bytes > got - at)
            return damaged("a column ends too early");
        reader->column[i] =
            (struct column){reader->raw + at, reader->raw + at + bytes, false};
        at += bytes;
    }
    return at == got ? NULL : damaged("there is more in it than columns");
}

static struct neap_error *read_head(struct neap_chunk_reader *reader, uint32_t count)
{
    uint64_t sites, threads, site = 0;

    if (GET(NEAP_COLUMN_HEAD) != count)
        return damaged("it holds another number of events than it should");
    sites = GET(NEAP_COLUMN_HEAD);
    reader->align = (unsigned)GET(NEAP_COLUMN_HEAD);
    threads = GET(NEAP_COLUMN_TID);
    if (sites > count || threads > 2u * count || reader->align > 4)
        return damaged("its head makes no sense");
    for (uint32_t i = 0; i < sites; i++) {
        site += (uint64_t)neap_unzigzag(GET(NEAP_COLUMN_SITE));
        reader->sites[i] = (uint32_t)site;
    }
    for (uint32_t i = 0; i < threads; i++)
        reader->tids[i] = (uint32_t)GET(NEAP_COLUMN_TID);
    reader->site_count = (uint32_t)sites;
    reader->tid_count = (uint32_t)threads;
    return NULL;
}

/* The runs of TIME, TID and SHIFT. `*ret_thread` gets each event's thread number. */
static bool read_runs(struct neap_chunk_reader *reader, uint32_t count)
{
    struct neap_chunk_event *events = reader->events;
    uint64_t ts_ns = 0;

    for (uint64_t i = 0, run; i < count;) {
        run = GET(NEAP_COLUMN_TIME);
        /* Times never fall, which readers rely on. */
        if (__builtin_add_overflow(ts_ns, GET(NEAP_COLUMN_TIME), &ts_ns) || run == 0 ||
            run > count - i)
            return false;
        for (; run; run--)
            events[i++].ts_ns = ts_ns;
    }
    for (uint64_t i = 0, run, thread; i < count;) {
        run = GET(NEAP_COLUMN_TID);
        thread = GET(NEAP_COLUMN_TID);
        if (run == 0 || run > count - i || thread >= reader->tid_count)
            return false;
        for (; run; run--)
            events[i++].tid = (uint32_t)thread; /* its number, for now */
    }
    for (uint64_t i = 0, run, shift; i < count;) {
        run = GET(NEAP_COLUMN_SHIFT);
        shift = GET(NEAP_COLUMN_SHIFT);
        if (run == 0 || run > count - i || shift > 63)
            return false;
        for (; run; run--)
            events[i++].shift = (uint8_t)shift;
    }
    return true;
}

/* Site and size, by guess or in full. */
NEAP_ALWAYS_INLINE bool get_block(struct neap_chunk_reader *reader, unsigned bits,
                                  struct neap_chunk_event *event)
{
    struct neap_chunk_model *model = &reader->model;
    uint32_t index;

    if (bits & NEAP_OP_SITE) {
        index = neap_model_site(model) - 1; /* wraps if there is no guess */
    } else {
        index = (uint32_t)GET(NEAP_COLUMN_WHERE);
        if (index == reader->met && index < reader->site_count) {
            neap_model_meet(model, index);
            reader->met++;
        }
    }
    if (NEAP_UNLIKELY(index >= reader->met))
        return false;
    neap_model_went(model, index);
    if (!(bits & NEAP_OP_SIZE))
        model->last_size[index] = GET(NEAP_COLUMN_SIZE);
    event->size = model->last_size[index];
    event->site = reader->sites[index];
    return true;
}

NEAP_ALWAYS_INLINE bool get_alloc(struct neap_chunk_reader *reader, unsigned bits,
                                  uint32_t row, struct neap_chunk_event *event)
{
    struct neap_chunk_model *model = &reader->model;
    uint32_t list;

    if (!get_block(reader, bits, event))
        return false;
    list = neap_model_list(event->size, event->tid);
    if (bits & NEAP_OP_ADDRESS) {
        event->address = neap_model_reuse(model, list);
        neap_model_reused(model, list);
    } else {
        event->address =
            model->address +
            ((uint64_t)neap_unzigzag(GET(NEAP_COLUMN_ADDRESS)) << reader->align);
        model->address = event->address + neap_model_step(event->size);
    }
    event->owner = reader->tids[event->tid];
    reader->alloc_row[reader->allocs++] = row;
    return true;
}

/* Of a block of this chunk, or of one that is described in full. */
NEAP_ALWAYS_INLINE bool get_free(struct neap_chunk_reader *reader, unsigned bits,
                                 struct neap_chunk_event *event)
{
    uint64_t back, owner = 0;

    if (bits & NEAP_OP_ADDRESS) {
        const struct neap_chunk_event *alloc;

        back = GET(NEAP_COLUMN_REF);
        if (back == 0 || back > reader->allocs)
            return false;
        alloc = &reader->events[reader->alloc_row[reader->allocs - back]];
        event->address = alloc->address;
        event->size = alloc->size;
        event->site = alloc->site;
        event->owner = alloc->owner;
        return true;
    }
    if (!get_block(reader, bits, event))
        return false;
    event->address =
        reader->outside +
        ((uint64_t)neap_unzigzag(GET(NEAP_COLUMN_OUTSIDE)) << reader->align);
    reader->outside = event->address;
    if (reader->tid_count > 1)
        owner = GET(NEAP_COLUMN_OUTSIDE);
    if (owner >= reader->tid_count)
        return false;
    event->owner = reader->tids[owner];
    return true;
}

static bool read_rows(struct neap_chunk_reader *reader, uint32_t count)
{
    struct neap_chunk_model *model = &reader->model;
    const uint8_t *op = reader->column[NEAP_COLUMN_OP].at;

    if ((size_t)(reader->column[NEAP_COLUMN_OP].end - op) != count)
        return false;
    reader->column[NEAP_COLUMN_OP].at += count;
    for (uint32_t i = 0; i < count; i++) {
        struct neap_chunk_event *event = &reader->events[i];
        unsigned bits = op[i];

        event->op = (uint8_t)(bits & (NEAP_OP_SIZE - 1));
        switch (bits & NEAP_CHUNK_KIND) {
        case NEAP_CHUNK_ALLOC:
            if (!get_alloc(reader, bits, i, event))
                return false;
            break;
        case NEAP_CHUNK_FOREIGN:
            event->address =
                model->address +
                ((uint64_t)neap_unzigzag(GET(NEAP_COLUMN_ADDRESS)) << reader->align);
            event->size = 0;
            event->site = NEAP_CHUNK_NONE;
            event->owner = 0;
            break;
        case NEAP_CHUNK_FREE:
            if (!get_free(reader, bits, event))
                return false;
            neap_model_freed(model, neap_model_list(event->size, event->tid),
                             event->address);
            break;
        default:
            if (!get_free(reader, bits, event))
                return false;
            break;
        }
        event->tid = reader->tids[event->tid];
    }
    return true;
}

struct neap_error *neap_chunk_decode(struct neap_chunk_reader *reader, const void *data,
                                     size_t length, uint32_t count,
                                     const struct neap_chunk_event **ret)
{
    struct neap_error *error;

    if (count > NEAP_CHUNK_EVENTS)
        return damaged("it claims more events than a chunk holds");
    error = unpack(reader, data, length);
    if (!error)
        error = read_head(reader, count);
    if (error)
        return error;
    reader->met = reader->allocs = 0;
    reader->outside = 0;
    neap_model_reset(&reader->model);
    if (!read_runs(reader, count) || !read_rows(reader, count))
        return damaged("an event in it makes no sense");
    for (unsigned i = 0; i < NEAP_COLUMNS; i++) {
        if (reader->column[i].bad || reader->column[i].at != reader->column[i].end)
            return damaged("a column does not fit its events");
    }
    *ret = reader->events;
    return NULL;
}
