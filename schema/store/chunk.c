/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing chunks: rows as they come, columns when a chunk is stored.
 *
 * A row is 32 bytes and takes 2 ns; the columns of a full chunk take 10 to 25 ns an
 * event, zstd's part in it a third (tests/bench/chunk.c).
 */
#include "schema/store/chunk.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "schema/store/chunk_model.h"

#define ROWS_MIN   256u
#define ZSTD_LEVEL 1

struct neap_chunk_time {
    uint64_t ts_ns;
    uint32_t first; /* row */
};

struct neap_chunk_encoder {
    ZSTD_CCtx *zstd;
    struct neap_chunk_model model;
    uint32_t index_of[2 * NEAP_CHUNK_EVENTS]; /* site -> index + 1, open addressing */
    uint32_t sites[NEAP_CHUNK_EVENTS];        /* by index */
    uint32_t site_count;
    uint32_t allocs;                     /* so far */
    uint32_t ordinal[NEAP_CHUNK_EVENTS]; /* of the ALLOC in a row, among those */
    uint64_t outside; /* address of the last free of a block of another chunk */
    uint8_t *column[NEAP_COLUMNS]; /* where each begins in `raw` */
    uint8_t *at[NEAP_COLUMNS];
    uint8_t raw[NEAP_CHUNK_BYTES];
    uint8_t *blob;
    size_t blob_room;
};

/* ---- rows ---- */

void neap_chunk_deinit(struct neap_chunk *chunk)
{
    free(chunk->rows);
    free(chunk->times);
    free(chunk->tids);
    *chunk = (struct neap_chunk){0};
}

void neap_chunk_span(const struct neap_chunk *chunk, uint64_t *ret_first_ns,
                     uint64_t *ret_last_ns)
{
    *ret_first_ns = chunk->times[0].ts_ns;
    *ret_last_ns = chunk->times[chunk->time_count - 1].ts_ns;
}

void neap_chunk_clear(struct neap_chunk *chunk)
{
    chunk->count = 0;
    chunk->time_count = 0;
    chunk->tid_count = 0;
}

/* Room for one more of `*room` elements of `size` bytes, `max` of them at the most. */
static bool reserve(void **data, uint32_t count, uint32_t *room, uint32_t min,
                    size_t size)
{
    uint32_t wanted = *room ? *room * 2 : min;
    void *moved;

    if (NEAP_LIKELY(count < *room))
        return true;
    moved = realloc(*data, wanted * size);
    if (!moved)
        return false;
    *data = moved;
    *room = wanted;
    return true;
}

/* The number of a thread: there are few, and the last one found is mostly the next. */
static bool number_of(struct neap_chunk *chunk, uint32_t tid, uint16_t *ret)
{
    void *tids = chunk->tids;

    for (uint32_t i = chunk->tid_count; i-- > 0;) {
        if (chunk->tids[i] == tid) {
            *ret = (uint16_t)i;
            return true;
        }
    }
    if (!reserve(&tids, chunk->tid_count, &chunk->tid_room, 8, sizeof(*chunk->tids)))
        return false;
    chunk->tids = tids;
    *ret = (uint16_t)chunk->tid_count;
    chunk->tids[chunk->tid_count++] = tid;
    return true;
}

static bool note_time(struct neap_chunk *chunk, uint64_t ts_ns)
{
    void *times = chunk->times;

    if (NEAP_LIKELY(chunk->time_count) &&
        chunk->times[chunk->time_count - 1].ts_ns >= ts_ns)
        return true;
    if (!reserve(&times, chunk->time_count, &chunk->time_room, 8,
                 sizeof(*chunk->times)))
        return false;
    chunk->times = times;
    chunk->times[chunk->time_count++] = (struct neap_chunk_time){ts_ns, chunk->count};
    return true;
}

static NEAP_NOINLINE bool prepare(struct neap_chunk *chunk)
{
    void *rows = chunk->rows;

    if (!reserve(&rows, chunk->count, &chunk->room, ROWS_MIN, sizeof(*chunk->rows)))
        return false;
    chunk->rows = rows;
    return true;
}

