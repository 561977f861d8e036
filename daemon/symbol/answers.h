/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers on their way from the worker to the caller: a block of bytes of fixed
 * size, written whole by one thread and then read whole by the other.
 *
 * Fixed, so that answering never needs memory: a full block is handed over before
 * the next answer begins. There is always room for the longest answer there can be:
 * names and paths are cut at NEAP_ANSWER_TEXT_MAX bytes, frames at
 * NEAP_ANSWER_FRAMES_MAX. An answer is begun, gets its frames, and is ended; one
 * that was not ended can be dropped and leaves no trace.
 */
#ifndef NEAP_DAEMON_SYMBOL_ANSWERS_H
#define NEAP_DAEMON_SYMBOL_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/symbol/symbol.h"

#define NEAP_ANSWER_FRAMES_MAX 128u
#define NEAP_ANSWER_TEXT_MAX   4095u

struct neap_answers {
    char *bytes;
    size_t used;  /* whole answers */
    size_t write; /* with those of the answer being written */
    uint32_t frames;
};

bool neap_answers_init(struct neap_answers *answers);
void neap_answers_deinit(struct neap_answers *answers);

/* Whether the longest answer still fits. */
bool neap_answers_has_room(const struct neap_answers *answers);

/* Forgets an answer that was begun and not ended. */
void neap_answers_begin(struct neap_answers *answers, uint64_t token);
/* `dir` is put before a relative `file`. Any of the texts may be NULL. */
void neap_answers_frame(struct neap_answers *answers, const char *function,
                        const char *dir, const char *file, uint32_t line);
/* Marks all frames but the last as inlined; an answer without frames gets an empty. */
void neap_answers_end(struct neap_answers *answers);

/* Read them all and be empty. Returns how many there were. */
uint64_t neap_answers_take(struct neap_answers *answers,
                           void (*take)(void *context,
                                        const struct neap_symbol_answer *answer),
                           void *context);

#endif
