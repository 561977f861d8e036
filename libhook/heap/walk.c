/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments and their spans, one after the other, with the lock held. Of a span that
 * a thread is using at the time its bits are read once, and the sums are made of that
 * one look, so that they add up whatever the thread does.
 */
#include "libhook/heap/walk.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/notes.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"
#include "libhook/heap/start.h"

#define PAGE ((uintptr_t)NEAP_HEAP_PAGE)

struct walk {
    const struct neap_heap_visitor *visitor;
    bool resident;
    struct neap_heap_sum sum;
};

/* ---- resident pages ---- */

/* What the kernel said of the pages from `from` on; with the lock held. */
#define WINDOW 16384u
static struct {
    uintptr_t from, to;
    unsigned char page[WINDOW];
} window;

/* `end`: of what may be asked for beside it, in whole pages. */
static bool is_resident(uintptr_t page, uintptr_t end)
{
    if (page < window.from || page >= window.to) {
        int saved = errno;
        size_t size = end - page < WINDOW * PAGE ? end - page : WINDOW * PAGE;

        window.from = page;
        window.to = page + size;
        if (syscall(SYS_mincore, page, size, window.page) != 0)
            window.to = page;
        errno = saved;
        if (window.to == page)
            return false;
    }
    return window.page[(page - window.from) / PAGE] & 1;
}

static uint64_t resident_bytes(uintptr_t from, uintptr_t to, uintptr_t end)
{
    uint64_t bytes = 0;

    for (uintptr_t page = from & ~(PAGE - 1); page < to; page += PAGE) {
        uintptr_t low = page < from ? from : page;
        uintptr_t high = page + PAGE > to ? to : page + PAGE;

        if (is_resident(page, end))
            bytes += high - low;
    }
    return bytes;
}

static uintptr_t page_up(uintptr_t address)
{
    return (address + PAGE - 1) & ~(PAGE - 1);
}

/* ---- spans ---- */

/* Pages of the largest span of blocks. */
#define PAGES_MAX 64u
_Static_assert(16 * NEAP_UNIT / NEAP_HEAP_PAGE == PAGES_MAX, "one word has them");

/* Bits of the pages from `from` on that have a byte of [low, high). */
static uint64_t pages_of(uintptr_t from, uintptr_t low, uintptr_t high)
{
    uintptr_t first = (low - from) / PAGE, last = (high - 1 - from) / PAGE;
    uint64_t up_to_last = last >= 63 ? ~0ull : (1ull << (last + 1)) - 1;

    return up_to_last & ~((1ull << first) - 1);
}

/* In use, as far as the program knows. */
static bool is_live(const struct neap_notes *notes, uint32_t index, uint64_t bits,
                    size_t served, uint64_t *size)
{
    uint64_t word;

    if (!(bits >> index % 64 & 1))
        return false;
    *size = served;
    if (!notes)
        return true;
    word = atomic_load_explicit(&notes->note[index].word, memory_order_relaxed);
    *size = neap_note_size(word);
    return neap_note_state(word) == NEAP_NOTE_LIVE;
}

static uint64_t bits_of(struct neap_span *span, unsigned word)
{
    /* What another thread has freed is in remote[] until the owner looks. */
    uint64_t live = atomic_load_explicit(&span->live[word], memory_order_relaxed);

    if (span->state == NEAP_SPAN_LARGE)
        return live;
    return live &
           ~atomic_load_explicit(neap_span_remote(span, word), memory_order_relaxed);
}

/* Visits the blocks; returns how many are live. Pages with a byte of a live block, and
 * of a free one, are put into the words where the span is one of small blocks. */
static uint32_t walk_blocks(struct walk *walk, struct neap_span *span, size_t served,
                            uint64_t *live_pages, uint64_t *free_pages)
{
    const struct neap_heap_visitor *visitor = walk->visitor;
    const struct neap_notes *notes = neap_notes_of(span);
    uintptr_t base = neap_span_cold(span)->base;
    uint64_t bits = 0;
    uint32_t count = 0;

    for (uint32_t i = 0; i < span->capacity; i++) {
        uintptr_t block = span->start + i * served;
        uint64_t size;
        bool live;

        if (i % 64 == 0)
            bits = bits_of(span, i / 64);
        live = is_live(notes, i, bits, served, &size);
        if (live) {
            count++;
            walk->sum.requested += size;
        }
        if (span->state == NEAP_SPAN_SMALL)
            *(live ? live_pages : free_pages) |= pages_of(base, block, block + served);
        if (visitor && visitor->block)
            visitor->block(visitor->context, block, served, live);
    }
    return count;
}

