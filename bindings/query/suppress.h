/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which leaks nobody wants to hear of: suppression files in LeakSanitizer's syntax,
 * and a short list of what the C and C++ runtimes keep until the end on purpose.
 *
 *     # a comment
 *     leak:PATTERN
 *
 * A pattern matches a stack when it matches the function, the file or the module of
 * any of its frames. It may stand anywhere in the name; ^ at its start and $ at its
 * end tie it to the name's, * stands for anything.
 */
#ifndef NEAP_BINDINGS_QUERY_SUPPRESS_H
#define NEAP_BINDINGS_QUERY_SUPPRESS_H

#include "bindings/query/query.h"

struct neap_suppress;

/* Errors: USAGE, which names the line. */
struct neap_error *neap_suppress_create(const char *text,
                                        struct neap_suppress **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_suppress_destroy(struct neap_suppress *suppress);

bool neap_suppress_match(const struct neap_suppress *suppress,
                         const struct neap_row *row);
/* Does the runtime keep what this stack allocated? */
bool neap_suppress_builtin(const struct neap_row *row);

/* One pattern against one name. */
bool neap_suppress_glob(const char *pattern, const char *name);

static inline void neap_suppress_guard(struct neap_suppress **suppress)
{
    neap_suppress_destroy(*suppress);
}

#endif
