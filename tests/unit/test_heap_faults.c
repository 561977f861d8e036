/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel that refuses: each call that asks for memory or gives it back fails at the
 * n-th time, once, from then on, or now and then. The program gets its block, or NULL
 * with ENOMEM; what it has stays as it is, all of it can be freed, and when the kernel
 * is well again so is the heap. Then the same with limits of the system's own.
 *
 * Each case is a process of its own, whose heap begins in it.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_tools.h"

#define MIB   ((size_t)1 << 20)
#define MARK  4711
#define SLOTS 400u

enum {
    FINE = 40,
    NOT_REACHED,
    BAD
};

static const char *now_at = "";

/* In a child: cmocka's ways lead out of the parent only. */
#define NEED(condition)                                                            \
    do {                                                                           \
        if (!(condition)) {                                                        \
            dprintf(STDERR_FILENO, "line %d: not %s (%s)\n", __LINE__, #condition, \
                    now_at);                                                       \
            _exit(BAD);                                                            \
        }                                                                          \
    } while (0)

/* ---- the kernel ---- */

enum kind {
    BRK,
    MMAP,
    MUNMAP,
    MREMAP,
    MADVISE,
    KINDS
};
static const char *const kind_names[KINDS] = {"brk", "mmap", "munmap", "mremap",
                                              "madvise"};
enum mode {
    ONCE,
    FROM_THEN_ON,
    NOW_AND_THEN,
    MODES
};

static struct neap_os_calls healthy;
static struct {
    enum kind kind;
    enum mode mode;
    unsigned at; /* 0: all is well */
    unsigned calls;
} fault;
static size_t mapped; /* as the calls that succeeded have it */

static bool fails(enum kind kind)
{
    if (fault.at == 0 || kind != fault.kind)
        return false;
    fault.calls++;
    return fault.mode == ONCE           ? fault.calls == fault.at
           : fault.mode == FROM_THEN_ON ? fault.calls >= fault.at
                                        : fault.calls % (fault.at + 1) == 0;
}

static uintptr_t faulty_brk(uintptr_t to)
{
    uintptr_t now = healthy.brk(0), then;

    if (to == 0 || fails(BRK))
        return now;
    then = healthy.brk(to);
    mapped += then - now;
    return then;
}

static long faulty_mmap(uintptr_t where, size_t size, int prot, int flags)
{
    long at = fails(MMAP) ? -ENOMEM : healthy.mmap(where, size, prot, flags);

    mapped += (unsigned long)at > -4096ul ? 0 : size;
    return at;
}

static long faulty_munmap(uintptr_t at, size_t size)
{
    long result = fails(MUNMAP) ? -ENOMEM : healthy.munmap(at, size);

    mapped -= result ? 0 : size;
    return result;
}

static long faulty_mremap(uintptr_t at, size_t old_size, size_t size, int flags,
                          uintptr_t to)
{
    long result =
        fails(MREMAP) ? -ENOMEM : healthy.mremap(at, old_size, size, flags, to);

    /* Elsewhere it takes the place of a mapping. */
    if ((unsigned long)result <= -4096ul)
        mapped += (flags & MREMAP_FIXED ? 0 : size) - old_size;
    return result;
}

static long faulty_madvise(uintptr_t at, size_t size, int advice)
{
    return fails(MADVISE) ? -EINVAL : healthy.madvise(at, size, advice);
}

/* ---- the program ---- */

static struct heap_block slots[SLOTS];
static unsigned refused;

/* Of a block that was asked for. */
static bool served(const void *block)
{
    NEED(errno == (block ? MARK : ENOMEM));
    NEED((uintptr_t)block % 16 == 0);
    refused += !block;
    return block != NULL;
}