bool neap_chunk_append(struct neap_chunk *chunk, const struct neap_chunk_event *event,
                       uint16_t *ref)
{
    unsigned kind = event->op & NEAP_CHUNK_KIND;
    struct neap_chunk_row *row;
    uint16_t thread, owner;

    if (NEAP_UNLIKELY(chunk->count == chunk->room) && !prepare(chunk))
        return false;
    row = &chunk->rows[chunk->count];
    thread = owner = 0;
    if (NEAP_UNLIKELY(!chunk->tid_count || chunk->tids[0] != event->tid) &&
        !number_of(chunk, event->tid, &thread))
        return false;
    if (!note_time(chunk, event->ts_ns))
        return false;
    *row = (struct neap_chunk_row){.address = event->address,
                                   .size = event->size,
                                   .site = event->site,
                                   .thread = thread,
                                   .ref = NEAP_CHUNK_OUTSIDE,
                                   .op = event->op,
                                   .shift = event->shift};
    if (kind == NEAP_CHUNK_ALLOC) {
        row->owner = thread;
        *ref = (uint16_t)chunk->count;
    } else if (kind != NEAP_CHUNK_FOREIGN) {
        const struct neap_chunk_row *alloc = &chunk->rows[*ref];

        /*
         * The block lives at its address, so if the row that `*ref` leads to allocated
         * that address, it allocated this block: a later one at the same address
         * would have left its own row there.
         */
        if (*ref < chunk->count && (alloc->op & NEAP_CHUNK_KIND) == NEAP_CHUNK_ALLOC &&
            alloc->address == event->address && alloc->size == event->size &&
            alloc->site == event->site && alloc->shift == event->shift &&
            chunk->tids[alloc->thread] == event->owner) {
            row->ref = *ref;
            owner = alloc->thread;
        } else if (chunk->tids[0] != event->owner &&
                   !number_of(chunk, event->owner, &owner)) {
            return false;
        }
        row->owner = owner;
    }
    chunk->last_ns = event->ts_ns;
    chunk->last_tid = event->tid;
    chunk->last_thread = thread;
    chunk->count++;
    return true;
}

/* ---- columns ---- */

struct neap_error *neap_chunk_encoder_create(struct neap_chunk_encoder **ret)
{
    struct neap_chunk_encoder *encoder = calloc(1, sizeof(*encoder));

    if (!encoder)
        return NEAP_NO_MEMORY;
    encoder->zstd = ZSTD_createCCtx();
    if (encoder->zstd) {
        ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
        /* 4 bytes and 0.1 ns an event, so that no flipped bit goes unnoticed. */
        ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_checksumFlag, 1);
    }
    encoder->blob_room = ZSTD_compressBound(NEAP_CHUNK_BYTES) + 1;
    encoder->blob = malloc(encoder->blob_room);
    if (!encoder->zstd || !encoder->blob) {
        neap_chunk_encoder_destroy(encoder);
        return NEAP_NO_MEMORY;
    }
    for (unsigned i = 0; i < NEAP_COLUMNS; i++)
        encoder->column[i] = encoder->raw + 4u * NEAP_COLUMNS + i * NEAP_COLUMN_BYTES;
    *ret = encoder;
    return NULL;
}

void neap_chunk_encoder_destroy(struct neap_chunk_encoder *encoder)
{
    if (!encoder)
        return;
    ZSTD_freeCCtx(encoder->zstd);
    free(encoder->blob);
    free(encoder);
}

