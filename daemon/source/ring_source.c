/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of one process's lanes and the passes over it.
 *
 * The data memfd is sparse: NEAP_DATA_BYTES in size, with the pages of as many lanes
 * filled as are needed, because a first touch costs the target 3.4 us a page and the
 * collector no more. It is sealed against shrinking, so that neither side can take
 * memory away from under the other.
 *
 * What a target may do with its memory: write any byte at any time. So counters are
 * read once and may only grow, `lanes` is clamped, and lane.h deals with the rest.
 */
#include "daemon/source/ring_source.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include "daemon/source/lane.h"
#include "daemon/source/order.h"
#include "schema/base/cleanup.h"

#define ARENA_BYTES (4u << 20)
/* A number not seen for this long is not coming: nothing preempts for a second. */
#define PATIENCE_NS 1000000000ull
/* No counter of a target is believed beyond this, so that sums cannot overflow. */
#define COUNTER_MAX (1ull << 48)

struct neap_ring_scratch {
    struct neap_order_scratch order;
    uint8_t *arena;
    size_t arena_bytes;
};

struct neap_ring_source {
    struct neap_sink sink;
    int fd;
    struct neap_data_header *header;
    _Atomic uint64_t *tails;
    struct neap_lane_cursor *cursors; /* room for `room`, `lanes` in use */
    uint32_t lanes;
    uint32_t room;
    uint32_t filled;
    struct neap_order order;
    uint64_t lane_loss, lane_loss_bytes; /* as last reported */
    uint64_t table_loss, table_loss_bytes;
    uint64_t order_loss; /* of the gaps, as last reported */
    bool dead_lane;
};

struct neap_error *neap_ring_scratch_create(struct neap_ring_scratch **ret)
{
    neap_auto_free struct neap_ring_scratch *scratch = calloc(1, sizeof(*scratch));

    if (!scratch)
        return NEAP_NO_MEMORY;
    scratch->arena = malloc(ARENA_BYTES);
    if (!scratch->arena)
        return NEAP_NO_MEMORY;
    scratch->arena_bytes = ARENA_BYTES;
    *ret = neap_take(scratch);
    return NULL;
}

void neap_ring_scratch_destroy(struct neap_ring_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->arena);
    free(scratch);
}

static struct neap_error *create_memory(struct neap_ring_source *source, bool table)
{
    neap_auto_close int fd = memfd_create("neap-data", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *header;

    if (fd < 0)
        return neap_error_os(errno, "cannot make shared memory (memfd_create)");
    if (ftruncate(fd, (off_t)NEAP_DATA_BYTES))
        return neap_error_os(errno, "cannot size shared memory");
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return neap_error_os(errno, "cannot seal shared memory");
    /* Without a first lane a target could only fault: better not to welcome it. */
    if (fallocate(fd, 0, 0, (off_t)NEAP_LANE_OFFSET(1)))
        return neap_error_os(errno, "cannot fill shared memory");
    if (table && fallocate(fd, 0, (off_t)NEAP_TABLE_OFFSET, (off_t)NEAP_TABLE_BYTES))
        return neap_error_os(errno, "cannot fill shared memory");
    header = mmap(NULL, NEAP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED)
        return neap_error_os(errno, "cannot map shared memory");
    source->header = header;
    source->header->magic = NEAP_DATA_MAGIC;
    source->filled = 1;
    source->fd = neap_take_fd(fd);
    return NULL;
}

struct neap_error *neap_ring_source_create(_Atomic uint64_t *tails,
                                           const struct neap_sink *sink, bool table,
                                           struct neap_ring_source **ret)
{
    neap_auto_free struct neap_ring_source *source = calloc(1, sizeof(*source));
    struct neap_error *error;

