/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes of what libtrace.so wrote a trace for replay:
 *
 *     fold CALLS TRACE
 *
 * Addresses become slots, so that replaying needs no search. Frees of blocks from
 * before the recording are left out.
 */
#include <sys/stat.h>

#include "heapbench.h"
#include "trace.h"

/* Open addressing; a gone entry stays one that is passed over, with slot GONE. */
struct entry {
    uint64_t block;
    uint32_t slot;
};

#define GONE UINT32_MAX

static struct entry *entries;
static size_t mask;
static uint32_t *idle, idle_count, slots;

static struct entry *find(uint64_t block)
{
    size_t at = block * 0x9e3779b97f4a7c15U >> 20;

    for (;; at++) {
        struct entry *entry = &entries[at & mask];

        if (!entry->block || entry->block == block)
            return entry;
    }
}

static uint32_t give(uint64_t block)
{
    struct entry *entry = find(block);
    uint32_t slot = idle_count ? idle[--idle_count] : slots++;

    if (slot >= 1U << 29)
        die("too many blocks at once");
    if (entry->block && entry->slot != GONE)
        die("a block was given out twice: the recording has a hole");
    *entry = (struct entry){block, slot};
    return slot;
}

/* GONE if nobody knows it. */
static uint32_t leave(uint64_t block)
{
    struct entry *entry = find(block);
    uint32_t slot = entry->block ? entry->slot : GONE;

    if (slot != GONE)
        entry->slot = GONE;
    return slot;
}

/* Whether it is worth a step. */
static int fold(const struct trace_call *call, struct trace_step *step)
{
    uint32_t slot;

    if (call->size >> TRACE_SIZE_BITS)
        die("a block is too large for a trace");
    *step = (struct trace_step){(uint32_t)call->op & 7, 0, (uint32_t)call->size};
    switch (call->op) {
    case TRACE_FREE:
        slot = leave(call->block);
        break;
    case TRACE_REALLOC:
        slot = leave(call->old);
        if (slot != GONE)
            idle[idle_count++] = slot; /* give() takes the last one: the same */
        slot = give(call->block);
        break;
    case TRACE_ALIGNED:
        step->size |= (uint32_t)__builtin_ctzll(call->align) << TRACE_SIZE_BITS;
        slot = give(call->block);
        break;
    default:
        slot = give(call->block);
    }
    if (slot == GONE)
        return 0;
    step->slot = slot & 0x1fffffff;
    if (call->op == TRACE_FREE)
        idle[idle_count++] = slot;
    return 1;
}

int main(int argc, char **argv)
{
    int in = argc == 3 ? open(argv[1], O_RDONLY) : -1;
    FILE *out = argc == 3 ? fopen(argv[2], "wb") : NULL;
    struct trace_head head = {0, 0};
    const struct trace_call *calls;
    struct trace_step step;
    struct stat status;
    size_t count, size = 1 << 16;

    if (in < 0 || !out || fstat(in, &status) != 0 || !status.st_size)
        die("usage: fold CALLS TRACE");
    count = (size_t)status.st_size / sizeof(*calls);
    calls = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, in, 0);
    if (calls == MAP_FAILED)
        die("could not map the calls");
    while (size < 2 * count)
        size *= 2;
    mask = size - 1;
    entries = room(size * sizeof(*entries));
    idle = room((count + 1) * sizeof(*idle));
    fwrite(&head, sizeof(head), 1, out);
    for (size_t i = 0; i < count; i++) {
        if (!fold(&calls[i], &step))
            continue;
        fwrite(&step, sizeof(step), 1, out);
        head.steps++;
    }
    head.slots = slots;
    rewind(out);
    fwrite(&head, sizeof(head), 1, out);
    if (ferror(out) || fclose(out) != 0)
        die("could not write the trace");
    return 0;
}
