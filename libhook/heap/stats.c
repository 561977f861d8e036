/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/stats.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/report.h"
#include "libhook/heap/start.h"
#include "libhook/heap/types.h"
#include "libhook/heap/walk.h"

/* ---- numbers ---- */

/* One walk, apart: live blocks that have a mapping, and all else. The walk tells a
 * segment's spans after the segment. */
struct parts {
    bool in_large;
    uint64_t large_mapped, large_count;
    uint64_t live, free_count, largest_run;
};

static void on_segment(void *context, const struct neap_heap_segment_view *segment)
{
    struct parts *parts = context;

    parts->in_large = segment->kind == NEAP_HEAP_KIND_LARGE;
}

static void on_span(void *context, const struct neap_heap_span_view *span)
{
    struct parts *parts = context;

    /* Spans of small blocks may lie there when memory is short. */
    if (parts->in_large && span->live && span->capacity == 1) {
        parts->large_mapped += span->size;
        parts->large_count++;
        return;
    }
    parts->live += span->live * span->block_size;
    parts->free_count += span->block_size ? span->capacity - span->live : 1;
    if (!span->block_size && span->size > parts->largest_run)
        parts->largest_run = span->size;
}

static void look(struct parts *parts, struct neap_heap_sum *sum)
{
    struct neap_heap_visitor visitor = {
        .context = parts, .segment = on_segment, .span = on_span};

    *parts = (struct parts){0};
    neap_heap_walk(&visitor, false, sum);
}

struct mallinfo2 neap_heap_mallinfo2(void)
{
    struct neap_heap_sum sum;
    struct parts parts;
    struct mallinfo2 info = {0};

    look(&parts, &sum);
    info.arena = sum.mapped - parts.large_mapped;
    info.ordblks = parts.free_count;
    info.hblks = parts.large_count;
    info.hblkhd = parts.large_mapped;
    info.uordblks = parts.live;
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = parts.largest_run;
    return info;
}

static int saturated(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

struct mallinfo neap_heap_mallinfo(void)
{
    struct mallinfo2 info = neap_heap_mallinfo2();

    return (struct mallinfo){
        .arena = saturated(info.arena),
        .ordblks = saturated(info.ordblks),
        .hblks = saturated(info.hblks),
        .hblkhd = saturated(info.hblkhd),
        .uordblks = saturated(info.uordblks),
        .fordblks = saturated(info.fordblks),
        .keepcost = saturated(info.keepcost),
    };
}

/* ---- malloc_stats ---- */

/* As glibc's "%-16s = %10lu". */
static void row(struct neap_text *text, const char *name, uint64_t value)
{
    char digits[24];
    struct neap_text number = {digits, digits + sizeof(digits)};

    neap_text_number(&number, value);
    neap_text_add(text, name);
    neap_text_add(text, "= ");
    for (ptrdiff_t i = number.at - digits; i < 10; i++)
        neap_text_add(text, " ");
    *(number.at < number.end ? number.at : number.end - 1) = '\0';
    neap_text_add(text, digits);
    neap_text_add(text, "\n");
}

static size_t mapped_max(void)
{
    size_t most;

    neap_lock();
    most = neap_os_mapped_max;
    neap_unlock();
    return most;
}

void neap_heap_stats(void)
{
    struct neap_heap_sum sum;
    struct parts parts;
    char buffer[1024];
    struct neap_text text = {buffer, buffer + sizeof(buffer)};

    look(&parts, &sum);
    neap_text_add(&text, "Arena 0:\n");
    row(&text, "system bytes     ", sum.mapped - parts.large_mapped);
    row(&text, "in use bytes     ", parts.live);
    neap_text_add(&text, "Total (incl. mmap):\n");
    row(&text, "system bytes     ", sum.mapped);
    row(&text, "in use bytes     ", sum.live);
    row(&text, "max system bytes ", mapped_max());
    row(&text, "mmap regions     ", parts.large_count);
    row(&text, "mmap bytes       ", parts.large_mapped);
    neap_text_say(buffer, &text);
}

/* ---- malloc_info ---- */

/* What belongs to one heap. */
struct heap_part {
    uint32_t number, most; /* heaps there are */
    uint64_t mapped, free, free_count;
    uint64_t count[NEAP_CLASSES]; /* free blocks of each size */
};

static void on_heap_span(void *context, const struct neap_heap_span_view *span)
{
    struct heap_part *part = context;
    uint32_t free = span->block_size ? span->capacity - span->live : 1;

    if (span->heap > part->most)
        part->most = span->heap;
    if (span->heap != part->number)
        return;
    part->mapped += span->size;
    part->free_count += free;
    part->free += free * (span->block_size ? span->block_size : span->size);
    if (span->block_size && span->block_size <= NEAP_SMALL_MAX)
        part->count[neap_class_of(span->block_size)] += free;
}

/* name="value" */
static void attribute(struct neap_text *text, const char *name, uint64_t value)
{
    neap_text_add(text, " ");
    neap_text_add(text, name);
    neap_text_add(text, "=\"");
    neap_text_number(text, value);
    neap_text_add(text, "\"");
}

static void total(struct neap_text *text, const char *type, uint64_t count,
                  uint64_t size)
{
    neap_text_add(text, "<total type=\"");
    neap_text_add(text, type);
    neap_text_add(text, "\"");
    attribute(text, "count", count);
    attribute(text, "size", size);
    neap_text_add(text, "/>\n");
}

static void sized(struct neap_text *text, const char *beginning, uint64_t size)
{
    neap_text_add(text, beginning);
    attribute(text, "size", size);
    neap_text_add(text, "/>\n");
}

static void system_sizes(struct neap_text *text, uint64_t now, uint64_t most)
{
    sized(text, "<system type=\"current\"", now);
    sized(text, "<system type=\"max\"", most);
    sized(text, "<aspace type=\"total\"", now);
    sized(text, "<aspace type=\"mprotect\"", now);
}

static void heap_element(struct neap_text *text, const struct heap_part *part)
{
    neap_text_add(text, "<heap");
    attribute(text, "nr", part->number);
    neap_text_add(text, ">\n<sizes>\n");
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        if (!part->count[i])
            continue;
        neap_text_add(text, "  <size");
        attribute(text, "from", i ? neap_class_size(i - 1) + 1 : 1);
        attribute(text, "to", neap_class_size(i));
        attribute(text, "total", part->count[i] * neap_class_size(i));
        attribute(text, "count", part->count[i]);
        neap_text_add(text, "/>\n");
    }
    neap_text_add(text, "</sizes>\n");
    total(text, "fast", 0, 0);
    total(text, "rest", part->free_count, part->free);
    system_sizes(text, part->mapped, part->mapped);
    neap_text_add(text, "</heap>\n");
}