static void put(struct heap_block *slot, uint64_t *random)
{
    size_t size = heap_random(random) % 8 ? heap_random_size(random, 1, 40000)
                                          : heap_random_size(random, 30000, 3 * MIB);
    unsigned way = (unsigned)(heap_random(random) % 8);
    size_t align = (size_t)16 << heap_random(random) % 12;
    void *block = NULL;
    int result;

    errno = MARK;
    if (way == 0) {
        block = neap_heap_calloc(size, 1);
    } else if (way == 1) {
        block = neap_heap_memalign(align, size);
    } else if (way == 2) {
        result = neap_heap_posix_memalign(&block, align, size);
        NEED(result == (block ? 0 : ENOMEM) && errno == MARK);
        errno = block ? MARK : ENOMEM;
    } else {
        block = neap_heap_malloc(size);
    }
    if (!served(block))
        return;
    NEED(way != 0 || heap_is_zero(block, size));
    *slot = (struct heap_block){block, size, heap_random(random)};
    heap_fill(slot);
}

static void resize(struct heap_block *slot, uint64_t *random)
{
    size_t size = heap_random_size(random, slot->size >= MIB ? MIB / 2 : 1, 4 * MIB);
    void *block;

    errno = MARK;
    block = neap_heap_realloc(slot->at, size);
    if (!served(block)) {
        NEED(heap_holds(slot, slot->size));
        return;
    }
    slot->at = block;
    NEED(heap_holds(slot, size));
    slot->size = size;
    heap_fill(slot);
}

static void drop(struct heap_block *slot)
{
    NEED(heap_holds(slot, slot->size));
    errno = MARK;
    neap_heap_free(slot->at);
    NEED(errno == MARK);
    slot->at = NULL;
}

static void work(unsigned steps, uint64_t random)
{
    for (unsigned i = 0; i < steps; i++) {
        /* Few slots at first, all later, few again: it grows and shrinks. */
        unsigned range = i < steps / 3 || i > steps * 2 / 3 ? SLOTS / 8 : SLOTS;
        struct heap_block *slot = &slots[heap_random(&random) % range];

        if (!slot->at)
            put(slot, &random);
        else if (heap_random(&random) % 3 < (slot->size < MIB / 2 ? 1 : 2))
            resize(slot, &random);
        else
            drop(slot);
        if (i % 100 == 50)
            neap_heap_trim(i % 200 == 50 ? 0 : 100000);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].at)
            drop(&slots[i]);
}

static void begin(void)
{
    healthy = neap_os_calls;
    neap_os_calls = (struct neap_os_calls){faulty_brk, faulty_mmap, faulty_munmap,
                                           faulty_mremap, faulty_madvise};
    heap_begin();
}

/* All is well again, and nothing is left. */
static void check_end(void)
{
    refused = 0;
    work(150, 4242);
    NEED(refused == 0);
    neap_heap_trim(0);
    NEED(neap_pool_counts.used_units == 0);
    NEED(neap_pool_counts.dirty_units == 0);
    NEED(neap_os_mapped == mapped);
    NEED(neap_os_mapped_max >= mapped);
    NEED(heap_errors() == 0);
}

static int child(enum kind kind, enum mode mode, unsigned at)
{
    static char text[64];

    snprintf(text, sizeof(text), "%s mode %d at %u", kind_names[kind], mode, at);
    now_at = text;
    begin();
    fault.kind = kind;
    fault.mode = mode;
    fault.at = at;
    work(300, at * 31 + kind + 1);
    fault.at = 0;
    /* Ends of a mapping that cannot be unmapped are nobody's. */
    NEED(kind == MUNMAP || !neap_heap_verify());
    check_end();
    return fault.calls < at ? NOT_REACHED : FINE;
}

