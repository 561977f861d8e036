/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of addresses, sorted, and which of them hold an address. Symbols, units,
 * functions and sections are all looked up this way.
 *
 * `reach` is the greatest end among a span and all before it, so a search that walks
 * back from the last start at or below the address knows when to stop. Of spans that
 * hold an address the one with the greatest start comes first, and of these the
 * shortest. Spans may nest and overlap. A span whose end is its start holds nothing.
 */
#ifndef NEAP_DAEMON_SYMBOL_SPAN_H
#define NEAP_DAEMON_SYMBOL_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/base/vec.h"

struct neap_span {
    uint64_t low;
    uint64_t high; /* the first address behind it */
    uint64_t reach;
    uint64_t value; /* the owner's */
};

struct neap_spans {
    NEAP_VEC(struct neap_span) vec;
};

/* Append; sort before the next search. False: no memory. */
bool neap_spans_add(struct neap_spans *spans, uint64_t low, uint64_t high,
                    uint64_t value);
void neap_spans_sort(struct neap_spans *spans);
void neap_spans_deinit(struct neap_spans *spans);

/* How many spans start at or below `address`: the last of them is one less. */
size_t neap_spans_below(const struct neap_spans *spans, uint64_t address);

/*
 * The next span that holds `address`, innermost first; NULL: no more. `*cursor` is
 * neap_spans_below() at the start. The walk back is bounded: a table made to be slow
 * gives fewer answers, not longer waits.
 */
const struct neap_span *neap_spans_next(const struct neap_spans *spans,
                                        uint64_t address, size_t *cursor);

/* The innermost span that holds `address`, or NULL. */
const struct neap_span *neap_spans_find(const struct neap_spans *spans,
                                        uint64_t address);

#endif