    if (!source)
        return NEAP_NO_MEMORY;
    source->tails = tails;
    source->sink = *sink;
    error = create_memory(source, table);
    if (error)
        return error;
    *ret = neap_take(source);
    return NULL;
}

void neap_ring_source_destroy(struct neap_ring_source *source)
{
    if (!source)
        return;
    for (uint32_t i = 0; i < source->lanes; i++)
        munmap((void *)source->cursors[i].view.lane, NEAP_PAGE);
    munmap(source->header, NEAP_PAGE);
    close(source->fd);
    free(source->cursors);
    free(source);
}

int neap_ring_source_fd(const struct neap_ring_source *source)
{
    return source->fd;
}

uint32_t neap_ring_source_lanes(const struct neap_ring_source *source)
{
    return source->lanes;
}

uint32_t neap_ring_source_filled(const struct neap_ring_source *source)
{
    return source->filled;
}

static bool open_lane(struct neap_ring_source *source)
{
    uint32_t index = source->lanes;
    void *page;

    if (index == source->room) {
        uint32_t room = source->room ? source->room * 2 : 1;
        struct neap_lane_cursor *cursors =
            realloc(source->cursors, room * sizeof(*cursors));

        if (!cursors)
            return false;
        source->cursors = cursors;
        source->room = room;
    }
    page = mmap(NULL, NEAP_PAGE, PROT_READ, MAP_SHARED, source->fd,
                (off_t)NEAP_LANE_OFFSET(index));
    if (page == MAP_FAILED)
        return false;
    neap_lane_cursor_init(&source->cursors[index], source->fd, index, page,
                          &source->tails[index]);
    source->lanes++;
    return true;
}

/*
 * Open what has been claimed, and keep one filled lane ahead of a process that has
 * threads. Returns the lanes there are; what cannot be opened now is tried again.
 */
static uint32_t open_lanes(struct neap_ring_source *source)
{
    uint32_t lanes = atomic_load_explicit(&source->header->lanes, memory_order_acquire);
    bool multi = atomic_load_explicit(&source->header->multi, memory_order_relaxed);

    if (lanes > NEAP_LANES_MAX)
        lanes = NEAP_LANES_MAX;
    while (source->lanes < lanes && open_lane(source))
        ;
    while ((multi || lanes > 1) && source->filled <= lanes &&
           source->filled < NEAP_LANES_MAX) {
        /* Failing is no harm: the target's own touch then makes the page. */
        (void)fallocate(source->fd, 0, (off_t)NEAP_LANE_OFFSET(source->filled),
                        NEAP_LANE_STRIDE);
        source->filled++;
    }
    return source->lanes;
}

/* Lend each lane that has data a part of the arena. False: no memory at all. */
static void lend_chunks(struct neap_ring_source *source,
                        struct neap_ring_scratch *scratch, uint32_t active)
{
    size_t share = scratch->arena_bytes / active / NEAP_PAGE * NEAP_PAGE;
    size_t next = 0;

