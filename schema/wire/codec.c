/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/wire/codec.h"

#include <string.h>

static const uint16_t fixed_size[NEAP_EV_KIND_END] = {
#define NEAP_EV_SIZE(upper, lower, size) [NEAP_EV_##upper] = (size),
    NEAP_EV_KINDS(NEAP_EV_SIZE)
#undef NEAP_EV_SIZE
};

const char *neap_ev_name(unsigned kind)
{
    static const char *const names[NEAP_EV_KIND_END] = {
#define NEAP_EV_NAME(upper, lower, size) [NEAP_EV_##upper] = #lower,
        NEAP_EV_KINDS(NEAP_EV_NAME)
#undef NEAP_EV_NAME
    };

    return kind < NEAP_EV_KIND_END && names[kind] ? names[kind] : "?";
}

/* The length a STACK or MODULE record claims, 0 if no such record can exist. */
static uint32_t variable_size(const void *bytes, uint32_t length, unsigned kind)
{
    if (kind == NEAP_EV_STACK) {
        const struct neap_ev_stack *stack = bytes;

        if (length < sizeof(*stack))
            return sizeof(*stack);
        if (stack->depth > NEAP_STACK_DEPTH_MAX)
            return 0;
        return (uint32_t)sizeof(*stack) + 8u * stack->depth;
    }
    const struct neap_ev_module *module = bytes;

    if (length < sizeof(*module))
        return sizeof(*module);
    if (module->build_id_len > NEAP_BUILD_ID_MAX || module->path_len > NEAP_PATH_MAX)
        return 0;
    return ((uint32_t)sizeof(*module) + module->build_id_len + module->path_len + 7u) &
           ~7u;
}

/* What a record may say beyond its length. */
static bool sane(const struct neap_event *event)
{
    switch (event->kind) {
    case NEAP_EV_MODULE:
        return event->module->start < event->module->end &&
               !memchr(neap_ev_module_path(event->module), 0, event->module->path_len);
    case NEAP_EV_SAMPLE:
        return event->sample->interval > 0;
    case NEAP_EV_MAP:
        return event->map->op >= NEAP_MAP_MMAP && event->map->op < NEAP_MAP_OP_END &&
               event->map->source < NEAP_MAP_SOURCE_END;
    case NEAP_EV_MEMORY_ERROR:
        return event->memory_error->kind >= NEAP_MEMORY_DOUBLE_FREE &&
               event->memory_error->kind < NEAP_MEMORY_ERROR_END;
    default:
        return true;
    }
}

enum neap_decode neap_decode(const void *bytes, uint32_t length, struct neap_event *ret)
{
    struct neap_event event;
    uint64_t head;

    if (length < sizeof(head))
        return NEAP_DECODE_SHORT;
    memcpy(&head, bytes, sizeof(head));
    event.kind = neap_ev_kind(head);
    event.seq = neap_ev_seq(head);
    event.delta = neap_ev_delta(head);
    event.time = bytes;
    if (event.kind == NEAP_EV_NONE || event.kind >= NEAP_EV_KIND_END)
        return NEAP_DECODE_CORRUPT;
    if (event.kind == NEAP_EV_PAD) {
        event.length = length;
        *ret = event;
        return NEAP_DECODE_OK;
    }
    event.length = fixed_size[event.kind];
    if (event.length == 0) {
        event.length = variable_size(bytes, length, event.kind);
        if (event.length == 0)
            return NEAP_DECODE_CORRUPT;
    }
    if (event.length > length)
        return NEAP_DECODE_SHORT;
    if (!sane(&event))
        return NEAP_DECODE_CORRUPT;
    *ret = event;
    return NEAP_DECODE_OK;
}