NEAP_ALWAYS_INLINE uint8_t *put(uint8_t *at, uint64_t value)
{
    while (NEAP_UNLIKELY(value > 127)) {
        *at++ = (uint8_t)(value | 128);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

#define PUT(column, value) (encoder->at[column] = put(encoder->at[column], value))

/* The index of a site, its own row in SITE if it is new. */
NEAP_ALWAYS_INLINE uint32_t site_index(struct neap_chunk_encoder *encoder,
                                       uint32_t site)
{
    uint32_t slot = site * 0x9e3779b1u >> 17; /* 15 bits: 2 * NEAP_CHUNK_EVENTS */
    uint32_t index;

    _Static_assert(NEAP_CHUNK_EVENTS == 1u << 14, "slot is that of 2^15 slots");
    while (encoder->index_of[slot]) {
        if (encoder->sites[encoder->index_of[slot] - 1] == site)
            return encoder->index_of[slot] - 1;
        slot = (slot + 1) % (2 * NEAP_CHUNK_EVENTS);
    }
    index = encoder->site_count++;
    PUT(NEAP_COLUMN_SITE,
        neap_zigzag((int64_t)site - (index ? encoder->sites[index - 1] : 0)));
    encoder->sites[index] = site;
    encoder->index_of[slot] = index + 1;
    neap_model_meet(&encoder->model, index);
    return index;
}

/* Site and size of a row, by guess or in full. Returns the bits of OP. */
NEAP_ALWAYS_INLINE unsigned put_block(struct neap_chunk_encoder *encoder,
                                      const struct neap_chunk_row *row)
{
    struct neap_chunk_model *model = &encoder->model;
    uint32_t guess = neap_model_site(model);
    unsigned bits = 0;
    uint32_t index;

    if (guess && encoder->sites[guess - 1] == row->site) {
        index = guess - 1;
        bits |= NEAP_OP_SITE;
    } else {
        index = site_index(encoder, row->site);
        PUT(NEAP_COLUMN_WHERE, index);
    }
    neap_model_went(model, index);
    if (model->last_size[index] == row->size) {
        bits |= NEAP_OP_SIZE;
    } else {
        PUT(NEAP_COLUMN_SIZE, row->size);
        model->last_size[index] = row->size;
    }
    return bits;
}

NEAP_ALWAYS_INLINE unsigned put_alloc(struct neap_chunk_encoder *encoder,
                                      const struct neap_chunk_row *row, unsigned align)
{
    struct neap_chunk_model *model = &encoder->model;
    uint32_t list = neap_model_list(row->size, row->thread);
    unsigned bits = put_block(encoder, row);

    if (neap_model_reuse(model, list) == row->address) {
        neap_model_reused(model, list);
        return bits | NEAP_OP_ADDRESS;
    }
    PUT(NEAP_COLUMN_ADDRESS,
        neap_zigzag((int64_t)(row->address - model->address) >> align));
    model->address = row->address + neap_model_step(row->size);
    return bits;
}

/* What all addresses of the chunk are multiples of, at most 16. */
static unsigned alignment(const struct neap_chunk *chunk)
{
    uint64_t bits = 16;

    for (uint32_t i = 0; i < chunk->count; i++)
        bits |= chunk->rows[i].address;
    return (unsigned)__builtin_ctzll(bits);
}

NEAP_ALWAYS_INLINE unsigned put_free(struct neap_chunk_encoder *encoder,
                                     const struct neap_chunk *chunk,
                                     const struct neap_chunk_row *row, unsigned align)
{
    unsigned bits;

    if (row->ref != NEAP_CHUNK_OUTSIDE) {
        PUT(NEAP_COLUMN_REF, encoder->allocs - encoder->ordinal[row->ref]);
        return NEAP_OP_ADDRESS;
    }
    bits = put_block(encoder, row);
    PUT(NEAP_COLUMN_OUTSIDE,
        neap_zigzag((int64_t)(row->address - encoder->outside) >> align));
    if (chunk->tid_count > 1)
        PUT(NEAP_COLUMN_OUTSIDE, row->owner);
    encoder->outside = row->address;
    return bits;
}

static void put_rows(struct neap_chunk_encoder *encoder, const struct neap_chunk *chunk,
                     unsigned align)
{
    struct neap_chunk_model *model = &encoder->model;

    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct neap_chunk_row *row = &chunk->rows[i];
        unsigned bits = row->op;

        switch (row->op & NEAP_CHUNK_KIND) {
        case NEAP_CHUNK_ALLOC:
            bits |= put_alloc(encoder, row, align);
            encoder->ordinal[i] = encoder->allocs++;
            break;
        case NEAP_CHUNK_FOREIGN:
            PUT(NEAP_COLUMN_ADDRESS,
                neap_zigzag((int64_t)(row->address - model->address) >> align));
            break;
        case NEAP_CHUNK_FREE:
            bits |= put_free(encoder, chunk, row, align);
            neap_model_freed(model, neap_model_list(row->size, row->thread),
                             row->address);
            break;
        default:
            bits |= put_free(encoder, chunk, row, align);
            break;
        }
        *encoder->at[NEAP_COLUMN_OP]++ = (uint8_t)bits;
    }
}

/* Runs of equal threads and shifts, and of equal times. */
static void put_runs(struct neap_chunk_encoder *encoder, const struct neap_chunk *chunk)
{
    const struct neap_chunk_row *rows = chunk->rows;
    uint64_t before = 0;

    for (uint32_t i = 0; i < chunk->time_count; i++) {
        const struct neap_chunk_time *run = &chunk->times[i];
        uint32_t end = i + 1 < chunk->time_count ? run[1].first : chunk->count;

        PUT(NEAP_COLUMN_TIME, end - run->first);
        PUT(NEAP_COLUMN_TIME, run->ts_ns - before);
        before = run->ts_ns;
    }
    PUT(NEAP_COLUMN_TID, chunk->tid_count);
    for (uint32_t i = 0; i < chunk->tid_count; i++)
        PUT(NEAP_COLUMN_TID, chunk->tids[i]);
    for (uint32_t i = 0, from = 0; i < chunk->count; from = i) {
        while (i < chunk->count && rows[i].thread == rows[from].thread)
            i++;
        PUT(NEAP_COLUMN_TID, i - from);
        PUT(NEAP_COLUMN_TID, rows[from].thread);
    }
    for (uint32_t i = 0, from = 0; i < chunk->count; from = i) {
        while (i < chunk->count && rows[i].shift == rows[from].shift)
            i++;
        PUT(NEAP_COLUMN_SHIFT, i - from);
        PUT(NEAP_COLUMN_SHIFT, rows[from].shift);
    }
}

/*
 * One frame, but a block a column: each has its own statistics, and is still matched
 * against what came before.
 */
static struct neap_error *compress(struct neap_chunk_encoder *encoder, size_t *ret)
{
    ZSTD_outBuffer out = {encoder->blob, encoder->blob_room, 1};
    uint8_t lengths[NEAP_COLUMNS * 4];
    size_t left = 0;

    for (unsigned i = 0; i < NEAP_COLUMNS; i++) {
        uint32_t length = (uint32_t)(encoder->at[i] - encoder->column[i]);

        memcpy(lengths + 4u * i, &length, 4);
    }
    ZSTD_CCtx_reset(encoder->zstd, ZSTD_reset_session_only);
    for (unsigned i = 0; i <= NEAP_COLUMNS; i++) {
        ZSTD_inBuffer in = {lengths, sizeof(lengths), 0};

        if (i > 0)
            in = (ZSTD_inBuffer){encoder->column[i - 1],
                                 (size_t)(encoder->at[i - 1] - encoder->column[i - 1]),
                                 0};
        if (in.size > 0 || i == NEAP_COLUMNS)
            left = ZSTD_compressStream2(encoder->zstd, &out, &in,
                                        i == NEAP_COLUMNS ? ZSTD_e_end : ZSTD_e_flush);
        if (ZSTD_isError(left) || left > 0)
            return NEAP_NO_MEMORY; /* the room is enough for anything */
    }
    encoder->blob[0] = NEAP_CHUNK_VERSION;
    *ret = out.pos;
    return NULL;
}

struct neap_error *neap_chunk_encode(struct neap_chunk_encoder *encoder,
                                     const struct neap_chunk *chunk, const void **ret,
                                     size_t *ret_length)
{
    unsigned align = alignment(chunk);
    struct neap_error *error;

    memcpy(encoder->at, encoder->column, sizeof(encoder->at));
    memset(encoder->index_of, 0, sizeof(encoder->index_of));
    encoder->site_count = encoder->allocs = 0;
    encoder->outside = 0;
    neap_model_reset(&encoder->model);
    put_rows(encoder, chunk, align);
    put_runs(encoder, chunk);
    PUT(NEAP_COLUMN_HEAD, chunk->count);
    PUT(NEAP_COLUMN_HEAD, encoder->site_count);
    PUT(NEAP_COLUMN_HEAD, align);
    error = compress(encoder, ret_length);
    if (!error)
        *ret = encoder->blob;
    return error;
}