    if (share > NEAP_CHUNK_MAX)
        share = NEAP_CHUNK_MAX;
    if (share < NEAP_CHUNK_MIN) {
        size_t wanted = (size_t)NEAP_LANES_MAX * NEAP_CHUNK_MIN;
        uint8_t *arena = realloc(scratch->arena, wanted);

        if (arena) {
            scratch->arena = arena;
            scratch->arena_bytes = wanted;
        }
        share = NEAP_CHUNK_MIN;
    }
    for (uint32_t i = 0; i < source->lanes; i++) {
        struct neap_lane_cursor *cursor = &source->cursors[i];

        /* A lane that gets none is read in a later pass. */
        if (cursor->limit == cursor->position || next + share > scratch->arena_bytes)
            continue;
        neap_lane_cursor_lend(cursor, scratch->arena + next, (uint32_t)share);
        next += share;
    }
}

/* Numbers in what was thrown away unread are not worth a wait. */
static uint64_t choose_patience(const struct neap_ring_source *source,
                                enum neap_drain mode)
{
    return mode == NEAP_DRAIN_FINAL || source->dead_lane ? 0 : PATIENCE_NS;
}

enum neap_activity neap_ring_source_drain(struct neap_ring_source *source,
                                          struct neap_ring_scratch *scratch,
                                          uint64_t now_ns, enum neap_drain mode)
{
    /* Before any head is read: see order.h. */
    uint64_t cut = mode == NEAP_DRAIN_FINAL ? UINT64_MAX : neap_stamp();
    uint32_t lanes = open_lanes(source);
    uint32_t active = 0;
    uint32_t most = 0;

    for (uint32_t i = 0; i < lanes; i++) {
        uint32_t waiting = neap_lane_cursor_begin(&source->cursors[i]);

        active += waiting > 0;
        most = waiting > most ? waiting : most;
    }
    if (active == 0)
        return NEAP_ACTIVITY_NONE;
    lend_chunks(source, scratch, active);
    /*
     * Looked at again after the snapshots: an event of another lane that comes before
     * one of ours has claimed that lane before.
     */
    if (lanes == 1 &&
        atomic_load_explicit(&source->header->lanes, memory_order_acquire) <= 1) {
        neap_order_single(&source->order, &source->cursors[0], 0, &source->sink);
    } else {
        struct neap_order_limits limits = {
            .cut = cut,
            .now_ns = now_ns,
            .patience_ns = choose_patience(source, mode),
        };

        if (!atomic_load_explicit(&source->header->multi, memory_order_acquire))
            limits.cut = UINT64_MAX;
        neap_order_merge(&source->order, &scratch->order, source->cursors, lanes,
                         &limits, &source->sink);
    }
    for (uint32_t i = 0; i < lanes; i++) {
        neap_lane_cursor_end(&source->cursors[i]);
        source->dead_lane |= source->cursors[i].dead;
    }
    return most > NEAP_LANE_BYTES / 4 ? NEAP_ACTIVITY_BUSY : NEAP_ACTIVITY_SOME;
}

bool neap_ring_source_waiting(const struct neap_ring_source *source)
{
    if (atomic_load_explicit(&source->header->lanes, memory_order_acquire) >
        source->lanes)
        return true;
    for (uint32_t i = 0; i < source->lanes; i++) {
        const struct neap_lane_view *view = &source->cursors[i].view;

        if (atomic_load_explicit(&view->lane->head, memory_order_acquire) != view->tail)
            return true;
    }
    return false;
}

static bool read_all(int fd, void *to, size_t length, uint64_t offset)
{
    for (size_t done = 0; done < length;) {
        ssize_t got =
            pread(fd, (uint8_t *)to + done, length - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

bool neap_ring_source_table(const struct neap_ring_source *source,
                            void (*found)(void *context, uint64_t address,
                                          const struct neap_table_slot *slot),
                            void *context)
{
    const uint64_t slots = NEAP_TABLE_OFFSET + offsetof(struct neap_table, slot);
    uint64_t keys[512];

    for (uint32_t i = 0; i < NEAP_TABLE_SLOTS; i++) {
        uint64_t *key = &keys[i % NEAP_ARRAY_LEN(keys)];
        struct neap_table_slot slot;

        if (key == keys &&
            !read_all(source->fd, keys, sizeof(keys),
                      NEAP_TABLE_OFFSET + offsetof(struct neap_table, key) + 8ull * i))
            return false;
        if (*key <= NEAP_TABLE_CLAIMED)
            continue;
        if (!read_all(source->fd, &slot, sizeof(slot), slots + i * sizeof(slot)))
            return false;
        found(context, *key, &slot);
    }
    return true;
}

/* What a counter grew by since `*last`; it never shrinks, whatever it says. */
static uint64_t grown(const _Atomic uint64_t *counter, uint64_t *last)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    uint64_t by;

    if (now > COUNTER_MAX)
        now = COUNTER_MAX;
    if (now <= *last)
        return 0;
    by = now - *last;
    *last = now;
    return by;
}

static void report(const struct neap_ring_source *source, const char *what,
                   uint64_t count, uint64_t bytes)
{
    if (count)
        source->sink.loss(source->sink.context, what, count, bytes);
}

static void report_lane(struct neap_ring_source *source,
                        struct neap_lane_cursor *cursor)
{
    const struct neap_lane *lane = cursor->view.lane;
    uint64_t events = grown(&lane->lost_events, &cursor->lost_events);
    uint64_t bytes = grown(&lane->lost_bytes, &cursor->lost_bytes);

    report(source, "events", events, bytes);
    report(source, "stacks", grown(&lane->lost_stacks, &cursor->lost_stacks), 0);
    if (cursor->dropped_bytes)
        /* How many records there were is not to be known: one at the least. */
        report(source, "corrupt", 1, cursor->dropped_bytes);
    cursor->dropped_bytes = 0;
}

static uint64_t believable(const _Atomic uint64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

    return value < COUNTER_MAX ? value : COUNTER_MAX;
}

void neap_ring_source_counters(struct neap_ring_source *source,
                               struct neap_ring_counters *ret)
{
    struct neap_data_header *header = source->header;
    uint64_t events = grown(&header->lane_loss, &source->lane_loss);
    uint64_t bytes = grown(&header->lane_loss_bytes, &source->lane_loss_bytes);

    report(source, "lanes", events, bytes);
    events = grown(&header->table_loss, &source->table_loss);
    bytes = grown(&header->table_loss_bytes, &source->table_loss_bytes);
    report(source, "samples", events, bytes);
    for (uint32_t i = 0; i < source->lanes; i++)
        report_lane(source, &source->cursors[i]);
    /* The hook takes a number only once it has room, so a gap is a loss of its own. */
    if (source->order.gaps > source->order_loss) {
        report(source, "order", source->order.gaps - source->order_loss, 0);
        source->order_loss = source->order.gaps;
    }
    ret->stacks_truncated = believable(&header->stacks_truncated);
    ret->verified = believable(&header->verified);
    ret->verify_differences = believable(&header->verify_differences);
    ret->fallbacks = believable(&header->fallbacks);
    ret->waits = believable(&header->waits);
}
