/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A heap begins once in a process: each test of a check level has a child of its own,
 * which says what is wrong by its status.
 */
#ifndef NEAP_TESTS_UNIT_HEAP_CHILD_H
#define NEAP_TESTS_UNIT_HEAP_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libhook/heap/heap.h"
#include "libhook/heap/walk.h"

/* In the child: what the observer was told. */
#define CHILD_ERRORS_MAX 512u
extern struct neap_heap_error child_errors[CHILD_ERRORS_MAX];
extern _Atomic unsigned child_error_count;

/* In the child: the token that the observer gives for stacks. */
extern _Atomic uint64_t child_stack;

/* In the child: no standard error must hold more than what it does by now. */
size_t child_said(char *ret, size_t size);

/* Run `body` in a child at that check level, with the observer of the above. Its
 * status, as of wait(). */
int child_status(unsigned level, bool aborts, void (*body)(void));

/* The same; fails the test unless all of it held. */
void child_run(unsigned level, void (*body)(void));

_Noreturn void child_fail(const char *file, int line, const char *what);
#define CHECK(condition)                                \
    do {                                                \
        if (!(condition))                               \
            child_fail(__FILE__, __LINE__, #condition); \
    } while (0)

/* The latest error is of that kind, about that address, and there are so many. */
void child_expect(unsigned count, enum neap_heap_error_kind kind, const void *address);
#define EXPECT(count, kind, address)                             \
    do {                                                         \
        unsigned expected = (count);                             \
                                                                 \
        if (child_error_count != expected)                       \
            child_fail(__FILE__, __LINE__, "errors == " #count); \
        child_expect(expected, kind, address);                   \
    } while (0)
#define VERIFY()                                   \
    do {                                           \
        const char *words = neap_heap_verify();    \
                                                   \
        if (words)                                 \
            child_fail(__FILE__, __LINE__, words); \
    } while (0)

/* So that no compiler knows what becomes of a block, or what it points to. */
void *child_hide(void *block);

#endif
