/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The growing string. Capacity doubles, so n appends cost O(n); the NUL has its
 * byte reserved from the first allocation on.
 */
#include "schema/base/str.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void neap_str_deinit(struct neap_str *str)
{
    free(str->data);
    *str = (struct neap_str){0};
}

/* Room for `more` bytes and a NUL. */
static bool reserve(struct neap_str *str, size_t more)
{
    size_t capacity = str->capacity ? str->capacity : 64;
    char *data = NULL;

    if (str->failed)
        return false;
    if (more < str->capacity - str->length)
        return true;
    if (more <= SIZE_MAX / 4 - str->length) {
        while (capacity - str->length <= more)
            capacity *= 2;
        data = realloc(str->data, capacity);
    }
    if (!data) {
        str->failed = true;
        return false;
    }
    str->data = data;
    str->capacity = capacity;
    return true;
}

void neap_str_bytes(struct neap_str *str, const void *bytes, size_t length)
{
    if (!reserve(str, length))
        return;
    if (length)
        memcpy(str->data + str->length, bytes, length);
    str->length += length;
    str->data[str->length] = 0;
}

void neap_str_text(struct neap_str *str, const char *text)
{
    neap_str_bytes(str, text, strlen(text));
}

void neap_str_char(struct neap_str *str, char c)
{
    neap_str_bytes(str, &c, 1);
}

void neap_str_format(struct neap_str *str, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        str->failed = true;
        return;
    }
    if (!reserve(str, (size_t)length))
        return;
    va_start(args, format);
    vsnprintf(str->data + str->length, (size_t)length + 1, format, args);
    va_end(args);
    str->length += (size_t)length;
}

/*
 * Length of the UTF-8 sequence at the start of `bytes`, 0 if there is none: no
 * overlong forms, no surrogates, nothing above U+10FFFF.
 */
static size_t utf8_length(const unsigned char *bytes, size_t length)
{
    unsigned low = 0x80, high = 0xbf;
    size_t size;

    if (bytes[0] < 0x80)
        return 1;
    if (bytes[0] >= 0xc2 && bytes[0] <= 0xdf)
        size = 2;
    else if (bytes[0] >= 0xe0 && bytes[0] <= 0xef)
        size = 3;
    else if (bytes[0] >= 0xf0 && bytes[0] <= 0xf4)
        size = 4;
    else
        return 0;
    if (size > length)
        return 0;
    if (bytes[0] == 0xe0)
        low = 0xa0;
    else if (bytes[0] == 0xed)
        high = 0x9f;
    else if (bytes[0] == 0xf0)
        low = 0x90;
    else if (bytes[0] == 0xf4)
        high = 0x8f;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

void neap_str_json(struct neap_str *str, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    const unsigned char *end = at + length;

    neap_str_char(str, '"');
    while (at < end) {
        size_t size = utf8_length(at, (size_t)(end - at));

        if (size == 0) {
            neap_str_text(str, "\xef\xbf\xbd");
            size = 1;
        } else if (*at == '"' || *at == '\\') {
            neap_str_char(str, '\\');
            neap_str_char(str, (char)*at);
        } else if (*at < 0x20 || *at == 0x7f) {
            neap_str_format(str, "\\u%04x", *at);
        } else {
            neap_str_bytes(str, at, size);
        }
        at += size;
    }
    neap_str_char(str, '"');
}

void neap_str_clear(struct neap_str *str)
{
    str->length = 0;
    str->failed = false;
    if (str->data)
        str->data[0] = 0;
}

struct neap_error *neap_str_take(struct neap_str *str, char **ret)
{
    if (!reserve(str, 0))
        return NEAP_NO_MEMORY;
    str->data[str->length] = 0;
    *ret = neap_take(str->data);
    *str = (struct neap_str){0};
    return NULL;
}
