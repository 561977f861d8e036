/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The malloc family. What is fast stands here whole: a block from the heap's stack or
 * word of its class, a block of the caller's own back onto the stack or to its span. No
 * byte of the block is looked at.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "libhook/heap/check.h"
#include "libhook/heap/heap.h"
#include "libhook/heap/large.h"
#include "libhook/heap/local.h"
#include "libhook/heap/map.h"
#include "libhook/heap/queue.h"
#include "libhook/heap/span.h"
#include "libhook/heap/start.h"

static NEAP_COLD void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* ---- allocation: NULL is no memory, and errno the caller's ---- */

/* `*fresh`: whether it should read as zero; then, whether it does. */
static __attribute__((noinline)) void *allocate_slowly(size_t size, size_t align,
                                                       bool *fresh)
{
    neap_heap_start();
    if (size > NEAP_SIZE_MAX || align > NEAP_SIZE_MAX)
        return NULL;
    if (NEAP_UNLIKELY(neap_check_level != 0))
        return neap_check_alloc(size, align, fresh);
    if (size <= NEAP_SMALL_MAX && align <= 16)
        return neap_local_refill(neap_class_of(size), fresh);
    return neap_large_alloc(size, align, fresh);
}

static __attribute__((noinline)) void *refill(size_t size)
{
    bool fresh = false;

    return allocate_slowly(size, 16, &fresh);
}

/* NULL: neither the stack nor the word has one. */
NEAP_ALWAYS_INLINE void *from_heap(unsigned class)
{
    struct neap_kind *kind = &neap_local->kind[class];
    struct neap_entry *entry = kind->top;

    if (NEAP_LIKELY(entry != kind->bottom)) {
        entry--;
        kind->top = entry;
        atomic_store_explicit(entry->word,
                              atomic_load_explicit(entry->word, memory_order_relaxed) |
                                  entry->bit,
                              memory_order_relaxed);
        return entry->block;
    }
    return neap_kind_take(kind);
}

NEAP_ALWAYS_INLINE void *allocate(size_t size)
{
    unsigned class;
    void *block;

    if (NEAP_LIKELY(size <= 1024))
        class = neap_class_small[(size + 15) >> 4];
    else if (NEAP_LIKELY(size <= NEAP_SMALL_MAX))
        class = neap_class_medium(size);
    else
        return refill(size);
    block = from_heap(class);
    return NEAP_LIKELY(block != NULL) ? block : refill(size);
}

/*
 * A small block of a size that is rounded up to a multiple of the alignment is aligned
 * by itself: its class's size is a multiple as well, since beyond 128 bytes it is one
 * of an eighth of the power of two below, and either that or the alignment divides the
 * other; and spans begin on their size's alignment, up to a page.
 */
NEAP_ALWAYS_INLINE void *allocate_aligned(size_t align, size_t size)
{
    size_t rounded = (size + align - 1) & ~(align - 1);
    bool fresh = false;

    if (NEAP_LIKELY(align <= NEAP_HEAP_PAGE && size <= NEAP_SMALL_MAX &&
                    rounded <= NEAP_SMALL_MAX && neap_check_none))
        return allocate(rounded ? rounded : align);
    return allocate_slowly(size, align, &fresh);
}

/* ---- the same, with errno ---- */

void *neap_heap_malloc(size_t size)
{
    void *block = allocate(size);

    return NEAP_LIKELY(block != NULL) ? block : no_memory();
}

void *neap_heap_calloc(size_t count, size_t size)
{
    bool fresh = false;
    size_t total;
    void *block;

    if (__builtin_mul_overflow(count, size, &total))
        return no_memory();
    /* Blocks of a page or more may be fresh, which only the slow way knows of; what the
     * heap has at hand has been used before. */
    block = total <= NEAP_SMALL_MAX ? from_heap(neap_class_of(total)) : NULL;
    if (!block) {
        fresh = true;
        block = allocate_slowly(total, 16, &fresh);
    }
    if (NEAP_UNLIKELY(!block))
        return no_memory();
    return fresh ? block : memset(block, 0, total);
}

