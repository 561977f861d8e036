/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a real program's allocations again, as fold has them:
 *
 *     replay TRACE TIMES
 *
 * Each block is written as far as its first 256 bytes and in each page; what the
 * program did with it besides is not in a trace. What was live at the program's end is
 * freed before the next time.
 */
#include "heapbench.h"
#include "trace.h"

static struct trace_step steps[8192]; /* read in pieces: the trace is not resident */

static struct slot {
    char *block;
    size_t size;
} * slots;

static void write_from(char *block, size_t from, size_t size)
{
    size_t head = size < 256 ? size : 256;

    if (from < head)
        memset(block + from, 1, head - from);
    for (size_t i = (from + 4095) / 4096 * 4096; i < size; i += 4096)
        block[i] = 1;
}

static void resize(struct slot *slot, size_t size)
{
    if (slot->block && slot->size && size && slot->block[0] != 1)
        die("realloc did not keep it");
    slot->block = must(realloc(slot->block, size ? size : 1));
    if (size > slot->size)
        write_from(slot->block, slot->size, size);
    slot->size = size;
}

static void act(struct trace_step step)
{
    struct slot *slot = &slots[step.slot];
    size_t size = step.size;

    switch (step.op) {
    case TRACE_FREE:
        free(slot->block);
        *slot = (struct slot){NULL, 0};
        return;
    case TRACE_REALLOC:
        resize(slot, size);
        return;
    case TRACE_MALLOC:
        slot->block = must(malloc(size));
        break;
    case TRACE_CALLOC:
        slot->block = must(calloc(1, size));
        if (size && slot->block[size - 1])
            die("calloc did not zero it");
        break;
    default:
        size = step.size & ((1U << TRACE_SIZE_BITS) - 1);
        slot->block =
            must(aligned_alloc((size_t)1 << (step.size >> TRACE_SIZE_BITS), size));
    }
    slot->size = size;
    write_from(slot->block, 0, size);
}

int main(int argc, char **argv)
{
    size_t times = (size_t)argument(argc, argv, 2);
    struct trace_head head;
    int trace = open(argv[1], O_RDONLY);
    double start;

    if (trace < 0 || read(trace, &head, sizeof(head)) != (ssize_t)sizeof(head))
        die("usage: replay TRACE TIMES");
    slots = room((head.slots + 1) * sizeof(*slots));
    start = now();
    for (size_t time = 0; time < times; time++) {
        ssize_t length;

        lseek(trace, sizeof(head), SEEK_SET);
        while ((length = read(trace, steps, sizeof(steps))) > 0)
            for (size_t i = 0; i < (size_t)length / sizeof(steps[0]); i++)
                act(steps[i]);
        for (size_t i = 0; i < head.slots; i++) {
            free(slots[i].block);
            slots[i] = (struct slot){NULL, 0};
        }
    }
    say_pairs(start, (double)head.steps / 2 * (double)times);
    return 0;
}
