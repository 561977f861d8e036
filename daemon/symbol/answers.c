/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of answers, see answers.h.
 *
 *     answer   struct answer_head, then `count` frames
 *     frame    struct frame_head, function, NUL, file, NUL, zeros to a multiple of 8
 *
 * A text of length 0 stands for NULL.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/symbol/answers.h"

struct answer_head {
    uint64_t token;
    uint32_t count;
    uint32_t reserved;
};

struct frame_head {
    uint32_t line;
    uint16_t function_length;
    uint16_t file_length;
};

#define ROUND_UP(n) (((n) + 7u) & ~(size_t)7u)
#define FRAME_MAX \
    (sizeof(struct frame_head) + ROUND_UP(2u * (NEAP_ANSWER_TEXT_MAX + 1u)))
#define ANSWER_MAX (sizeof(struct answer_head) + NEAP_ANSWER_FRAMES_MAX * FRAME_MAX)
/* Only pages that are written to exist, and few answers are longer than a page. */
#define CAPACITY (ANSWER_MAX + (64u << 10))

bool neap_answers_init(struct neap_answers *answers)
{
    *answers = (struct neap_answers){.bytes = malloc(CAPACITY)};
    return answers->bytes != NULL;
}

void neap_answers_deinit(struct neap_answers *answers)
{
    free(answers->bytes);
    *answers = (struct neap_answers){0};
}

bool neap_answers_has_room(const struct neap_answers *answers)
{
    return CAPACITY - answers->used >= ANSWER_MAX;
}

void neap_answers_begin(struct neap_answers *answers, uint64_t token)
{
    struct answer_head head = {.token = token};

    memcpy(answers->bytes + answers->used, &head, sizeof(head));
    answers->write = answers->used + sizeof(head);
    answers->frames = 0;
}

/* Append as much of `text` as fits in `room`, never half a character of UTF-8. */
static size_t put_text(char *to, const char *text, size_t room)
{
    size_t length = strnlen(text, room + 1);

    if (length > room) {
        length = room;
        while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(to, text, length);
    return length;
}

/* A path, without the "/./" that build systems leave in theirs. */
static size_t put_path(char *to, const char *dir, const char *file)
{
    size_t length = 0;
    size_t out = 0;

    if (dir && *dir && *file != '/') {
        length = put_text(to, dir, NEAP_ANSWER_TEXT_MAX - 1);
        if (to[length - 1] != '/')
            to[length++] = '/';
    }
    length += put_text(to + length, file, NEAP_ANSWER_TEXT_MAX - length);
    for (size_t in = 0; in < length; in++) {
        while (in + 2 < length && memcmp(to + in, "/./", 3) == 0)
            in += 2;
        to[out++] = to[in];
    }
    return out;
}

void neap_answers_frame(struct neap_answers *answers, const char *function,
                        const char *dir, const char *file, uint32_t line)
{
    struct frame_head head = {.line = line};
    char *at = answers->bytes + answers->write;
    char *text = at + sizeof(head);
    size_t length;

    if (answers->frames == NEAP_ANSWER_FRAMES_MAX)
        return;
    if (function)
        head.function_length = (uint16_t)put_text(text, function, NEAP_ANSWER_TEXT_MAX);
    text += head.function_length;
    *text++ = '\0';
    if (file && *file)
        head.file_length = (uint16_t)put_path(text, dir, file);
    text += head.file_length;
    *text++ = '\0';
    length = (size_t)(text - at);
    memset(text, 0, ROUND_UP(length) - length);
    memcpy(at, &head, sizeof(head));
    answers->write += ROUND_UP(length);
    answers->frames++;
}

void neap_answers_end(struct neap_answers *answers)
{
    struct answer_head head;

    if (answers->frames == 0)
        neap_answers_frame(answers, NULL, NULL, NULL, 0);
    memcpy(&head, answers->bytes + answers->used, sizeof(head));
    head.count = answers->frames;
    memcpy(answers->bytes + answers->used, &head, sizeof(head));
    answers->used = answers->write;
}

static const char *read_frame(const char *at, struct neap_symbol_frame *ret)
{
    struct frame_head head;
    const char *text = at + sizeof(head);
    size_t length;

    memcpy(&head, at, sizeof(head));
    ret->line = head.line;
    ret->function = head.function_length ? text : NULL;
    text += head.function_length + 1u;
    ret->file = head.file_length ? text : NULL;
    length = (size_t)(text + head.file_length + 1u - at);
    return at + ROUND_UP(length);
}

uint64_t neap_answers_take(struct neap_answers *answers,
                           void (*take)(void *context,
                                        const struct neap_symbol_answer *answer),
                           void *context)
{
    struct neap_symbol_frame frames[NEAP_ANSWER_FRAMES_MAX];
    const char *at = answers->bytes;
    const char *end = answers->bytes + answers->used;
    uint64_t count = 0;

    while (at < end) {
        struct neap_symbol_answer answer = {.frames = frames};
        struct answer_head head;

        memcpy(&head, at, sizeof(head));
        at += sizeof(head);
        for (uint32_t i = 0; i < head.count; i++) {
            at = read_frame(at, &frames[i]);
            frames[i].inlined = i + 1 < head.count;
        }
        answer.token = head.token;
        answer.count = head.count;
        take(context, &answer);
        count++;
    }
    answers->used = 0;
    return count;
}
