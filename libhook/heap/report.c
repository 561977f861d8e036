/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/report.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libhook/heap/lock.h"
#include "libhook/heap/os.h"

/* A program that goes on after a mistake may repeat it for ever. */
#define LINES_MAX 100u
#define KEPT_MAX  8u
/* Reports from within a report: the observer or a signal handler frees wrongly too. */
#define DEPTH_MAX 3u

static bool aborts, quiet;
static _Atomic unsigned lines;
static __thread unsigned depth;

static struct neap_heap_error kept[KEPT_MAX]; /* with the lock held */
static _Atomic unsigned kept_count;

void neap_report_begin(const struct neap_heap_options *options)
{
    aborts = options->abort;
    quiet = options->quiet;
}

/* ---- text ---- */

void neap_text_add(struct neap_text *text, const char *words)
{
    while (*words && text->at < text->end)
        *text->at++ = *words++;
}

static void add_digits(struct neap_text *text, uint64_t value, unsigned base)
{
    char digits[21], *at = digits + sizeof(digits) - 1;

    *at = '\0';
    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    neap_text_add(text, at);
}

void neap_text_number(struct neap_text *text, uint64_t value)
{
    add_digits(text, value, 10);
}

void neap_text_address(struct neap_text *text, uint64_t address)
{
    neap_text_add(text, "0x");
    add_digits(text, address, 16);
}

/* write() would make free() a point of cancellation. */
void neap_text_say(const char *from, const struct neap_text *text)
{
    int saved = errno;

    while (from < text->at) {
        long wrote = syscall(SYS_write, STDERR_FILENO, from, text->at - from);

        if (wrote <= 0 && errno != EINTR)
            break;
        from += wrote > 0 ? wrote : 0;
    }
    errno = saved;
}

/* ---- what is said ---- */

static void add_block(struct neap_text *text, const char *before,
                      const struct neap_heap_error *error)
{
    neap_text_add(text, before);
    if (error->block != error->address) {
        neap_text_add(text, "the block ");
        neap_text_address(text, error->block);
    } else {
        neap_text_add(text, "a block");
    }
    neap_text_add(text, " of ");
    neap_text_number(text, error->size);
    neap_text_add(text, error->size == 1 ? " byte" : " bytes");
}

static void add_offset(struct neap_text *text, const char *before, uint64_t offset,
                       const char *after)
{
    neap_text_add(text, before);
    if (offset) {
        neap_text_number(text, offset);
        neap_text_add(text, offset == 1 ? " byte" : " bytes");
    } else {
        neap_text_add(text, "just");
    }
    neap_text_add(text, after);
}

static void describe(struct neap_text *text, const struct neap_heap_error *error)
{
    static const char *const beginnings[NEAP_HEAP_ERROR_END] = {
        [NEAP_HEAP_DOUBLE_FREE] = "double free of ",
        [NEAP_HEAP_INVALID_FREE] = "invalid free of ",
        [NEAP_HEAP_INTERIOR_FREE] = "free of ",
        [NEAP_HEAP_OVERFLOW] = "write to ",
        [NEAP_HEAP_WRITE_AFTER_FREE] = "write to ",
        [NEAP_HEAP_SIZE_MISMATCH] = "free of ",
        [NEAP_HEAP_DAMAGED] = "",
    };

    neap_text_add(text, beginnings[error->kind]);
    neap_text_address(text, error->address);
    switch (error->kind) {
    case NEAP_HEAP_DOUBLE_FREE:
        if (error->size)
            add_block(text, ", ", error);
        break;
    case NEAP_HEAP_INVALID_FREE:
        neap_text_add(text, ", no block of this heap");
        break;
    case NEAP_HEAP_INTERIOR_FREE:
        add_offset(text, ", ", error->address - error->block, " inside ");
        add_block(text, "", error);
        break;
    case NEAP_HEAP_OVERFLOW:
        add_offset(text, ", ", error->address - error->block - error->size,
                   " behind the end of ");
        add_block(text, "", error);
        break;
    case NEAP_HEAP_WRITE_AFTER_FREE:
        add_offset(text, ", ", error->address - error->block, " inside ");
        add_block(text, "", error);
        neap_text_add(text, ", after its free");
        break;
    case NEAP_HEAP_SIZE_MISMATCH:
        neap_text_add(text, " with size ");
        neap_text_number(text, error->given);
        add_block(text, ", but it is ", error);
        break;
    default:
        break;
    }
}

static void say(const char *words, const struct neap_heap_error *error)
{
    unsigned line = atomic_fetch_add_explicit(&lines, 1, memory_order_relaxed);
    char buffer[320];
    struct neap_text text = {buffer, buffer + sizeof(buffer) - 1};

    if (line > LINES_MAX) {
        /* Not around to 0 again. */
        atomic_store_explicit(&lines, LINES_MAX + 1, memory_order_relaxed);
        return;
    }
    neap_text_add(&text, "neaptide: ");
    if (line == LINES_MAX) {
        neap_text_add(&text, "more mistakes of the kind are not shown");
    } else if (words) {
        neap_text_add(&text, "the heap is damaged: ");
        neap_text_add(&text, words);
    } else {
        describe(&text, error);
    }
    neap_text_add(&text, " (pid ");
    neap_text_number(&text, (uint64_t)syscall(SYS_getpid));
    neap_text_add(&text, ")");
    text.end++;
    neap_text_add(&text, "\n");
    neap_text_say(buffer, &text);
}

static void report(const char *words, const struct neap_heap_error *error)
{
    /* Pairs with the release in neap_heap_observe. */
    const struct neap_heap_observer *observer =
        atomic_load_explicit(&neap_observer, memory_order_acquire);
    int saved = errno;

    if (depth < DEPTH_MAX) {
        depth++;
        if (!quiet)
            say(words, error);
        if (depth == 1 && observer && observer->error)
            observer->error(error);
        if (aborts)
            abort();
        depth--;
    }
    errno = saved;
}

void neap_report(const struct neap_heap_error *error)
{
    report(NULL, error);
}

void neap_report_damage(const char *words)
{
    struct neap_heap_error error = {.kind = NEAP_HEAP_DAMAGED};

    report(words, &error);
}

/* ---- later ---- */

void neap_report_later(const struct neap_heap_error *error)
{
    unsigned count = atomic_load_explicit(&kept_count, memory_order_relaxed);

    if (count == KEPT_MAX)
        return;
    kept[count] = *error;
    atomic_store_explicit(&kept_count, count + 1, memory_order_relaxed);
}

void neap_report_kept(void)
{
    struct neap_heap_error taken[KEPT_MAX];
    unsigned count;

    if (!atomic_load_explicit(&kept_count, memory_order_relaxed))
        return;
    neap_lock();
    count = atomic_load_explicit(&kept_count, memory_order_relaxed);
    for (unsigned i = 0; i < count; i++)
        taken[i] = kept[i];
    atomic_store_explicit(&kept_count, 0, memory_order_relaxed);
    neap_unlock();
    for (unsigned i = 0; i < count; i++)
        neap_report(&taken[i]);
}

uint64_t neap_report_stack(void)
{
    /* Pairs with the release in neap_heap_observe. */
    const struct neap_heap_observer *observer =
        atomic_load_explicit(&neap_observer, memory_order_acquire);
    uint64_t token = 0;

    if (observer && observer->stack) {
        int saved = errno;

        token = observer->stack();
        errno = saved;
    }
    return token;
}
