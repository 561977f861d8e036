/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options. Accepted as `--name VALUE` and `--name=VALUE`; everything after `--`, or
 * from the first word that is no option, is the command.
 */
#include "daemon/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELP_HINT "; see neap run --help"

const char *neap_policy_name(enum neap_policy policy)
{
    return policy == NEAP_POLICY_ADAPT  ? "adapt"
           : policy == NEAP_POLICY_DROP ? "drop"
                                        : "block";
}

const char *neap_mode_name(enum neap_mode mode)
{
    return mode == NEAP_MODE_OFF     ? "off"
           : mode == NEAP_MODE_EXACT ? "exact"
                                     : "sampled";
}

enum neap_mode neap_settings_mode(const struct neap_settings *settings)
{
    if (settings->dormant)
        return NEAP_MODE_OFF;
    return settings->interval ? NEAP_MODE_SAMPLED : NEAP_MODE_EXACT;
}

bool neap_config_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    const char *unit;
    uint64_t value;
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno)
        return false;
    unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit) {
        unsigned shift = 10u * (unsigned)(unit - units + 1);

        if (value > UINT64_MAX >> shift)
            return false;
        value <<= shift;
        end++;
        end += *end == 'i' && end[1] == 'B';
    }
    end += *end == 'B';
    if (*end)
        return false;
    *ret = value;
    return true;
}

static struct neap_error *later(const char *option, const char *value)
{
    return neap_error_create(NEAP_ERROR_USAGE,
                             "--%s %s is not part of this release" HELP_HINT, option,
                             value);
}

static struct neap_error *bad(const char *option, const char *value, const char *choice)
{
    return neap_error_create(NEAP_ERROR_USAGE, "--%s takes %s, not '%s'" HELP_HINT,
                             option, choice, value);
}

static struct neap_error *set_output(struct neap_config *config, const char *value)
{
    if (!*value)
        return bad("output", value, "the name of a file");
    config->output = value;
    return NULL;
}

static struct neap_error *set_policy(struct neap_config *config, const char *value)
{
    if (strcmp(value, "block") == 0)
        config->settings.policy = NEAP_POLICY_BLOCK;
    else if (strcmp(value, "drop") == 0)
        config->settings.policy = NEAP_POLICY_DROP;
    else if (strcmp(value, "adapt") == 0)
        config->settings.policy = NEAP_POLICY_ADAPT;
    else
        return bad("policy", value, "block, drop or adapt");
    return NULL;
}

static struct neap_error *set_interval(struct neap_config *config, const char *value)
{
    uint64_t bytes = 0;

    if (strcmp(value, "exact") != 0 &&
        (!neap_config_size(value, &bytes) || bytes == 0 || bytes > NEAP_INTERVAL_MAX))
        return bad("interval", value,
                   "exact, or the mean bytes between samples such as 512K (1 to 1T)");
    config->settings.interval = bytes;
    return NULL;
}

static struct neap_error *set_max_size(struct neap_config *config, const char *value)
{
    if (!neap_config_size(value, &config->settings.max_size) ||
        config->settings.max_size > INT64_MAX)
        return bad("max-size", value, "bytes such as 500M, or 0 to keep no events");
    return NULL;
}

static struct neap_error *set_allocator(struct neap_config *config, const char *value)
{
    config->allocator.neap = strcmp(value, "neap") == 0;
    if (config->allocator.neap || strcmp(value, "app") == 0)
        return NULL;
    return bad("allocator", value, "app (the program's own) or neap");
}

static struct neap_error *set_heap_check(struct neap_config *config, const char *value)
{
    if (value[0] < '0' || value[0] > '3' || value[1])
        return bad("heap-check", value, "a level from 0 to 3");
    config->allocator.check = value;
    return NULL;
}

static struct neap_error *set_heap_error(struct neap_config *config, const char *value)
{
    if (strcmp(value, "continue") != 0 && strcmp(value, "abort") != 0)
        return bad("heap-error", value, "continue or abort");
    config->allocator.error = value;
    return NULL;
}

static struct neap_error *set_off(const char *option, const char *value)
{
    if (strcmp(value, "auto") == 0 || strcmp(value, "off") == 0)
        return NULL;
    return later(option, value);
}

static struct neap_error *set_faults(struct neap_config *config, const char *value)
{
    (void)config;
    return set_off("faults", value);
}

static struct neap_error *set_census(struct neap_config *config, const char *value)
{
    (void)config;
    return set_off("census", value);
}

static struct neap_error *set_python(struct neap_config *config, const char *value)
{
    (void)config;
    return set_off("python", value);
}

static struct neap_error *set_bool(bool *ret, const char *option, const char *value)
{
    if (strcmp(value, "1") == 0 || strcmp(value, "yes") == 0 ||
        strcmp(value, "on") == 0 || strcmp(value, "true") == 0)
        *ret = true;
    else if (strcmp(value, "0") == 0 || strcmp(value, "no") == 0 ||
             strcmp(value, "off") == 0 || strcmp(value, "false") == 0 || !*value)
        *ret = false;
    else
        return bad(option, value, "1 or 0");
    return NULL;
}

static struct neap_error *set_force(struct neap_config *config, const char *value)
{
    return set_bool(&config->force, "force", value);
}

static struct neap_error *set_follow(struct neap_config *config, const char *value)
{
    return set_bool(&config->follow, "follow", value);
}