static int status_of(pid_t pid)
{
    int status = 0;

    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define EACH (HEAP_TSAN ? 2u : HEAP_SANITIZED ? 5u : 16u)
#define THEN (HEAP_SANITIZED ? 97u : 11u)

/* Every call in turn, as long as it is reached: the first ones each, then some. */
static void each_call_fails(enum kind kind)
{
    for (enum mode mode = 0; mode < MODES; mode++) {
        int status = FINE;
        unsigned at = 1;

        for (; status == FINE && at < 400; at += at < EACH ? 1 : THEN) {
            pid_t pid = fork();

            if (pid == 0)
                _exit(child(kind, mode, at));
            status = status_of(pid);
            if (status != NOT_REACHED)
                assert_int_equal(status, FINE);
        }
        assert_true(at > 2); /* or nothing was tested */
    }
}

static void brk_fails(void **state)
{
    (void)state;
    each_call_fails(BRK);
}

static void mmap_fails(void **state)
{
    (void)state;
    each_call_fails(MMAP);
}

static void munmap_fails(void **state)
{
    (void)state;
    each_call_fails(MUNMAP);
}

static void mremap_fails(void **state)
{
    (void)state;
    each_call_fails(MREMAP);
}

static void madvise_fails(void **state)
{
    (void)state;
    each_call_fails(MADVISE);
}

/* ---- limits ---- */

static struct heap_block many[20000];

/* Until there is no more; how many bytes that were. */
static size_t exhaust(size_t least, size_t most, unsigned *ret)
{
    uint64_t random = least + 9;
    size_t sum = 0;
    unsigned count = 0;

    for (; count < sizeof(many) / sizeof(many[0]); count++) {
        size_t size = heap_random_size(&random, least, most);

        errno = MARK;
        many[count] = (struct heap_block){neap_heap_malloc(size), size, count + 1};
        if (!served(many[count].at))
            break;
        heap_fill(&many[count]);
        sum += size;
    }
    *ret = count;
    return sum;
}

static void release(unsigned from, unsigned count, unsigned step)
{
    for (unsigned i = from; i < count; i += step) {
        NEED(heap_holds(&many[i], many[i].size));
        neap_heap_free(many[i].at);
    }
}

static int live_within(int resource, size_t more, size_t least, size_t most)
{
    const struct rlimit limit = {more, more};
    size_t first, second;
    unsigned count, again;
    void *extra;

    now_at = "limit";
    begin();
    NEED(setrlimit(resource, &limit) == 0);
    first = exhaust(least, most, &count);
    NEED(refused == 1 && count > 10);
    for (unsigned i = 0; i < 100; i++) {
        errno = MARK;
        NEED(!neap_heap_malloc(more) && errno == ENOMEM);
        errno = MARK;
        NEED(!neap_heap_realloc(many[0].at, more) && errno == ENOMEM);
    }
    /* Half of it, here and there: what is as large can be had again. */
    release(0, count, 2);
    for (unsigned i = 0; i < count; i += 2) {
        errno = MARK;
        extra = neap_heap_malloc(many[i].size);
        NEED(extra && errno == MARK);
        neap_heap_free(extra);
    }
    release(1, count, 2);
    second = exhaust(least, most, &again);
    NEED(second >= first / 10 * 9);
    release(0, again, 1);
    neap_heap_trim(0);
    NEED(neap_pool_counts.used_units == 0);
    refused = 0;
    work(200, 5);
    NEED(refused == 0);
    neap_heap_trim(0);
    NEED(neap_pool_counts.used_units == 0);
    return FINE;
}

static void within_limit(int resource, size_t base)
{
    static const size_t sizes[][2] = {
        {4000, 30000}, {40000, 900000}, {MIB, 8 * MIB}, {4000, 8 * MIB}};

    if (HEAP_SANITIZED) {
        print_message("a sanitizer needs more than any limit\n");
        skip();
    }
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(live_within(resource, base + 128 * MIB, sizes[i][0], sizes[i][1]));
        assert_int_equal(status_of(pid), FINE);
    }
}

static void address_space_is_limited(void **state)
{
    (void)state;
    within_limit(RLIMIT_AS, heap_process_size());
}

static void data_is_limited(void **state)
{
    (void)state;
    within_limit(RLIMIT_DATA, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brk_fails),       cmocka_unit_test(mmap_fails),
        cmocka_unit_test(munmap_fails),    cmocka_unit_test(mremap_fails),
        cmocka_unit_test(madvise_fails),   cmocka_unit_test(address_space_is_limited),
        cmocka_unit_test(data_is_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
