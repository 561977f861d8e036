/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tally. Numbers as they are, sizes in IEC units; what was lost stands beside
 * them and says what it makes of them. The next commands can be copied as they stand.
 */
#include "daemon/tally.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"
#include "schema/attr.h"
#include "schema/base/cleanup.h"
#include "schema/base/weigh.h"

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* `path` as a word of a shell, in fresh memory; NULL without memory. */
static char *quote(const char *path)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                        "_-./+,:@%";
    char *word, *to;

    if (*path && path[strspn(path, plain)] == 0)
        return strdup(path);
    word = malloc(4 * strlen(path) + 3);
    if (!word)
        return NULL;
    to = word;
    *to++ = '\'';
    for (; *path; path++) {
        if (*path == '\'')
            to = stpcpy(to, "'\\'");
        *to++ = *path;
    }
    *to++ = '\'';
    *to = 0;
    return word;
}

#define BYTES_TEXT (2 * NEAP_SIZE_TEXT + 8)

/* "3.2 MiB", of samples "3.2 MiB ± 410.0 KiB". */
static const char *bytes_text(uint64_t bytes, double variance, uint64_t interval,
                              char buffer[BYTES_TEXT])
{
    char value[NEAP_SIZE_TEXT], width[NEAP_SIZE_TEXT];

    if (!interval)
        return neap_size_text(bytes, buffer);
    snprintf(buffer, BYTES_TEXT, "%s ± %s", neap_size_text(bytes, value),
             neap_size_text((uint64_t)neap_ci95(variance, interval), width));
    return buffer;
}

static void say_numbers(const struct neap_tally *tally)
{
    const char *about = tally->interval ? "about " : "";
    char allocated[BYTES_TEXT], peak[BYTES_TEXT], live[BYTES_TEXT], every[BYTES_TEXT];

    if (tally->interval)
        neap_log("sampled, one in every %s on average; ± is the 95 %% interval",
                 neap_size_text(tally->interval, every));
    neap_log("%s%" PRIu64 " allocation%s, %s in all", about, tally->alloc_count,
             plural(tally->alloc_count),
             bytes_text(tally->alloc_bytes, tally->alloc_variance, tally->interval,
                        allocated));
    neap_log("peak %s%s",
             bytes_text(tally->peak_bytes, tally->peak_variance, tally->interval, peak),
             tally->programs > tally->processes ? ", the programs' own peaks added up"
             : tally->processes > 1             ? ", the processes' own peaks added up"
                                                : "");
    neap_log(
        "never freed: %s%" PRIu64 " block%s, %s", about, tally->live_count,
        plural(tally->live_count),
        bytes_text(tally->live_bytes, tally->live_variance, tally->interval, live));
}

static void say_processes(const struct neap_tally *tally)
{
    const char *ending = tally->processes == 1 ? "" : "es";

    if (tally->programs > tally->processes)
        neap_log("%" PRIu64 " process%s recorded (%" PRIu64 " programs, by exec)",
                 tally->processes, ending, tally->programs);
    else if (tally->processes > 1)
        neap_log("%" PRIu64 " process%s recorded", tally->processes, ending);
}

/* What is missing, in one line; the kind says whether totals miss something, too. */
static void say_losses(const struct neap_tally *tally)
{
    static const struct {
        enum neap_loss_what what;
        const char *one, *many;
    } kinds[] = {
        {NEAP_LOSS_PROCESS, "process that was not recorded",
         "processes that were not recorded"},
        {NEAP_LOSS_EVENTS, "event", "events"},
        {NEAP_LOSS_SAMPLES, "sample that found no room", "samples that found no room"},
        {NEAP_LOSS_LANES, "event of a thread without a lane",
         "events of threads without a lane"},
        {NEAP_LOSS_ORDER, "event that was waited for in vain",
         "events that were waited for in vain"},
        {NEAP_LOSS_CORRUPT, "corrupt record", "corrupt records"},
        {NEAP_LOSS_STORE, "row that could not be stored",
         "rows that could not be stored"},
        {NEAP_LOSS_STACKS, "stack", "stacks"},
    };
    char text[512] = "";
    bool lower = false;

    static_assert(NEAP_ARRAY_LEN(kinds) == NEAP_LOSS_COUNT, "a kind without words");
    for (size_t i = 0; i < NEAP_ARRAY_LEN(kinds); i++) {
        uint64_t count = tally->lost[kinds[i].what];
        size_t length = strlen(text);

        if (!count)
            continue;
        snprintf(text + length, sizeof(text) - length, "%s%" PRIu64 " %s",
                 length ? ", " : "", count, count == 1 ? kinds[i].one : kinds[i].many);
        lower |= kinds[i].what != NEAP_LOSS_STACKS;
    }
    if (text[0])
        neap_log("lost: %s%s", text, lower ? "; totals miss them" : "");
}

void neap_tally_say(const struct neap_tally *tally, const char *output, bool dormant)
{
    neap_auto_free char *word = quote(output);

    if (!tally->programs) {
        neap_log("no process could be recorded: libneap.so was not loaded, or could "
                 "not connect; try `neap doctor`");
    } else {
        say_processes(tally);
        if (dormant && !tally->alloc_count)
            neap_log("nothing was recorded: it was never switched on, or nothing was "
                     "allocated meanwhile");
        else
            say_numbers(tally);
        if (tally->switched && tally->alloc_count)
            neap_log("switched on for %.3g s; what was allocated else is not known",
                     (double)tally->on_ns / 1e9);
    }
    say_losses(tally);
    if (tally->errors && word)
        neap_log("%" PRIu64 " memory error%s, see: neap errors %s", tally->errors,
                 plural(tally->errors), word);
    if (tally->running)
        neap_log("%" PRIu64 " process%s still run%s; recording goes on", tally->running,
                 tally->running == 1 ? "" : "es", tally->running == 1 ? "s" : "");
    if (!word || !tally->programs)
        return;
    neap_log("written to %s; next:", output);
    neap_log("  neap report %s", word);
    neap_log("  neap leaks %s", word);
}
