/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing and matching of suppressions.
 *
 * Patterns are matched without recursion and without backing further than to the
 * last star, so a hostile pattern costs length times length at most.
 *
 * The built-in list holds only memory that is reachable and in use until the process
 * ends, and whose owner cannot be told to give it back:
 *  - buffers of stdio's streams. A stream that was opened and never closed is still
 *    reported, by its own block.
 *  - what the dynamic loader itself allocates: its lists of loaded objects, their
 *    search paths and their threads' storage.
 *  - what libstdc++ sets aside at its start to throw exceptions without memory.
 */
#include "bindings/query/suppress.h"

#include <stdlib.h>
#include <string.h>

#include "schema/base/cleanup.h"

struct neap_suppress {
    char *text; /* every pattern, zero-terminated */
    const char **patterns;
    size_t count;
};

/* Does `name` match `pattern` up to `end`, both from their start to their end? */
static bool match_whole(const char *pattern, const char *end, const char *name)
{
    const char *star = NULL, *retry = NULL;

    for (;;) {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            retry = name;
        } else if (pattern < end && *name && *pattern == *name) {
            pattern++;
            name++;
        } else if (pattern == end && !*name) {
            return true;
        } else if (star && *retry) {
            pattern = star;
            name = ++retry;
        } else {
            return false;
        }
    }
}

/* Does some start of `name` match? */
static bool match_prefix(const char *pattern, const char *end, const char *name)
{
    const char *star = NULL, *retry = NULL;

    for (;;) {
        if (pattern == end)
            return true;
        if (*pattern == '*') {
            star = ++pattern;
            retry = name;
        } else if (*name && *pattern == *name) {
            pattern++;
            name++;
        } else if (star && *retry) {
            pattern = star;
            name = ++retry;
        } else {
            return false;
        }
    }
}

bool neap_suppress_glob(const char *pattern, const char *name)
{
    const char *end = pattern + strlen(pattern);
    bool from_start = *pattern == '^';
    bool to_end;

    if (from_start)
        pattern++;
    to_end = end > pattern && end[-1] == '$';
    if (to_end)
        end--;
    for (;; name++) {
        if (to_end ? match_whole(pattern, end, name) : match_prefix(pattern, end, name))
            return true;
        if (from_start || !*name)
            return false;
    }
}

/* Cut white space from both ends of a line that ends at `end`. */
static char *trim(char *line, char *end)
{
    while (end > line && strchr(" \t\r", end[-1]))
        end--;
    *end = '\0';
    return line + strspn(line, " \t\r");
}

static struct neap_error *parse_line(struct neap_suppress *suppress, char *line,
                                     size_t number)
{
    char *pattern;

    if (*line == '\0' || *line == '#')
        return NULL;
    if (strncmp(line, "leak:", 5) != 0)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "line %zu of the suppressions, '%.60s', is not of the "
                                 "form leak:PATTERN; correct or remove it",
                                 number, line);
    pattern = line + 5 + strspn(line + 5, " \t");
    if (pattern[strspn(pattern, "^$*")] == '\0')
        return neap_error_create(
            NEAP_ERROR_USAGE,
            "line %zu of the suppressions, '%.60s', would suppress "
            "every leak; name a function, file or module",
            number, line);
    suppress->patterns[suppress->count++] = pattern;
    return NULL;
}

struct neap_error *neap_suppress_create(const char *text, struct neap_suppress **ret)
{
    neap_auto(neap_suppress_guard) struct neap_suppress *suppress =
        calloc(1, sizeof(*suppress));
    size_t lines = 1, number = 1;
    char *line;

    if (!suppress || !(suppress->text = strdup(text)))
        return NEAP_NO_MEMORY;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    suppress->patterns = calloc(lines, sizeof(const char *));
    if (!suppress->patterns)
        return NEAP_NO_MEMORY;
    for (line = suppress->text; line; number++) {
        char *newline = strchr(line, '\n');
        char *start = trim(line, newline ? newline : line + strlen(line));
        struct neap_error *error = parse_line(suppress, start, number);

        if (error)
            return error;
        line = newline ? newline + 1 : NULL;
    }
    *ret = neap_take(suppress);
    return NULL;
}

void neap_suppress_destroy(struct neap_suppress *suppress)
{
    if (!suppress)
        return;
    free(suppress->patterns);
    free(suppress->text);
    free(suppress);
}

static bool match_name(const struct neap_suppress *suppress, const char *name)
{
    if (!name)
        return false;
    for (size_t i = 0; i < suppress->count; i++) {
        if (neap_suppress_glob(suppress->patterns[i], name))
            return true;
    }
    return false;
}

bool neap_suppress_match(const struct neap_suppress *suppress,
                         const struct neap_row *row)
{
    for (uint32_t i = 0; i < row->depth; i++) {
        const struct neap_frame *frame = row->frames[i];

        if (match_name(suppress, frame->function) ||
            match_name(suppress, frame->file) || match_name(suppress, frame->module))
            return true;
    }
    return false;
}

/* Is the frame's code in a file whose own name starts so? */
static bool is_in(const struct neap_row *row, uint32_t depth, const char *prefix)
{
    const char *module = depth < row->depth ? row->frames[depth]->module : NULL;
    const char *slash = module ? strrchr(module, '/') : NULL;

    if (!module)
        return false;
    return strncmp(slash ? slash + 1 : module, prefix, strlen(prefix)) == 0;
}

static bool is_loader(const struct neap_row *row, uint32_t depth)
{
    return is_in(row, depth, "ld-linux") || is_in(row, depth, "ld64.so") ||
           is_in(row, depth, "ld.so");
}

bool neap_suppress_builtin(const struct neap_row *row)
{
    const char *caller;

    if (row->depth == 0)
        return false;
    caller = row->frames[0]->function;
    /* Debug information knows it by the name it has inside of libc. */
    if (caller && (strcmp(caller, "_IO_file_doallocate") == 0 ||
                   strcmp(caller, "__GI__IO_file_doallocate") == 0))
        return is_in(row, 0, "libc.so");
    if (is_loader(row, 0))
        return true;
    return is_in(row, 0, "libstdc++.so") && is_loader(row, 1);
}
