/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A string that grows. Appending returns nothing: the first append that finds no
 * memory marks the string as failed, the later ones do nothing, and neap_str_take
 * says so at the end. One check a string, not one a word.
 *
 * A zeroed struct is an empty string. `data` is NUL-terminated once it is not NULL;
 * `length` does not count the NUL.
 */
#ifndef NEAP_SCHEMA_BASE_STR_H
#define NEAP_SCHEMA_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "schema/attr.h"
#include "schema/base/cleanup.h"
#include "schema/base/error.h"

struct neap_str {
    char *data; /* the string's own until it is taken */
    size_t length;
    size_t capacity;
    bool failed;
};

void neap_str_deinit(struct neap_str *str);
#define neap_auto_str neap_auto(neap_str_deinit)

/* Append. */
void neap_str_bytes(struct neap_str *str, const void *bytes, size_t length);
void neap_str_text(struct neap_str *str, const char *text);
void neap_str_char(struct neap_str *str, char c);
void neap_str_format(struct neap_str *str, const char *format, ...) NEAP_PRINTF(2, 3);

/*
 * Append `length` bytes as one JSON string, quotes included. JSON is text and names
 * of files are bytes: what is no UTF-8 becomes U+FFFD, so that any reader takes the
 * result. ASCII control characters are escaped.
 */
void neap_str_json(struct neap_str *str, const void *bytes, size_t length);

/* Forget the text and a failure, keep the memory. */
void neap_str_clear(struct neap_str *str);

/*
 * Hand the text over: the caller frees `*ret`, the string is empty again. An empty
 * string is "", never NULL. NEAP_NO_MEMORY if any append failed.
 */
struct neap_error *neap_str_take(struct neap_str *str, char **ret) NEAP_MUST_CHECK;

#endif
