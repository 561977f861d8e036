/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth and shrinkage of address spaces, by stack.
 *
 * What a call gives back is only known with what was there: each process's changes are
 * played again in their order, on the ranges that are mapped then (areas.h). Memory
 * that was not seen to be mapped, by the loader, by an allocator on its own, or by a
 * parent before a fork, is `unseen` when it goes.
 *
 * All is counted in whole pages, but for the break. mprotect is not recorded: what was
 * reserved and made accessible by it stays reserved here.
 */
#include <stdlib.h>
#include <string.h>

#include "bindings/query/areas.h"
#include "bindings/query/frames.h"
#include "bindings/query/window.h"
#include "schema/base/cleanup.h"
#include "schema/base/map.h"
#include "schema/base/vec.h"

#define PAGE          4096u
#define ADDRESS_LIMIT ((uint64_t)1 << 57) /* nothing is mapped beyond */
#define NO_ROW        UINT32_MAX          /* of another source than was asked for */

/* The kernel's words, the same on all architectures that we know. */
enum {
    KERNEL_MAP_ANONYMOUS = 0x20,
    KERNEL_MREMAP_DONTUNMAP = 4,
    KERNEL_MADV_DONTNEED = 4,
    KERNEL_MADV_FREE = 8,
};

/* The public part first, so that the one is the other. */
struct report {
    struct neap_map_report report;
    struct neap_arena arena;
    NEAP_VEC(struct neap_map_row) rows;
};

/* A piece of memory that is about to be put elsewhere. */
struct piece {
    uint64_t start, end;
    uint32_t row;
    uint8_t kind;
};

struct making {
    const struct neap_map_query *query;
    struct report *report;
    struct neap_map row_of_stack;
    struct neap_arena arena; /* of the areas */
    struct neap_areas areas;
    NEAP_VEC(struct piece) moved;
    uint32_t row;               /* of the change under way */
    uint64_t returned;          /* by it, of memory that was seen */
    bool failed;                /* no memory */
    struct neap_map_sums other; /* of rows that were not asked for */
};

/* One row of raw_map. */
struct change {
    const char *op;
    uint64_t address, size, old_address, old_size;
    int64_t prot, flags;
};

void neap_map_report_destroy(struct neap_map_report *report)
{
    struct report *whole = (struct report *)report;

    if (!whole)
        return;
    neap_arena_deinit(&whole->arena);
    neap_vec_deinit(&whole->rows);
    free(whole);
}

static void report_guard(struct report **report)
{
    neap_map_report_destroy((struct neap_map_report *)*report);
}

static void making_guard(struct making *making)
{
    neap_map_deinit(&making->row_of_stack);
    neap_arena_deinit(&making->arena);
    neap_vec_deinit(&making->moved);
}

/* ---- sums ---- */

static void add(int64_t *sum, uint64_t bytes)
{
    /* Only a forged recording gets here. */
    if (__builtin_add_overflow(*sum, bytes, sum))
        *sum = INT64_MAX;
}

static struct neap_map_sums *sums_of(struct making *making, uint32_t row)
{
    return row == NO_ROW ? &making->other : &making->report->rows.data[row].sums;
}

/* The row of a stack, made if it is new; 0 stands for none. */
static struct neap_error *find_row(struct making *making, int64_t stack, uint32_t *ret)
{
    struct report *report = making->report;
    uint64_t known = neap_map_get(&making->row_of_stack, (uint64_t)stack);
    struct neap_map_row row = {.trace = {.known = stack != 0, .stack_id = stack}};

    if (known == NEAP_MAP_NONE) {
        known = report->rows.count;
        if (known >= NO_ROW || !neap_vec_push(&report->rows, row) ||
            !neap_map_put(&making->row_of_stack, (uint64_t)stack, known))
            return NEAP_NO_MEMORY;
    }
    *ret = (uint32_t)known;
    return NULL;
}

/* ---- changes ---- */

/* A piece of what the change under way gives back. */
static void see_returned(void *context, const struct neap_area *area)
{
    struct making *making = context;

    add(&sums_of(making, making->row)->bytes[area->kind].returned,
        area->end - area->start);
    making->returned += area->end - area->start;
}

static bool cut(struct making *making, uint64_t start, uint64_t end)
{
    making->returned = 0;
    return neap_areas_cut(&making->areas, start, end, see_returned, making);
}

/* [start, end) is given back; what of it nobody has seen to be mapped is told apart. */
static bool give_back(struct making *making, uint64_t start, uint64_t end)
{
    struct neap_map_sums *sums = sums_of(making, making->row);

    if (!cut(making, start, end))
        return false;
    sums->return_count++;
    add(&sums->unseen, end - start - making->returned);
    return true;
}

static bool grow(struct making *making, uint64_t start, uint64_t end, unsigned kind)
{
    add(&sums_of(making, making->row)->bytes[kind].grown, end - start);
    return neap_areas_put(&making->areas, start, end, kind, making->row);
}

