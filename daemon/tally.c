/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tally. Numbers as they are, sizes in IEC units; what was lost stands beside
 * them and says what it makes of them. The next commands can be copied as they stand.
 */
#include "daemon/tally.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/log.h"
#include "schema/base/cleanup.h"

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

static void say_numbers(const struct neap_tally *tally)
{
    char allocated[NEAP_SIZE_TEXT], peak[NEAP_SIZE_TEXT], live[NEAP_SIZE_TEXT];

    neap_log("%" PRIu64 " allocation%s, %s in all", tally->alloc_count,
             plural(tally->alloc_count), neap_size_text(tally->alloc_bytes, allocated));
    neap_log("peak %s%s", neap_size_text(tally->peak_bytes, peak),
             tally->processes > 1 ? ", the processes' own peaks added up" : "");
    neap_log("never freed: %" PRIu64 " block%s, %s", tally->live_count,
             plural(tally->live_count), neap_size_text(tally->live_bytes, live));
}

void neap_tally_say(const struct neap_tally *tally, const char *output)
{
    neap_auto_free char *word = quote(output);

    if (!tally->processes) {
        neap_log("no process could be recorded: libneap.so was not loaded, or could "
                 "not connect; try `neap doctor`");
    } else {
        if (tally->processes > 1)
            neap_log("%" PRIu64 " processes recorded", tally->processes);
        say_numbers(tally);
    }
    if (tally->lost_events)
        neap_log("%" PRIu64 " event%s lost: totals are lower bounds",
                 tally->lost_events, plural(tally->lost_events));
    if (tally->running)
        neap_log("%" PRIu64 " process%s still run%s; recording goes on", tally->running,
                 tally->running == 1 ? "" : "es", tally->running == 1 ? "s" : "");
    if (!word || !tally->processes)
        return;
    neap_log("written to %s; next:", output);
    neap_log("  neap report %s", word);
    neap_log("  neap leaks %s", word);
}
