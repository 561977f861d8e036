/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_stack.frames is a JSON array of whole numbers, innermost frame first. It is
 * read by hand: a recording may come from anywhere, so anything else in there is
 * damage and said to be. A stack that has no row has no frames and is truncated.
 */
#include "bindings/query/frames.h"

#include <stdlib.h>
#include <string.h>

#include "schema/base/cleanup.h"

#define FIRST_SLOTS 256

struct neap_error *neap_frames_init(struct neap_frames *frames,
                                    struct neap_recording *recording,
                                    struct neap_arena *arena)
{
    struct neap_error *error;

    *frames = (struct neap_frames){.recording = recording, .arena = arena};
    error = neap_recording_prepare(
        recording, "SELECT frames, truncated FROM raw_stack WHERE id = ?",
        &frames->stack);
    if (error)
        return error;
    return neap_recording_prepare(
        recording,
        "SELECT f.function, f.file, f.line, m.path, f.offset, f.kind, f.inlined"
        " FROM raw_frame f LEFT JOIN raw_module m ON m.id = f.module WHERE f.id = ?",
        &frames->frame);
}

void neap_frames_deinit(struct neap_frames *frames)
{
    sqlite3_finalize(frames->stack);
    sqlite3_finalize(frames->frame);
    free(frames->slots);
    *frames = (struct neap_frames){0};
}

/* The slot of `id`, or the free one where it belongs. */
static struct neap_frames_slot *find(struct neap_frames_slot *slots, size_t size,
                                     int64_t id)
{
    size_t at = (size_t)(((uint64_t)id * 0x9e3779b97f4a7c15ull) >> 20);

    for (;; at++) {
        struct neap_frames_slot *slot = &slots[at & (size - 1)];

        if (!slot->frame || slot->id == id)
            return slot;
    }
}

static struct neap_error *grow(struct neap_frames *frames)
{
    size_t size = frames->size ? frames->size * 2 : FIRST_SLOTS;
    struct neap_frames_slot *slots = calloc(size, sizeof(*slots));

    if (!slots)
        return NEAP_NO_MEMORY;
    for (size_t i = 0; i < frames->size; i++) {
        if (frames->slots[i].frame)
            *find(slots, size, frames->slots[i].id) = frames->slots[i];
    }
    free(frames->slots);
    frames->slots = slots;
    frames->size = size;
    return NULL;
}

/* Copy a column of text; NULL stays NULL. */
static struct neap_error *copy(struct neap_frames *frames, int column, const char **ret)
{
    const void *text = sqlite3_column_text(frames->frame, column);

    if (!text)
        return NULL;
    *ret = neap_arena_copy(frames->arena, text,
                           (size_t)sqlite3_column_bytes(frames->frame, column));
    return *ret ? NULL : NEAP_NO_MEMORY;
}

static struct neap_error *read_frame(struct neap_frames *frames, int64_t id,
                                     const struct neap_frame **ret)
{
    sqlite3_stmt *stmt = frames->frame;
    struct neap_frame *frame;
    struct neap_error *error;
    const char *kind;
    int status;

    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, id);
    status = sqlite3_step(stmt);
    if (status == SQLITE_DONE)
        return neap_recording_damaged(frames->recording,
                                      "a stack names a frame that is missing");
    if (status != SQLITE_ROW)
        return neap_recording_error(frames->recording);
    frame = neap_arena_alloc(frames->arena, 1, sizeof(*frame));
    if (!frame)
        return NEAP_NO_MEMORY;
    if ((error = copy(frames, 0, &frame->function)) ||
        (error = copy(frames, 1, &frame->file)) ||
        (error = copy(frames, 3, &frame->module)))
        return error;
    frame->line = sqlite3_column_int64(stmt, 2);
    frame->offset = sqlite3_column_int64(stmt, 4);
    kind = (const char *)sqlite3_column_text(stmt, 5);
    frame->python = kind && strcmp(kind, "python") == 0;
    frame->inlined = sqlite3_column_int64(stmt, 6) != 0;
    *ret = frame;
    return NULL;
}

static struct neap_error *lookup(struct neap_frames *frames, int64_t id,
                                 const struct neap_frame **ret)
{
    struct neap_frames_slot *slot;
    struct neap_error *error;

    if (frames->used * 2 >= frames->size) {
        error = grow(frames);
        if (error)
            return error;
    }
    slot = find(frames->slots, frames->size, id);
    if (!slot->frame) {
        error = read_frame(frames, id, &slot->frame);
        if (error)
            return error;
        slot->id = id;
        frames->used++;
    }
    *ret = slot->frame;
    return NULL;
}

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static struct neap_error *no_list(struct neap_frames *frames)
{
    return neap_recording_damaged(frames->recording, "a stack is no list of frames");
}

/* The frames named in `json`, an array of at most `room` of them. */
static struct neap_error *read_ids(struct neap_frames *frames, const char *json,
                                   uint32_t room, const struct neap_frame **ret,
                                   uint32_t *count)
{
    const char *at = skip_space(json);
    bool more = *at == '[';

    if (!more)
        return no_list(frames);
    at = skip_space(at + 1);
    if (*at == ']')
        more = false;
    while (more) {
        char *end;
        long long id = strtoll(at, &end, 10);
        struct neap_error *error;

        if (end == at || *count == room)
            return no_list(frames);
        error = lookup(frames, id, &ret[*count]);
        if (error)
            return error;
        ++*count;
        at = skip_space(end);
        more = *at == ',';
        if (more)
            at = skip_space(at + 1);
    }
    return *at == ']' && !*skip_space(at + 1) ? NULL : no_list(frames);
}

struct neap_error *neap_frames_load(struct neap_frames *frames, struct neap_row *row)
{
    const struct neap_frame **found;
    struct neap_error *error;
    uint32_t room = 1;
    const char *json;
    int status;

    sqlite3_reset(frames->stack);
    sqlite3_bind_int64(frames->stack, 1, row->stack_id);
    status = sqlite3_step(frames->stack);
    if (status == SQLITE_DONE) {
        row->truncated = true;
        return NULL;
    }
    if (status != SQLITE_ROW)
        return neap_recording_error(frames->recording);
    row->truncated = sqlite3_column_int64(frames->stack, 1) != 0;
    json = (const char *)sqlite3_column_text(frames->stack, 0);
    if (!json)
        json = "";
    for (const char *at = json; (at = strchr(at, ',')); at++)
        room++;
    found = neap_arena_alloc(frames->arena, room, sizeof(const struct neap_frame *));
    if (!found)
        return NEAP_NO_MEMORY;
    error = read_ids(frames, json, room, found, &row->depth);
    row->frames = found;
    return error;
}

struct neap_error *neap_frames_of(struct neap_frames *frames, int64_t stack_id,
                                  struct neap_trace *ret)
{
    struct neap_row row = {.stack_id = stack_id};
    struct neap_error *error = neap_frames_load(frames, &row);

    if (error)
        return error;
    *ret = (struct neap_trace){.known = true,
                               .truncated = row.truncated,
                               .stack_id = stack_id,
                               .depth = row.depth,
                               .frames = row.frames};
    return NULL;
}

struct neap_error *neap_frames_trace(struct neap_frames *frames, sqlite3_stmt *stmt,
                                     int column, struct neap_trace *ret)
{
    if (sqlite3_column_type(stmt, column) == SQLITE_NULL)
        return NULL;
    return neap_frames_of(frames, sqlite3_column_int64(stmt, column), ret);
}