static struct neap_error *set_dormant(struct neap_config *config, const char *value)
{
    return set_bool(&config->settings.dormant, "dormant", value);
}

static struct neap_error *set_quiet(struct neap_config *config, const char *value)
{
    return set_bool(&config->quiet, "quiet", value);
}

static const struct option {
    const char *name;
    char letter;
    const char *variable;
    const char *flag; /* the value of a word that takes none; NULL: takes one */
    struct neap_error *(*set)(struct neap_config *config, const char *value);
} options[] = {
    {"output", 'o', "NEAP_OUTPUT", NULL, set_output},
    {"force", 'f', "NEAP_FORCE", "1", set_force},
    {"policy", 0, "NEAP_POLICY", NULL, set_policy},
    {"follow", 0, "NEAP_FOLLOW", "1", set_follow},
    {"no-follow", 0, NULL, "0", set_follow},
    {"quiet", 'q', "NEAP_QUIET", "1", set_quiet},
    {"interval", 0, "NEAP_INTERVAL", NULL, set_interval},
    {"dormant", 0, "NEAP_DORMANT", "1", set_dormant},
    {"max-size", 0, "NEAP_MAX_SIZE", NULL, set_max_size},
    {"allocator", 0, NEAP_ENV_ALLOCATOR, NULL, set_allocator},
    {"heap-check", 0, NEAP_ENV_CHECK, NULL, set_heap_check},
    {"heap-error", 0, NEAP_ENV_ERROR, NULL, set_heap_error},
    {"faults", 0, "NEAP_FAULTS", NULL, set_faults},
    {"census", 0, "NEAP_CENSUS", NULL, set_census},
    {"python", 0, "NEAP_PYTHON", NULL, set_python},
};

static struct neap_error *read_environment(struct neap_config *config)
{
    for (size_t i = 0; i < NEAP_ARRAY_LEN(options); i++) {
        const char *value = options[i].variable ? getenv(options[i].variable) : NULL;
        struct neap_error *error;

        if (!value || !*value)
            continue;
        error = options[i].set(config, value);
        if (error) {
            struct neap_error *told =
                neap_error_create(NEAP_ERROR_USAGE, "%s in the environment: %s",
                                  options[i].variable, error->message);

            neap_error_destroy(error);
            return told;
        }
    }
    return NULL;
}

/* The option that `word` names, with the value behind its '=', if there is one. */
static const struct option *find_option(const char *word, const char **ret_value)
{
    size_t length = strcspn(word, "=");

    *ret_value = NULL;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(options); i++) {
        const struct option *option = &options[i];

        if (strncmp(word, "--", 2) == 0) {
            if (strlen(option->name) + 2 != length ||
                strncmp(word + 2, option->name, length - 2) != 0)
                continue;
            *ret_value = word[length] ? word + length + 1 : NULL;
            return option;
        }
        if (option->letter && word[1] == option->letter) {
            *ret_value = word[2] ? word + 2 : NULL;
            return option;
        }
    }
    return NULL;
}

/* Apply the option at `*argv` and move past it. */
static struct neap_error *read_option(struct neap_config *config, char ***argv)
{
    const char *word = **argv;
    const char *value;
    const struct option *option = find_option(word, &value);

    if (!option)
        return neap_error_create(NEAP_ERROR_USAGE, "unknown option '%s'" HELP_HINT,
                                 word);
    ++*argv;
    if (option->flag) {
        if (value)
            return neap_error_create(NEAP_ERROR_USAGE, "--%s takes no value" HELP_HINT,
                                     option->name);
        return option->set(config, option->flag);
    }
    if (!value) {
        value = *(*argv)++;
        if (!value)
            return neap_error_create(NEAP_ERROR_USAGE, "--%s needs a value" HELP_HINT,
                                     option->name);
    }
    return option->set(config, value);
}

/* What makes no sense together. */
static struct neap_error *check_whole(const struct neap_config *config)
{
    const struct neap_allocator *allocator = &config->allocator;

    if (config->settings.policy == NEAP_POLICY_ADAPT && !config->settings.interval)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "--policy adapt raises the interval between samples, "
                                 "and exact recording has none: add --interval 512K, "
                                 "or choose block or drop" HELP_HINT);
    if (!allocator->neap && (allocator->check || allocator->error))
        return neap_error_create(
            NEAP_ERROR_USAGE,
            "--heap-%s is for Neaptide's own allocator, and the "
            "program keeps its own: add --allocator neap" HELP_HINT,
            allocator->check ? "check" : "error");
    return NULL;
}

struct neap_error *neap_config_parse(char **argv, struct neap_config *ret)
{
    struct neap_config config = {
        .follow = true,
        .settings = {.policy = NEAP_POLICY_BLOCK, .max_size = NEAP_MAX_SIZE_DEFAULT}};
    struct neap_error *error = read_environment(&config);

    while (!error && *argv && (*argv)[0] == '-' && (*argv)[1]) {
        if (strcmp(*argv, "--") == 0) {
            argv++;
            break;
        }
        error = read_option(&config, &argv);
    }
    if (error)
        return error;
    if (!*argv)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "no command to record: neap run -- CMD [ARG...]");
    error = check_whole(&config);
    if (error)
        return error;
    config.command = argv;
    *ret = config;
    return NULL;
}
