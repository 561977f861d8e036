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

#include "schema/base/error.h"
#include "schema/wire/hello.h"

struct neap_config {
    const char *output; /* NULL: made from the command's name */
    bool force;
    bool follow;
    bool quiet;
    enum neap_policy policy;
    char **command; /* NULL-terminated, within argv */
};

/* `argv` after the verb. Strings stay the caller's. Errors have code USAGE. */
struct neap_error *neap_config_parse(char **argv,
                                     struct neap_config *ret) NEAP_MUST_CHECK;

const char *neap_policy_name(enum neap_policy policy);

#endif
