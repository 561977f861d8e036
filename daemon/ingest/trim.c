/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/trim.h"

#include <string.h>

#include "schema/attr.h"

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A function's name may carry a symbol version or a suffix of the compiler's. */
static bool is_named(const char *function, const char *name)
{
    size_t length = strlen(name);

    return strncmp(function, name, length) == 0 &&
           (function[length] == '\0' || function[length] == '@' ||
            function[length] == '.');
}

enum neap_frame_role neap_frame_role(const char *function)
{
    static const char *const start[] = {
        "_start",
        "__libc_start_main",
        "__libc_start_main_impl",
        "__libc_start_call_main",
        "libc_start_main_stage2",
        "_dl_start_user",
        "start_thread",
        "clone",
        "__clone",
        "clone3",
        "__clone3",
        "__clone_internal",
    };

    if (!function || !function[0])
        return NEAP_ROLE_UNNAMED;
    if (strcmp(function, "main") == 0)
        return NEAP_ROLE_MAIN;
    if (starts_with(function, "operator new"))
        return NEAP_ROLE_NEW;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(start); i++) {
        if (is_named(function, start[i]))
            return NEAP_ROLE_START;
    }
    return NEAP_ROLE_OTHER;
}

bool neap_module_is_libc(const char *path)
{
    static const char *const prefixes[] = {
        "libc.so", "libc-2.",    "ld-linux", "ld-2.",     "ld.so",
        "ld64.so", "libpthread", "ld-musl",  "libc.musl",
    };
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    for (size_t i = 0; i < NEAP_ARRAY_LEN(prefixes); i++) {
        if (starts_with(name, prefixes[i]))
            return true;
    }
    return false;
}

static bool is_start(const struct neap_trim_frame *frame)
{
    return frame->role == NEAP_ROLE_START ||
           (frame->role == NEAP_ROLE_UNNAMED && frame->libc);
}

/*
 * The end of the stack at its outermost main, 0 if there is none. What is outside
 * of main must be start-up code, or main is just a function of that name. There the
 * C library counts under any name, and so does an unnamed outermost frame: a _start.
 */
static size_t main_end(const struct neap_trim_frame *frames, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        const struct neap_trim_frame *frame = &frames[i];

        if (frame->role == NEAP_ROLE_MAIN)
            return i + 1;
        if (!frame->libc && !is_start(frame) &&
            !(i == count - 1 && frame->role == NEAP_ROLE_UNNAMED))
            return 0;
    }
    return 0;
}

/* The end of the stack without start-up code at the outer end. */
static size_t start_end(const struct neap_trim_frame *frames, size_t count)
{
    size_t end = count;

    /* In a stripped program _start has no name, but what it called has. */
    if (end >= 2 && frames[end - 1].role == NEAP_ROLE_UNNAMED &&
        frames[end - 2].role == NEAP_ROLE_START && frames[end - 2].libc)
        end--;
    while (end > 0 && is_start(&frames[end - 1]))
        end--;
    return end;
}

void neap_trim(const struct neap_trim_frame *frames, size_t count, bool truncated,
               size_t *ret_first, size_t *ret_end)
{
    size_t first = 0;
    size_t end = count;

    if (!truncated) {
        end = main_end(frames, count);
        if (end == 0)
            end = start_end(frames, count);
        if (end == 0)
            end = count;
    }
    while (first + 1 < end && frames[first].role == NEAP_ROLE_NEW)
        first++;
    *ret_first = first;
    *ret_end = end;
}
