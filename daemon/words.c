/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the launcher tells the collector, as words of its command line: those of
 * collect.h, there and back.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/collect.h"

void neap_collect_words(const struct neap_collect_config *config,
                        char text[NEAP_COLLECT_TEXT], char *ret[NEAP_COLLECT_WORDS])
{
    const struct neap_settings *settings = &config->settings;

    snprintf(text, NEAP_COLLECT_TEXT, "%d,%d,%" PRIu64 ",%" PRIu64, settings->policy,
             settings->dormant, settings->interval, settings->max_size);
    ret[0] = (char *)config->directory;
    ret[1] = (char *)config->output;
    ret[2] = config->force ? "force" : "new";
    ret[3] = config->follow ? "follow" : "alone";
    ret[4] = text;
    ret[5] = "--";
}

/* The number at `*at`, and past the comma behind it. */
static uint64_t next_number(char **at)
{
    uint64_t value = strtoull(*at, at, 10);

    *at += **at == ',';
    return value;
}

bool neap_collect_parse(char **words, struct neap_collect_config *ret)
{
    char *at;

    for (unsigned i = 0; i < NEAP_COLLECT_WORDS; i++) {
        if (!words[i])
            return false;
    }
    *ret = (struct neap_collect_config){
        .directory = words[0],
        .output = words[1],
        .force = strcmp(words[2], "force") == 0,
        .follow = strcmp(words[3], "follow") == 0,
        .command = words + NEAP_COLLECT_WORDS,
    };
    at = words[4];
    ret->settings.policy = (enum neap_policy)next_number(&at);
    ret->settings.dormant = next_number(&at) != 0;
    ret->settings.interval = next_number(&at);
    ret->settings.max_size = next_number(&at);
    return strcmp(words[5], "--") == 0 && *at == '\0' &&
           ret->settings.policy >= NEAP_POLICY_BLOCK &&
           ret->settings.policy <= NEAP_POLICY_ADAPT;
}
