/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_symbolizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/symbol/symbol.h"
#include "schema/attr.h"

#define NAMES_MAX   16u
#define MODULES_MAX 64u
#define OPEN_MAX    65536u
#define FRAMES_MAX  8u

static struct name {
    uint64_t offset;
    const char *functions;
} names[NAMES_MAX];
static unsigned name_count;
static bool held, failing;
static uint64_t asked;

/* There is one symbolizer at a time. */
struct neap_symbolizer {
    char modules[MODULES_MAX][64];
    uint32_t module_count;
    struct question {
        uint64_t token, offset;
        uint32_t module;
    } open[OPEN_MAX];
    uint32_t open_count;
};

static struct neap_symbolizer only;

void fake_symbolizer_reset(void)
{
    name_count = 0;
    asked = 0;
    held = failing = false;
}

void fake_symbolizer_name(uint64_t offset, const char *functions)
{
    if (name_count < NAMES_MAX)
        names[name_count++] = (struct name){offset, functions};
}

void fake_symbolizer_hold(bool hold)
{
    held = hold;
}

void fake_symbolizer_fail(bool fail)
{
    failing = fail;
}

uint64_t fake_symbolizer_asked(void)
{
    return asked;
}

struct neap_error *neap_symbolizer_create(struct neap_symbolizer **ret)
{
    if (failing)
        return NEAP_NO_MEMORY;
    only.module_count = only.open_count = 0;
    *ret = &only;
    return NULL;
}

void neap_symbolizer_destroy(struct neap_symbolizer *symbolizer)
{
    if (symbolizer)
        symbolizer->open_count = 0;
}

struct neap_error *neap_symbolizer_module(struct neap_symbolizer *symbolizer,
                                          const char *path, const uint8_t *build_id,
                                          uint32_t build_id_len, uint32_t *ret)
{
    (void)build_id;
    (void)build_id_len;
    if (failing || symbolizer->module_count == MODULES_MAX)
        return NEAP_NO_MEMORY;
    snprintf(symbolizer->modules[symbolizer->module_count], sizeof(only.modules[0]),
             "%.60s.c", path);
    *ret = symbolizer->module_count++;
    return NULL;
}

struct neap_error *neap_symbolizer_ask(struct neap_symbolizer *symbolizer,
                                       uint32_t module, uint64_t offset, uint64_t token)
{
    if (failing || symbolizer->open_count == OPEN_MAX)
        return NEAP_NO_MEMORY;
    symbolizer->open[symbolizer->open_count++] =
        (struct question){.token = token, .offset = offset, .module = module};
    asked++;
    return NULL;
}

static void reply(const struct neap_symbolizer *symbolizer,
                  const struct question *question,
                  void (*take)(void *context, const struct neap_symbol_answer *answer),
                  void *context)
{
    struct neap_symbol_frame frames[FRAMES_MAX];
    struct neap_symbol_answer answer = {.token = question->token, .frames = frames};
    char text[256], *at = text;

    snprintf(text, sizeof(text), "f_%" PRIx64, question->offset);
    for (unsigned i = 0; i < name_count; i++) {
        if (names[i].offset == question->offset)
            snprintf(text, sizeof(text), "%s", names[i].functions);
    }
    while (at && answer.count < FRAMES_MAX) {
        char *function = strsep(&at, "|");

        frames[answer.count++] = (struct neap_symbol_frame){
            .function = function[0] ? function : NULL,
            .file = function[0] ? symbolizer->modules[question->module] : NULL,
            .line = function[0] ? (uint32_t)question->offset : 0,
            .inlined = at != NULL};
    }
    take(context, &answer);
}

uint64_t neap_symbolizer_answers(struct neap_symbolizer *symbolizer, bool wait,
                                 void (*take)(void *context,
                                              const struct neap_symbol_answer *answer),
                                 void *context)
{
    if (held && !wait)
        return symbolizer->open_count;
    for (uint32_t i = 0; i < symbolizer->open_count; i++)
        reply(symbolizer, &symbolizer->open[i], take, context);
    symbolizer->open_count = 0;
    return 0;
}
