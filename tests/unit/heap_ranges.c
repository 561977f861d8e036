/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/heap_ranges.h"

struct heap_range heap_ranges[HEAP_RANGES];
unsigned heap_range_count;
unsigned heap_ranges_wrong;

static void remove_range(uint64_t start, uint64_t end)
{
    uint64_t left = end - start;

    for (unsigned i = 0; i < heap_range_count; i++) {
        struct heap_range *range = &heap_ranges[i], old = *range;

        if (old.end <= start || old.start >= end)
            continue;
        left -=
            (old.end < end ? old.end : end) - (old.start > start ? old.start : start);
        if (old.start < start && old.end > end) {
            range->end = start;
            if (heap_range_count < HEAP_RANGES)
                heap_ranges[heap_range_count++] = (struct heap_range){end, old.end};
        } else if (old.start < start) {
            range->end = start;
        } else if (old.end > end) {
            range->start = end;
        } else {
            *range = heap_ranges[--heap_range_count];
            i--;
        }
    }
    heap_ranges_wrong += left != 0; /* something that was not there */
}

static void add_range(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < heap_range_count; i++) {
        heap_ranges_wrong += heap_ranges[i].start < end && start < heap_ranges[i].end;
        if (heap_ranges[i].end == start) {
            start = heap_ranges[i].start;
            heap_ranges[i--] = heap_ranges[--heap_range_count];
        } else if (heap_ranges[i].start == end) {
            end = heap_ranges[i].end;
            heap_ranges[i--] = heap_ranges[--heap_range_count];
        }
    }
    if (heap_range_count < HEAP_RANGES)
        heap_ranges[heap_range_count++] = (struct heap_range){start, end};
}

static void brk_changed(const struct neap_heap_change *change)
{
    heap_ranges_wrong += change->size && change->old_size;
    heap_ranges_wrong +=
        change->address + change->old_size != change->old_address + change->size;
    if (change->size)
        add_range(change->old_address, change->address);
    else
        remove_range(change->address, change->old_address);
}

static void mremap_changed(const struct neap_heap_change *change)
{
    remove_range(change->old_address, change->old_address + change->old_size);
    /* It takes the place of a mapping that was made for it. */
    if (change->address != change->old_address)
        remove_range(change->address, change->address + change->size);
    add_range(change->address, change->address + change->size);
}

void heap_ranges_apply(const struct neap_heap_change *change)
{
    switch (change->op) {
    case NEAP_HEAP_MMAP:
        add_range(change->address, change->address + change->size);
        break;
    case NEAP_HEAP_MUNMAP:
        remove_range(change->address, change->address + change->size);
        break;
    case NEAP_HEAP_MREMAP:
        mremap_changed(change);
        break;
    case NEAP_HEAP_BRK:
        brk_changed(change);
        break;
    case NEAP_HEAP_MADVISE:
        break;
    }
}

uint64_t heap_ranges_bytes(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < heap_range_count; i++)
        sum += heap_ranges[i].end - heap_ranges[i].start;
    return sum;
}
