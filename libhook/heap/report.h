/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mistake of the program's is told: one line on standard error, then the observer,
 * then, where that is asked for, abort(). Nothing here allocates; errno stays.
 */
#ifndef NEAP_LIBHOOK_HEAP_REPORT_H
#define NEAP_LIBHOOK_HEAP_REPORT_H

#include "libhook/heap/heap.h"

void neap_report_begin(const struct neap_heap_options *options);

/* Caller holds no lock, as what it calls may be the program's: a handler of SIGABRT. */
void neap_report(const struct neap_heap_error *error);

/* Under the lock: kept until somebody calls the other without it. Of more than a few
 * at a time the later ones are left out: they are of one span, and one mistake. */
void neap_report_later(const struct neap_heap_error *error);
void neap_report_kept(void);

/* One of the invariants of types.h does not hold. */
void neap_report_damage(const char *words);

/* The observer's token for the stack of the call under way; 0: none. */
uint64_t neap_report_stack(void);

/* A text of one or more lines, made without stdio. What has no room is left out. */
struct neap_text {
    char *at, *end;
};
void neap_text_add(struct neap_text *text, const char *words);
void neap_text_number(struct neap_text *text, uint64_t value);
void neap_text_address(struct neap_text *text, uint64_t address);
/* To standard error. */
void neap_text_say(const char *from, const struct neap_text *text);

#endif
