/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/heap_child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct neap_heap_error child_errors[CHILD_ERRORS_MAX];
_Atomic unsigned child_error_count;
_Atomic uint64_t child_stack;

static int said = -1;

static void on_error(const struct neap_heap_error *error)
{
    unsigned count = atomic_fetch_add(&child_error_count, 1);

    if (count < CHILD_ERRORS_MAX)
        child_errors[count] = *error;
}

static uint64_t on_stack(void)
{
    return child_stack;
}

static const struct neap_heap_observer observer = {.error = on_error,
                                                   .stack = on_stack};

void child_fail(const char *file, int line, const char *what)
{
    char text[256];
    int length =
        snprintf(text, sizeof(text), "%s:%d: %s does not hold\n", file, line, what);

    (void)!write(STDERR_FILENO, text, (size_t)length);
    _exit(1);
}

void child_expect(unsigned count, enum neap_heap_error_kind kind, const void *address)
{
    const struct neap_heap_error *error;

    if (count == 0)
        return;
    error = &child_errors[count - 1];
    CHECK(error->kind == kind);
    CHECK(error->address == (uintptr_t)address);
}

void *child_hide(void *block)
{
    void *volatile hidden = block;

    return hidden;
}

size_t child_said(char *ret, size_t size)
{
    ssize_t got = pread(said, ret, size - 1, 0);

    got = got < 0 ? 0 : got;
    ret[got] = '\0';
    return (size_t)got;
}

int child_status(unsigned level, bool aborts, void (*body)(void))
{
    int status = -1;
    pid_t child;

    if (said >= 0)
        close(said);
    said = memfd_create("said", 0);
    assert_true(said >= 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct neap_heap_options options = {
            .check = level, .abort = aborts, .delay_ms = 500};

        dup2(said, STDERR_FILENO);
        CHECK(neap_heap_begin(&options));
        neap_heap_observe(&observer);
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

void child_run(unsigned level, void (*body)(void))
{
    int status = child_status(level, false, body);
    char text[16384];

    if (status != 0) {
        child_said(text, sizeof(text));
        print_error("check level %u, status %x:\n%s", level, status, text);
    }
    assert_int_equal(status, 0);
}