static __attribute__((noinline)) void *aligned(size_t align, size_t size)
{
    void *block = allocate_aligned(align, size);

    return block ? block : no_memory();
}

static bool is_power_of_two(size_t value)
{
    return value && (value & (value - 1)) == 0;
}

int neap_heap_posix_memalign(void **ret, size_t align, size_t size)
{
    void *block;

    if (NEAP_UNLIKELY(!is_power_of_two(align) || align % sizeof(void *) != 0))
        return EINVAL;
    block = allocate_aligned(align, size);
    if (NEAP_UNLIKELY(!block))
        return ENOMEM;
    *ret = block;
    return 0;
}

/* glibc's aligned_alloc is memalign up to 2.37, and refuses no alignment that memalign
 * rounds up: ours takes powers of two, as the standard has it. */
void *neap_heap_aligned_alloc(size_t align, size_t size)
{
    if (!is_power_of_two(align)) {
        errno = EINVAL;
        return NULL;
    }
    return aligned(align, size);
}

void *neap_heap_memalign(size_t align, size_t size)
{
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    while (!is_power_of_two(align)) /* rounded up, as glibc does */
        align = align ? (align | (align - 1)) + 1 : 1;
    return aligned(align, size);
}

void *neap_heap_valloc(size_t size)
{
    return aligned(NEAP_HEAP_PAGE, size);
}

void *neap_heap_pvalloc(size_t size)
{
    if (size > NEAP_SIZE_MAX)
        return no_memory();
    return aligned(NEAP_HEAP_PAGE,
                   (size + NEAP_HEAP_PAGE - 1) & ~(size_t)(NEAP_HEAP_PAGE - 1));
}

/* ---- free ---- */

/* A block of the caller's own: back to the heap's stack, if there is room. */
NEAP_ALWAYS_INLINE void free_own(struct neap_local *local, struct neap_span *span,
                                 void *block, uint32_t index)
{
    struct neap_kind *kind = &local->kind[span->class];
    struct neap_entry *entry = kind->top;
    _Atomic uint64_t *word = &span->live[index >> 6];
    uint64_t bit = 1ull << (index & 63);
    uint64_t live = atomic_load_explicit(word, memory_order_relaxed);

    if (NEAP_UNLIKELY(!(live & bit))) {
        neap_check_wrong_free(block);
        return;
    }
    atomic_store_explicit(word, live ^ bit, memory_order_relaxed);
    if (NEAP_LIKELY(entry != kind->end)) {
        kind->top = entry + 1;
        *entry = (struct neap_entry){block, word, bit};
        if (NEAP_UNLIKELY(local->ticks-- == 0))
            neap_local_tick(local);
    } else {
        neap_local_give(local, span, index);
    }
}

/*
 * Is it one of the caller's that takes the slow way for its marks alone? Then it goes
 * on as any other: to collect what nobody has freed costs 20 ns. With the last mark
 * gone the slow way is taken to its end, which makes the next free a fast one.
 */
NEAP_ALWAYS_INLINE bool is_only_marked(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    return neap_local_owner(span) == neap_local &&
           atomic_load_explicit(&cold->marks, memory_order_relaxed) &&
           atomic_load_explicit(&cold->queued, memory_order_relaxed) == NEAP_QUEUED_NOT;
}

static __attribute__((noinline)) void free_slowly(void *block, struct neap_span *span)
{
    uint32_t index;

    if (!block)
        return;
    if (span &&
        atomic_load_explicit(&neap_span_cold(span)->marks, memory_order_relaxed)) {
        neap_check_marked(block);
        if (NEAP_LIKELY(is_only_marked(span) &&
                        neap_span_index(span, (uintptr_t)block, &index))) {
            free_own(neap_local, span, block, index);
            return;
        }
    }
    if (NEAP_UNLIKELY(neap_check_level != 0) && neap_check_frees(span, block))
        return;
    if (span && span->state == NEAP_SPAN_SMALL) {
        if (!neap_span_index(span, (uintptr_t)block, &index) ||
            index >= span->capacity || !neap_local_free(span, index))
            neap_check_wrong_free(block);
    } else if (!neap_large_free(block)) {
        neap_check_wrong_free(block);
    }
}

