/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording file, as seen from the process that writes it. Of the database itself
 * the store knows everything and the ingest the rows; here they only meet.
 */
#include "daemon/recording.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/config.h"
#include "schema/base/cleanup.h"
#include "schema/base/str.h"
#include "schema/base/version.h"
#include "schema/store/store.h"

static struct neap_error *command_json(char **command, char **ret)
{
    neap_auto_str struct neap_str str = {0};

    neap_str_char(&str, '[');
    for (unsigned i = 0; command[i]; i++) {
        if (i)
            neap_str_text(&str, ", ");
        neap_str_json(&str, command[i], strlen(command[i]));
    }
    neap_str_char(&str, ']');
    return neap_str_take(&str, ret);
}

/* ISO 8601, with microseconds and Z. */
static void format_now(char *ret, size_t size)
{
    char seconds[64];
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &tm));
    snprintf(ret, size, "%s.%06uZ", seconds, (unsigned)(now.tv_nsec / 1000));
}

struct neap_error *neap_recording_init(struct neap_recording *recording,
                                       const struct neap_collect_config *config,
                                       const char *socket_path)
{
    neap_auto_free char *command = NULL;
    struct neap_recording_info info;
    struct neap_error *error;
    char start_utc[96];

    recording->path = config->output;
    error = command_json(config->command, &command);
    if (error)
        return error;
    error = neap_store_create(config->output, config->force, &recording->db);
    if (error)
        return error;
    format_now(start_utc, sizeof(start_utc));
    info = (struct neap_recording_info){
        .version = NEAP_VERSION,
        .command = command,
        .start_utc = start_utc,
        .policy = neap_policy_name(config->settings.policy),
        .socket = socket_path,
        .interval = config->settings.interval,
        .max_size = config->settings.max_size,
    };
    error = neap_ingest_create(recording->db, &info, &recording->ingest);
    if (error)
        return error;
    neap_ingest_switched(recording->ingest, 0,
                         neap_mode_name(neap_settings_mode(&config->settings)));
    return neap_ingest_commit(recording->ingest, 0);
}

void neap_recording_deinit(struct neap_recording *recording)
{
    neap_ingest_destroy(recording->ingest);
    neap_store_close(recording->db);
    recording->ingest = NULL;
    recording->db = NULL;
}

void neap_recording_remove(const char *path)
{
    static const char *const tails[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < NEAP_ARRAY_LEN(tails); i++) {
        neap_auto_free char *name = NULL;

        if (asprintf(&name, "%s%s", path, tails[i]) < 0)
            name = NULL;
        else
            unlink(name);
    }
}
