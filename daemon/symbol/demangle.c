/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readable names, see demangle.h.
 *
 * A Rust name of the older scheme is _ZN, counted words, E, where the last word is
 * 17h and 16 hexadecimal digits of a hash. In the words, $LT$ stands for <, $u7e$ for
 * the character with that number, and .. for ::.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/symbol/demangle.h"
#include "schema/attr.h"
#include "schema/base/cleanup.h"

#define NAME_MAX_LENGTH 65536u /* longer ones are not worth the time */
#define RUST_TAIL       20u    /* 17h, 16 digits, E */

/* Of the C++ ABI; the header that declares it is C++. */
char *__cxa_demangle(const char *name, char *buffer, size_t *length, int *status);

bool neap_demangle_applies(const char *name)
{
    return strncmp(name, "_Z", 2) == 0 || strncmp(name, "_R", 2) == 0;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Length up to and with the E of a Rust name, 0 if it is none. */
static size_t rust_length(const char *name)
{
    const char *at = name;

    if (strncmp(name, "_ZN", 3) != 0)
        return 0;
    while ((at = strstr(at, "17h")) != NULL) {
        size_t digits = 0;

        while (digits < 16 && is_hex(at[3 + digits]))
            digits++;
        if (digits == 16 && at[19] == 'E' && (at[20] == '\0' || at[20] == '.'))
            return (size_t)(at - name) + RUST_TAIL;
        at += 3;
    }
    return 0;
}

/* One $…$ at `from` as a character; how many bytes it took, 0 if it is none. */
static size_t rust_escape(const char *from, char *ret)
{
    static const struct {
        const char *word;
        char c;
    } words[] = {
        {"$SP$", '@'}, {"$BP$", '*'}, {"$RF$", '&'}, {"$LT$", '<'},
        {"$GT$", '>'}, {"$LP$", '('}, {"$RP$", ')'}, {"$C$", ','},
    };
    char *end;
    unsigned long code;

    for (size_t i = 0; i < NEAP_ARRAY_LEN(words); i++) {
        if (strncmp(from, words[i].word, strlen(words[i].word)) == 0) {
            *ret = words[i].c;
            return strlen(words[i].word);
        }
    }
    if (strncmp(from, "$u", 2) != 0 || !is_hex(from[2]))
        return 0;
    code = strtoul(from + 2, &end, 16);
    if (*end != '$' || code < 0x20 || code > 0x7e)
        return 0;
    *ret = (char)code;
    return (size_t)(end + 1 - from);
}

/* In place: the text only gets shorter. */
static void rust_unescape(char *text)
{
    const char *from = text;
    char *to = text;
    bool word_start = true;

    while (*from) {
        size_t taken = 0;
        char c = *from;

        if (word_start && from[0] == '_' && from[1] == '$')
            from++;
        word_start = false;
        if (*from == '$')
            taken = rust_escape(from, &c);
        if (taken) {
            *to++ = c;
            from += taken;
        } else if (from[0] == '.' && from[1] == '.') {
            *to++ = ':';
            *to++ = ':';
            from += 2;
        } else {
            word_start = *from == ':';
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static char *rust_demangle(const char *name, size_t length)
{
    neap_auto_free char *copy = strndup(name, length);
    char *text;
    char *hash;
    int status;

    if (!copy)
        return NULL;
    text = __cxa_demangle(copy, NULL, NULL, &status);
    if (!text)
        return NULL;
    hash = strrchr(text, ':');
    if (hash && hash > text && hash[-1] == ':' && hash[1] == 'h' &&
        strlen(hash + 2) == 16)
        hash[-1] = '\0';
    rust_unescape(text);
    return text;
}

char *neap_demangle(const char *name)
{
    size_t length;
    int status;

    if (strncmp(name, "_Z", 2) != 0 ||
        strnlen(name, NAME_MAX_LENGTH) == NAME_MAX_LENGTH)
        return NULL;
    length = rust_length(name);
    if (length)
        return rust_demangle(name, length);
    return __cxa_demangle(name, NULL, NULL, &status);
}