void neap_heap_free(void *block)
{
    struct neap_span *span = neap_map_find((uintptr_t)block);
    struct neap_local *local = neap_local;
    uint32_t index;

    if (NEAP_UNLIKELY(!span ||
                      atomic_load_explicit(&span->owner, memory_order_relaxed) !=
                          (uintptr_t)local ||
                      !neap_span_index(span, (uintptr_t)block, &index))) {
        free_slowly(block, span);
        return;
    }
    free_own(local, span, block, index);
}

/* C23: the size is the program's word for what it freed; a wrong one is an error. */
bool neap_heap_is_sized(void *block, size_t size)
{
    return !block || neap_check_size(block, size);
}

void neap_heap_free_sized(void *block, size_t size)
{
    if (neap_heap_is_sized(block, size))
        neap_heap_free(block);
}

void neap_heap_free_aligned_sized(void *block, size_t align, size_t size)
{
    (void)align;
    neap_heap_free_sized(block, size);
}

/* ---- sizes ---- */

size_t neap_heap_usable_size(void *block)
{
    struct neap_span *span = neap_map_find_any((uintptr_t)block);

    if (!span)
        return 0;
    if (NEAP_UNLIKELY(neap_check_level != 0))
        return neap_check_usable(span, block);
    if (span->state == NEAP_SPAN_SMALL)
        return span->size;
    return span->state == NEAP_SPAN_LARGE ? neap_span_cold(span)->bytes : 0;
}

/* Of a block in use; 0: it is none. */
static size_t live_size(void *block)
{
    struct neap_span *span = neap_map_find_any((uintptr_t)block);
    uint32_t index;

    if (NEAP_LIKELY(span && span->state == NEAP_SPAN_SMALL))
        return neap_span_index(span, (uintptr_t)block, &index) &&
                       index < span->capacity &&
                       atomic_load_explicit(&span->live[index / 64],
                                            memory_order_relaxed) >>
                               index % 64 &
                           1
                   ? span->size
                   : 0;
    return span && span->state == NEAP_SPAN_LARGE && span->start == (uintptr_t)block
               ? neap_span_cold(span)->bytes
               : 0;
}

void *neap_heap_realloc(void *block, size_t size)
{
    size_t old;
    void *moved;

    if (!block)
        return neap_heap_malloc(size);
    if (size == 0) {
        neap_heap_free(block);
        return NULL;
    }
    if (NEAP_UNLIKELY(size > NEAP_SIZE_MAX))
        return no_memory();
    if (NEAP_UNLIKELY(neap_check_level != 0))
        return neap_check_realloc(block, size);
    old = live_size(block);
    if (NEAP_UNLIKELY(old == 0)) {
        neap_check_wrong_free(block);
        return no_memory();
    }
    /* In place, unless more than half of it would lie idle. */
    if (size <= old && size >= old / 2)
        return block;
    if (old > NEAP_SMALL_MAX && size > NEAP_SMALL_MAX) {
        moved = neap_large_resize(block, size);
        if (moved)
            return moved;
    }
    moved = neap_heap_malloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, block, size < old ? size : old);
    neap_heap_free(block);
    return moved;
}

void *neap_heap_reallocarray(void *block, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return no_memory();
    return neap_heap_realloc(block, total);
}

/* ---- marks ---- */

void neap_heap_mark(void *block)
{
    struct neap_span *span = neap_map_find_any((uintptr_t)block);

    if (!span)
        return;
    atomic_fetch_add_explicit(&neap_span_cold(span)->marks, 1, memory_order_seq_cst);
    atomic_fetch_or_explicit(&span->owner, NEAP_OWNER_SLOWLY, memory_order_relaxed);
}

void neap_heap_unmark(void *block)
{
    struct neap_span *span = neap_map_find_any((uintptr_t)block);

    /* The slow way of the next free finds that there is none, see queue.h. */
    if (span)
        atomic_fetch_sub_explicit(&neap_span_cold(span)->marks, 1,
                                  memory_order_relaxed);
}
