/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes through neap_decode, as a reader of a lane does it: record after record
 * from a private copy of exactly the right length, each field of each record read.
 */
#include "schema/wire/codec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static volatile uint64_t sink; /* keeps the reads below */

static uint64_t read_all(const void *bytes, size_t length)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < length; i++)
        sum += ((const uint8_t *)bytes)[i];
    return sum;
}

static void look(const struct neap_event *event, uint32_t rest)
{
    if (event->length == 0 || event->length > rest)
        abort();
    switch (event->kind) {
    case NEAP_EV_STACK:
        sink += read_all(event->stack->pc, 8u * event->stack->depth);
        break;
    case NEAP_EV_MODULE:
        if (event->module->start >= event->module->end)
            abort();
        sink += read_all(neap_ev_module_build_id(event->module),
                         event->module->build_id_len);
        sink += read_all(neap_ev_module_path(event->module), event->module->path_len);
        break;
    case NEAP_EV_PAD:
        break;
    case NEAP_EV_SAMPLE:
        if (event->sample->interval == 0)
            abort();
        sink += read_all(event->sample, sizeof(*event->sample));
        break;
    case NEAP_EV_MAP:
        if (event->map->op == 0 || event->map->op >= NEAP_MAP_OP_END ||
            event->map->source >= NEAP_MAP_SOURCE_END)
            abort();
        sink += read_all(event->map, sizeof(*event->map));
        break;
    case NEAP_EV_MEMORY_ERROR:
        if (event->memory_error->kind == 0 ||
            event->memory_error->kind >= NEAP_MEMORY_ERROR_END)
            abort();
        sink += read_all(event->memory_error, sizeof(*event->memory_error));
        break;
    default:
        if (neap_ev_name(event->kind)[0] == '?' || event->length % 8 != 0)
            abort();
        sink += read_all(event->time, event->length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    uint32_t at = 0;

    if (!copy)
        return 0;
    memcpy(copy, bytes, length);
    while (at < length) {
        uint32_t rest = (uint32_t)length - at;
        struct neap_event event;

        if (neap_decode(copy + at, rest, &event) != NEAP_DECODE_OK)
            break;
        look(&event, rest);
        at += event.length;
        if (at % 8 != 0) /* only a PAD may end like this, and then nothing follows */
            break;
    }
    free(copy);
    return 0;
}
