/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where events come from, seen from where they go.
 *
 * A source reads what a target left (lanes today), settles its order and hands it to
 * a sink, one decoded record at a time. A source knows neither the store nor the
 * ingest; a sink neither shared memory nor the kernel. The pointers of an event are
 * valid during the call only.
 */
#ifndef NEAP_DAEMON_SOURCE_SOURCE_H
#define NEAP_DAEMON_SOURCE_SOURCE_H

#include <stdint.h>

#include "schema/wire/codec.h"

struct neap_sink {
    void (*event)(void *context, uint32_t lane, const struct neap_event *event);
    /* `what` is a word of raw_loss.what; never called with a count of 0 */
    void (*loss)(void *context, const char *what, uint64_t count, uint64_t bytes);
    void *context;
};

/* How much a pass over a source found: sets the pace of the loop. */
enum neap_activity {
    NEAP_ACTIVITY_NONE,
    NEAP_ACTIVITY_SOME,
    NEAP_ACTIVITY_BUSY, /* a lane was more than a quarter full */
};

#endif