/* No lock is held here: a stream may allocate its buffer now. */
static bool put(struct neap_text *text, char *buffer, FILE *stream)
{
    *(text->at < text->end ? text->at : text->end - 1) = '\0';
    text->at = buffer;
    return fputs(buffer, stream) >= 0;
}

int neap_heap_info(int options, FILE *stream)
{
    char buffer[NEAP_CLASSES * 100 + 1024];
    struct neap_text text = {buffer, buffer + sizeof(buffer)};
    struct neap_heap_sum sum;
    struct heap_part part;
    struct parts parts;
    uint32_t most = 0;

    if (options != 0)
        return EINVAL;
    neap_text_add(&text, "<malloc version=\"1\">\n");
    for (uint32_t i = 0; i <= most; i++) {
        struct neap_heap_visitor visitor = {.context = &part, .span = on_heap_span};

        part = (struct heap_part){.number = i};
        neap_heap_walk(&visitor, false, NULL);
        if (part.most > most)
            most = part.most;
        if (i != 0 && part.mapped == 0)
            continue;
        heap_element(&text, &part);
        if (!put(&text, buffer, stream))
            return errno;
    }
    look(&parts, &sum);
    total(&text, "fast", 0, 0);
    total(&text, "rest", sum.free_count, sum.free);
    total(&text, "mmap", parts.large_count, parts.large_mapped);
    system_sizes(&text, sum.mapped, mapped_max());
    neap_text_add(&text, "</malloc>\n");
    return put(&text, buffer, stream) ? 0 : errno;
}

/* ---- mallopt ---- */

/* glibc's, which it names in no header of its own. */
#define FAST_MAX   ((int)(80 * sizeof(size_t) / 4))
#define MAPPED_MAX (32 << 20)

/* The lock's. */
static size_t mapped_from = NEAP_LARGE_MIN;
static bool none_mapped;

int neap_heap_option(int parameter, int value)
{
    int taken = 1;

    neap_heap_start();
    neap_lock();
    switch (parameter) {
    case M_TRIM_THRESHOLD: /* -1: never */
        neap_pool_settings.keep_units =
            value < 0 ? INT64_MAX : value / (int64_t)NEAP_UNIT;
        break;
    case M_MMAP_THRESHOLD:
        taken = value >= 0 && value <= MAPPED_MAX;
        if (taken)
            mapped_from =
                (size_t)value > NEAP_SMALL_MAX ? (size_t)value : NEAP_SMALL_MAX + 1;
        break;
    case M_MMAP_MAX: /* any number of mappings, or none */
        none_mapped = value == 0;
        break;
    case M_MXFAST:
        taken = value >= 0 && value <= FAST_MAX;
        break;
    case M_ARENA_TEST:
    case M_ARENA_MAX:
        taken = value > 0;
        break;
    case M_TOP_PAD:
    case M_PERTURB:
    case M_CHECK_ACTION:
        break;
    default:
        taken = 0;
    }
    atomic_store_explicit(&neap_pool_settings.large_min,
                          none_mapped ? SIZE_MAX : mapped_from, memory_order_relaxed);
    neap_unlock();
    return taken;
}
