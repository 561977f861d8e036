/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is seldom recorded: mappings, objects, ends of threads and of the process.
 */
#include <string.h>
#include <sys/prctl.h>

#include "libhook/record.h"
#include "libhook/sys.h"

void neap_emit_nested(struct neap_tls *tls)
{
    if (neap_process && recording() && tls->lane && is_connected(tls))
        neap_record_lost(tls, 0);
}

/* A record with a stack, between open_record and close_record. */
struct opened {
    uint64_t head, hash;
    uint32_t delta, bytes; /* of the stack, in front of the record */
};

/* Where a record of `size` goes, behind its stack if `caller` is known. NULL: it is
 * lost, and counted if anything is recorded. */
static void *open_record(struct neap_tls *tls, const struct neap_context *caller,
                         uint32_t size, struct opened *ret)
{
    uint8_t *room;
    bool multi;

    *ret = (struct opened){0};
    if (!begin(tls, false, &ret->delta, &multi)) {
        if (recording())
            neap_record_lost(tls, 0);
        return NULL;
    }
    ret->head = tls->head;
    room = reserve(tls, &ret->head, NEAP_EV_SIZE_MAX + size, false);
    if (!room) {
        neap_record_lost(tls, 0);
        return NULL;
    }
    if (caller)
        ret->bytes = put_stack(tls, caller, room, &ret->hash);
    return room + ret->bytes;
}

static void close_record(struct neap_tls *tls, const struct opened *opened,
                         uint32_t size)
{
    publish(tls, opened->head + opened->bytes + size);
    sent_stack(tls, opened->bytes, opened->hash);
    if (NEAP_UNLIKELY(tls->retired))
        neap_lane_release(tls);
}

void neap_emit_map(struct neap_tls *tls, const struct neap_context *caller,
                   const struct neap_emit_map *map)
{
    struct opened opened;
    struct neap_ev_map *record = open_record(tls, caller, sizeof(*record), &opened);

    if (!record)
        return;
    *record = (struct neap_ev_map){.head = neap_ev_head(NEAP_EV_MAP, 0, opened.delta),
                                   .address = map->address,
                                   .size = map->size,
                                   .old_address = map->old_address,
                                   .old_size = map->old_size,
                                   .op = map->op,
                                   .prot = map->prot,
                                   .flags = map->flags,
                                   .fd = map->fd,
                                   .stack = opened.hash,
                                   .source = map->source};
    close_record(tls, &opened, sizeof(*record));
}

void neap_emit_memory_error(struct neap_tls *tls, const struct neap_context *caller,
                            const struct neap_emit_error *error)
{
    struct opened opened;
    struct neap_ev_memory_error *record =
        open_record(tls, caller, sizeof(*record), &opened);

    if (!record)
        return;
    *record = (struct neap_ev_memory_error){
        .head = neap_ev_head(NEAP_EV_MEMORY_ERROR, 0, opened.delta),
        .address = error->address,
        .block = error->block,
        .size = error->size,
        .alloc_stack = error->alloc_stack,
        .free_stack = error->free_stack,
        .stack = opened.hash,
        .kind = error->kind};
    close_record(tls, &opened, sizeof(*record));
}

uint64_t neap_emit_stack(struct neap_tls *tls, const struct neap_context *caller)
{
    uint64_t head, hash;
    uint32_t delta, bytes;
    uint8_t *room;
    bool multi;

    if (!begin(tls, false, &delta, &multi))
        return 0;
    head = tls->head;
    room = reserve(tls, &head, NEAP_EV_SIZE_MAX, true);
    if (!room)
        return 0;
    bytes = put_stack(tls, caller, room, &hash);
    if (bytes)
        publish(tls, head + bytes);
    sent_stack(tls, bytes, hash);
    if (NEAP_UNLIKELY(tls->retired))
        neap_lane_release(tls);
    return hash;
}

void neap_emit_module(struct neap_tls *tls, const struct neap_emit_module *module)
{
    uint64_t head = tls->head;
    uint32_t length = (uint32_t)(sizeof(struct neap_ev_module) + module->build_id_len +
                                 module->path_len + 7u) &
                      ~7u;
    struct neap_ev_module *record =
        tls->lane ? reserve(tls, &head, length, false) : NULL;

    if (!record)
        return;
    memset((uint8_t *)record + length - 8, 0, 8);
    record->head = neap_ev_head(NEAP_EV_MODULE, 0, 0);
    record->bias = module->bias;
    record->start = module->start;
    record->end = module->end;
    record->generation = module->generation;
    record->build_id_len = (uint16_t)module->build_id_len;
    record->path_len = (uint16_t)module->path_len;
    memcpy(record->bytes, module->build_id, module->build_id_len);
    memcpy(record->bytes + module->build_id_len, module->path, module->path_len);
    publish(tls, head + length);
}

void neap_emit_exit(struct neap_tls *tls, int status)
{
    struct neap_ev_exit *record;
    uint32_t delta;
    uint64_t head;
    bool multi;

    /* A vfork child that could not exec shares our lane, but it is not us that ends. */
    if (recording() && (uint32_t)NEAP_SYS1(SYS_getpid, 0) != neap_process->pid)
        return;
    if (!begin(tls, true, &delta, &multi))
        return;
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record), false);
    if (!record)
        return;
    *record =
        (struct neap_ev_exit){neap_ev_head(NEAP_EV_EXIT, 0, delta), status & 0xff};
    finish(tls, head + sizeof(*record), false);
}

void neap_emit_thread_end(struct neap_tls *tls)
{
    uint64_t head;
    uint64_t *record;
    uint32_t delta;
    bool multi;

    tls->retired = true;
    if (!tls->lane || !recording() || !begin(tls, true, &delta, &multi))
        return;
    neap_record_name(tls);
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record), false);
    if (record) {
        *record = neap_ev_head(NEAP_EV_THREAD_END, 0, delta);
        publish(tls, head + sizeof(*record));
    }
    neap_lane_release(tls);
}
