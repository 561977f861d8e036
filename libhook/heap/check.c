/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libhook/heap/map.h"
#include "libhook/heap/os.h"
#include "libhook/heap/span.h"

unsigned neap_check_level;
static bool aborts, quiet;

static void say(const char *text, size_t length)
{
    (void)!write(STDERR_FILENO, text, length);
}

static void report(const struct neap_heap_error *error)
{
    static const char *const names[NEAP_HEAP_ERROR_END] = {
        [NEAP_HEAP_DOUBLE_FREE] = "double free\n",
        [NEAP_HEAP_INVALID_FREE] = "invalid free\n",
        [NEAP_HEAP_INTERIOR_FREE] = "interior free\n",
        [NEAP_HEAP_OVERFLOW] = "overflow\n",
        [NEAP_HEAP_WRITE_AFTER_FREE] = "write after free\n",
        [NEAP_HEAP_SIZE_MISMATCH] = "size mismatch\n",
    };
    const struct neap_heap_observer *observer =
        atomic_load_explicit(&neap_observer, memory_order_acquire);

    if (!quiet)
        say(names[error->kind], strlen(names[error->kind]));
    if (observer && observer->error)
        observer->error(error);
    if (aborts)
        abort();
}

void neap_check_wrong_free(void *block)
{
    struct neap_heap_error error = {.kind = NEAP_HEAP_INVALID_FREE,
                                    .address = (uintptr_t)block};
    struct neap_span *span = neap_map_find_any((uintptr_t)block);
    uint32_t index;

    if (span && span->state == NEAP_SPAN_SMALL) {
        if (neap_span_index(span, (uintptr_t)block, &index))
            error.kind = NEAP_HEAP_DOUBLE_FREE;
        else if ((uintptr_t)block > span->start)
            error.kind = NEAP_HEAP_INTERIOR_FREE;
        error.size = span->size;
    }
    report(&error);
}

bool neap_check_size(void *block, size_t size)
{
    (void)block;
    (void)size;
    return true;
}

void neap_check_marked(void *block)
{
    const struct neap_heap_observer *observer =
        atomic_load_explicit(&neap_observer, memory_order_acquire);

    if (observer && observer->freed)
        observer->freed(block);
}

void neap_check_begin(const struct neap_heap_options *options)
{
    aborts = options->abort;
    quiet = options->quiet;
}

void *neap_check_alloc(size_t size, size_t align, bool *fresh)
{
    (void)size;
    (void)align;
    *fresh = false;
    return NULL;
}

bool neap_check_frees(struct neap_span *span, void *block)
{
    (void)span;
    (void)block;
    return false;
}

size_t neap_check_usable(struct neap_span *span, const void *block)
{
    (void)span;
    (void)block;
    return 0;
}
