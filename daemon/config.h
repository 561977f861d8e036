/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of `neapd run`, from the environment and the command line.
 *
 * Each option has a variable NEAP_<NAME>; the command line wins. What this release
 * cannot do is refused by name: an option that is silently ignored is a wrong number.
 */
#ifndef NEAP_DAEMON_CONFIG_H
#define NEAP_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/base/error.h"
#include "schema/base/weigh.h"
#include "schema/wire/hello.h"
#include "schema/wire/ring.h"

/* What is recorded, and how. */
struct neap_settings {
    enum neap_policy policy;
    bool dormant;      /* nothing, until it is switched on */
    uint64_t interval; /* mean bytes between samples; 0 = every event */
    uint64_t max_size; /* bytes of single events to keep; the oldest go first */
};

/* "off", "exact", "sampled". */
const char *neap_mode_name(enum neap_mode mode);

/* What targets do with it at the start. */
enum neap_mode neap_settings_mode(const struct neap_settings *settings);

#define NEAP_MAX_SIZE_DEFAULT (2ull << 30)

/* Whose allocator serves CMD; told to targets in their environment. */
struct neap_allocator {
    bool neap;         /* libneap.so's own; false: the program's */
    const char *check; /* its level, "0" to "3"; NULL: nobody said */
    const char *error; /* what it does after a mistake, "abort" or "continue"; NULL */
};

struct neap_config {
    const char *output; /* NULL: made from the command's name */
    bool force;
    bool follow;
    bool quiet;
    struct neap_settings settings;
    struct neap_allocator allocator;
    char **command; /* NULL-terminated, within argv */
};

/* `argv` after the verb. Strings stay the caller's. Errors have code USAGE. */
struct neap_error *neap_config_parse(char **argv,
                                     struct neap_config *ret) NEAP_MUST_CHECK;

const char *neap_policy_name(enum neap_policy policy);

/* "512", "512K", "512KiB", "4G" in bytes. False: it is no such thing. */
bool neap_config_size(const char *text, uint64_t *ret);

#endif