static uint32_t number_of(const struct neap_span *span)
{
    uintptr_t owner = span->state == NEAP_SPAN_SMALL
                          ? atomic_load_explicit(&span->owner, memory_order_acquire) &
                                ~NEAP_OWNER_SLOWLY
                          : 0;

    return owner ? ((struct neap_local *)owner)->number : 0;
}

/* Pages that the kernel has, and those of them that nobody uses. */
static void walk_pages(struct walk *walk, const struct neap_span_cold *cold,
                       bool all_free, uint64_t free_pages)
{
    const struct neap_segment *segment = cold->segment;
    uintptr_t segment_end = segment->base + segment->units * NEAP_UNIT;

    for (size_t i = 0; i < cold->units * NEAP_UNIT / PAGE; i++) {
        if (!is_resident(cold->base + i * PAGE, segment_end))
            continue;
        walk->sum.resident += PAGE;
        if (all_free || (i < PAGES_MAX && free_pages >> i & 1))
            walk->sum.free_resident += PAGE;
    }
}

static void walk_span(struct walk *walk, struct neap_span *span)
{
    const struct neap_heap_visitor *visitor = walk->visitor;
    const struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_heap_span_view view = {
        .address = cold->base,
        .size = cold->units * NEAP_UNIT,
        .first = span->start,
        .heap = number_of(span),
    };
    uint64_t live_pages = 0, free_pages = 0;
    bool all_free = span->state == NEAP_SPAN_RUN;
    struct neap_heap_sum *sum = &walk->sum;

    if (span->state == NEAP_SPAN_RUN) {
        sum->free += view.size;
        sum->free_count++;
    } else {
        view.block_size = span->state == NEAP_SPAN_LARGE ? cold->bytes : span->size;
        view.capacity = span->capacity;
        view.live = walk_blocks(walk, span, view.block_size, &live_pages, &free_pages);
        sum->live += view.live * view.block_size;
        sum->live_count += view.live;
        sum->free += (view.capacity - view.live) * view.block_size;
        sum->free_count += view.capacity - view.live;
        sum->slack += view.size - view.capacity * view.block_size;
        all_free = span->state == NEAP_SPAN_LARGE && view.live == 0;
    }
    if (walk->resident)
        walk_pages(walk, cold, all_free, free_pages & ~live_pages);
    if (visitor && visitor->span)
        visitor->span(visitor->context, &view);
}

/* ---- segments ---- */

static void walk_segment(struct walk *walk, const struct neap_segment *segment)
{
    const struct neap_heap_visitor *visitor = walk->visitor;
    uintptr_t end = segment->base + segment->units * NEAP_UNIT;
    struct neap_heap_segment_view view = {
        .kind = segment->brk                       ? NEAP_HEAP_KIND_BRK
                : segment->pool == NEAP_POOL_LARGE ? NEAP_HEAP_KIND_LARGE
                                                   : NEAP_HEAP_KIND_MMAP,
        .address = segment->start,
        .size = end - segment->start,
    };

    walk->sum.mapped += view.size;
    walk->sum.slack += segment->base - segment->start;
    window.from = window.to = 0;
    if (walk->resident)
        walk->sum.resident +=
            resident_bytes(segment->start, segment->base, page_up(segment->base));
    window.from = window.to = 0;
    if (visitor && visitor->segment)
        visitor->segment(visitor->context, &view);
    for (uint32_t unit = 0; unit < segment->units;) {
        struct neap_span *span =
            neap_map_find(segment->base + (uintptr_t)unit * NEAP_UNIT);

        walk_span(walk, span);
        unit += neap_span_cold(span)->units;
    }
}

static void walk_chunk(struct walk *walk, const struct neap_meta_chunk *chunk)
{
    const struct neap_heap_visitor *visitor = walk->visitor;
    struct neap_heap_segment_view view = {
        .kind = NEAP_HEAP_KIND_META,
        .address = (uintptr_t)chunk,
        .size = chunk->size,
    };

    walk->sum.mapped += view.size;
    walk->sum.meta += view.size;
    window.from = window.to = 0;
    if (walk->resident)
        walk->sum.resident += resident_bytes(view.address, view.address + view.size,
                                             page_up(view.address + view.size));
    if (visitor && visitor->segment)
        visitor->segment(visitor->context, &view);
}

void neap_heap_walk(const struct neap_heap_visitor *visitor, bool resident,
                    struct neap_heap_sum *ret)
{
    struct walk walk = {.visitor = visitor, .resident = resident};

    neap_heap_start();
    neap_lock();
    for (const struct neap_segment *segment = neap_segments; segment;
         segment = segment->next)
        walk_segment(&walk, segment);
    for (const struct neap_meta_chunk *chunk = neap_meta_chunks; chunk;
         chunk = chunk->next)
        walk_chunk(&walk, chunk);
    neap_unlock();
    if (ret)
        *ret = walk.sum;
}