static void see_moved(void *context, const struct neap_area *area)
{
    struct making *making = context;
    struct piece piece = {area->start, area->end, area->row, area->kind};

    if (!neap_vec_push(&making->moved, piece))
        making->failed = true;
}

/* What was seen of [old, old + size) is at `to` from now on, still its mapper's. */
static bool move(struct making *making, uint64_t old, uint64_t size, uint64_t to)
{
    making->moved.count = 0;
    if (!neap_areas_cut(&making->areas, old, old + size, see_moved, making) ||
        making->failed || !cut(making, to, to + size))
        return false;
    for (size_t i = 0; i < making->moved.count; i++) {
        const struct piece *piece = &making->moved.data[i];

        if (!neap_areas_put(&making->areas, piece->start - old + to,
                            piece->end - old + to, piece->kind, piece->row))
            return false;
    }
    return true;
}

static bool play_mremap(struct making *making, const struct change *change)
{
    const struct neap_area *area = neap_areas_find(&making->areas, change->old_address);
    unsigned kind = area ? area->kind : NEAP_MAPPED_ANONYMOUS;
    uint64_t old = change->old_address, to = change->address;
    uint64_t had = change->old_size, has = change->size;
    struct neap_map_sums *sums = sums_of(making, making->row);

    /* A second view of the same memory, or its move to a place beside the old one. */
    if (had == 0 || change->flags & KERNEL_MREMAP_DONTUNMAP) {
        sums->grow_count++;
        return cut(making, to, to + has) && grow(making, to, to + has, kind);
    }
    if (has < had && !give_back(making, old + has, old + had))
        return false;
    if (to != old && !move(making, old, has < had ? has : had, to))
        return false;
    if (has <= had)
        return true;
    sums->grow_count++;
    return cut(making, to + had, to + has) && grow(making, to + had, to + has, kind);
}

static bool play_mmap(struct making *making, const struct change *change)
{
    unsigned kind = !(change->flags & KERNEL_MAP_ANONYMOUS) ? NEAP_MAPPED_FILE
                    : change->prot == 0                     ? NEAP_MAPPED_RESERVED
                                                            : NEAP_MAPPED_ANONYMOUS;
    uint64_t end = change->address + change->size;

    sums_of(making, making->row)->grow_count++;
    /* MAP_FIXED takes the place of what is there. */
    return cut(making, change->address, end) &&
           grow(making, change->address, end, kind);
}

static bool play_break(struct making *making, const struct change *change)
{
    if (change->old_size)
        return give_back(making, change->address, change->address + change->old_size);
    if (change->size == 0)
        return true;
    sums_of(making, making->row)->grow_count++;
    return cut(making, change->address - change->size, change->address) &&
           grow(making, change->address - change->size, change->address,
                NEAP_MAPPED_ANONYMOUS);
}

static uint64_t round_up(uint64_t size)
{
    return (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static bool play(struct making *making, struct change *change)
{
    struct neap_map_sums *sums = sums_of(making, making->row);

    /* The kernel maps no such thing: a program made up its records. */
    if (change->address >= ADDRESS_LIMIT || change->size >= ADDRESS_LIMIT ||
        change->old_address >= ADDRESS_LIMIT || change->old_size >= ADDRESS_LIMIT)
        return true;
    if (strcmp(change->op, "brk") == 0)
        return change->size > change->address || play_break(making, change);
    change->size = round_up(change->size);
    change->old_size = round_up(change->old_size);
    if (strcmp(change->op, "mmap") == 0)
        return play_mmap(making, change);
    if (strcmp(change->op, "munmap") == 0)
        return give_back(making, change->address, change->address + change->size);
    if (strcmp(change->op, "mremap") == 0)
        return play_mremap(making, change);
    if (strcmp(change->op, "madvise") == 0 &&
        (change->flags == KERNEL_MADV_DONTNEED || change->flags == KERNEL_MADV_FREE)) {
        sums->advise_count++;
        add(&sums->advised, change->size);
    }
    return true;
}

/* ---- rows ---- */

static void see_kept(void *context, const struct neap_area *area)
{
    struct making *making = context;

    add(&sums_of(making, area->row)->bytes[area->kind].kept, area->end - area->start);
}

/* A process is over: what it has now it has kept. */
static void end_process(struct making *making)
{
    neap_areas_each(&making->areas, see_kept, making);
    neap_areas_clear(&making->areas);
}

static struct neap_error *read_changes(struct making *making,
                                       struct neap_recording *recording)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    const char *wanted = making->query->source;
    int64_t process = 0;
    int status;
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT process, stack, op, address, size, old_address, old_size, prot, flags,"
        " source FROM raw_map WHERE ?1 OR process IN"
        " (SELECT id FROM raw_process WHERE pid = ?2) ORDER BY process, id",
        &stmt);

    if (error)
        return error;
    sqlite3_bind_int(stmt, 1, !making->query->has_pid);
    sqlite3_bind_int64(stmt, 2, making->query->pid);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *op = (const char *)sqlite3_column_text(stmt, 2);
        const char *source = (const char *)sqlite3_column_text(stmt, 9);
        struct change change = {.op = op ? op : "",
                                .address = (uint64_t)sqlite3_column_int64(stmt, 3),
                                .size = (uint64_t)sqlite3_column_int64(stmt, 4),
                                .old_address = (uint64_t)sqlite3_column_int64(stmt, 5),
                                .old_size = (uint64_t)sqlite3_column_int64(stmt, 6),
                                .prot = sqlite3_column_int64(stmt, 7),
                                .flags = sqlite3_column_int64(stmt, 8)};

        if (sqlite3_column_int64(stmt, 0) != process)
            end_process(making);
        process = sqlite3_column_int64(stmt, 0);
        making->row = NO_ROW;
        if (!wanted || (source && strcmp(source, wanted) == 0))
            error = find_row(making, sqlite3_column_int64(stmt, 1), &making->row);
        if (!error && !play(making, &change))
            error = NEAP_NO_MEMORY;
        if (error)
            return error;
    }
    end_process(making);
    return status == SQLITE_DONE ? NULL : neap_recording_error(recording);
}

