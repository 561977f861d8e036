/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation an error: the struct and its text. Failing must work when nothing
 * else does, so whatever goes wrong here comes back as NEAP_NO_MEMORY.
 */
#include "schema/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct neap_error neap_error_no_memory = {
    .code = NEAP_ERROR_NO_MEMORY,
    .errnum = 0,
    .message = "out of memory",
};

/* A message is one line, whatever names went into it. */
static void flatten(char *message)
{
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

static struct neap_error *create(enum neap_error_code code, int errnum,
                                 const char *suffix, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

static struct neap_error *create(enum neap_error_code code, int errnum,
                                 const char *suffix, const char *format, va_list args)
{
    size_t suffix_size = suffix ? strlen(suffix) + 2 : 0;
    struct neap_error *error;
    va_list again;
    int length;

    va_copy(again, args);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        return NEAP_NO_MEMORY;
    error = malloc(sizeof(*error) + (size_t)length + suffix_size + 1);
    if (!error)
        return NEAP_NO_MEMORY;
    error->code = code;
    error->errnum = errnum;
    vsnprintf(error->message, (size_t)length + 1, format, args);
    if (suffix) {
        memcpy(error->message + length, ": ", 2);
        memcpy(error->message + length + 2, suffix, suffix_size - 1);
    }
    flatten(error->message);
    return error;
}

struct neap_error *neap_error_create(enum neap_error_code code, const char *format, ...)
{
    struct neap_error *error;
    va_list args;

    va_start(args, format);
    error = create(code, 0, NULL, format, args);
    va_end(args);
    return error;
}

struct neap_error *neap_error_os(int errnum, const char *format, ...)
{
    struct neap_error *error;
    char text[128];
    va_list args;

    va_start(args, format);
    error = create(NEAP_ERROR_OS, errnum, strerror_r(errnum, text, sizeof(text)),
                   format, args);
    va_end(args);
    return error;
}

void neap_error_destroy(struct neap_error *error)
{
    if (error != NEAP_NO_MEMORY)
        free(error);
}