/* ---- the answer ---- */

static void add_sums(struct neap_map_sums *total, const struct neap_map_sums *sums)
{
    for (int kind = 0; kind < NEAP_MAPPED_KINDS; kind++) {
        add(&total->bytes[kind].grown, (uint64_t)sums->bytes[kind].grown);
        add(&total->bytes[kind].returned, (uint64_t)sums->bytes[kind].returned);
        add(&total->bytes[kind].kept, (uint64_t)sums->bytes[kind].kept);
    }
    add(&total->unseen, (uint64_t)sums->unseen);
    add(&total->advised, (uint64_t)sums->advised);
    total->grow_count += sums->grow_count;
    total->return_count += sums->return_count;
    total->advise_count += sums->advise_count;
}

static bool is_nothing(const struct neap_map_sums *sums)
{
    return sums->grow_count + sums->return_count + sums->advise_count == 0;
}

/* What has grown the most, memory first; then what has given back the most. */
static int by_growth(const void *left, const void *right)
{
    const struct neap_map_row *a = left, *b = right;
    const struct neap_mapped_bytes *x = a->sums.bytes, *y = b->sums.bytes;

    for (int kind = 0; kind < NEAP_MAPPED_KINDS; kind++) {
        if (x[kind].grown != y[kind].grown)
            return x[kind].grown < y[kind].grown ? 1 : -1;
    }
    for (int kind = 0; kind < NEAP_MAPPED_KINDS; kind++) {
        if (x[kind].returned != y[kind].returned)
            return x[kind].returned < y[kind].returned ? 1 : -1;
    }
    return (a->trace.stack_id > b->trace.stack_id) -
           (a->trace.stack_id < b->trace.stack_id);
}

static struct neap_error *finish(struct making *making,
                                 struct neap_recording *recording)
{
    neap_auto(neap_frames_deinit) struct neap_frames frames = {0};
    struct report *report = making->report;
    int64_t limit = making->query->limit;
    struct neap_error *error = neap_frames_init(&frames, recording, &report->arena);
    size_t count = 0;

    for (size_t i = 0; i < report->rows.count; i++) {
        if (is_nothing(&report->rows.data[i].sums))
            continue; /* another advice, say */
        add_sums(&report->report.total, &report->rows.data[i].sums);
        report->rows.data[count++] = report->rows.data[i];
    }
    if (count)
        qsort(report->rows.data, count, sizeof(*report->rows.data), by_growth);
    report->report.stacks = (int64_t)count;
    if (limit >= 0 && count > (size_t)limit)
        count = (size_t)limit;
    for (size_t i = 0; i < count && !error; i++) {
        struct neap_trace *trace = &report->rows.data[i].trace;

        if (trace->known)
            error = neap_frames_of(&frames, trace->stack_id, trace);
    }
    report->report.count = (uint32_t)count;
    report->report.rows = report->rows.data;
    return error;
}

struct neap_error *neap_recording_maps(struct neap_recording *recording,
                                       const struct neap_map_query *query,
                                       struct neap_map_report **ret)
{
    neap_auto(report_guard) struct report *report = calloc(1, sizeof(*report));
    neap_auto(making_guard) struct making making = {.query = query, .report = report};
    neap_auto(neap_recording_end) struct neap_recording *snapshot = recording;
    struct neap_window_covered covered;
    struct neap_error *error;

    if (!report)
        return NEAP_NO_MEMORY;
    if (query->source && strcmp(query->source, "hook") != 0 &&
        strcmp(query->source, "heap") != 0)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "unknown source '%s': choose hook (calls of the "
                                 "program) or heap (Neaptide's own allocator)",
                                 query->source);
    neap_areas_init(&making.areas, &making.arena);
    if ((error = neap_recording_begin(snapshot)) ||
        (error = neap_window_covers(recording, query->has_pid ? &query->pid : NULL,
                                    &covered)) ||
        (error = read_changes(&making, recording)) ||
        (error = finish(&making, recording)))
        return error;
    report->report.processes = covered.processes;
    report->report.images = covered.images;
    *ret = &neap_take(report)->report;
    return NULL;
}
