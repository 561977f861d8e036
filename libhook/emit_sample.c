/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples. A block stands in the table as well as in a record: if the record finds no
 * room the collector learns of the block from the table, at the end.
 */
#include "libhook/record.h"
#include "libhook/samples.h"
#include "libhook/selfmem.h"
#include "libhook/sys.h"

#define SCRATCH_BYTES (3 * NEAP_PAGE) /* a STACK record of any depth */

_Static_assert(SCRATCH_BYTES >= NEAP_EV_SIZE_MAX, "a stack fits");

/* What stands for more than it can say: all tries of the table are full. */
static NEAP_COLD void refused(uint64_t size, uint64_t interval)
{
    struct neap_data_header *data = neap_process->data;

    atomic_fetch_add_explicit(&data->table_loss, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&data->table_loss_bytes,
                              size > interval ? size : interval, memory_order_relaxed);
}

/* The stack's name where there is no room for it: most have been sent before. */
static NEAP_COLD uint64_t hash_only(struct neap_tls *tls,
                                    const struct neap_context *caller)
{
    void *scratch = neap_selfmem_map(SCRATCH_BYTES);
    uint64_t hash = 0;

    if (!scratch)
        return 0;
    put_stack(tls, caller, scratch, &hash);
    NEAP_SYS2(SYS_munmap, scratch, SCRATCH_BYTES);
    return hash;
}

/* Room for a sample and its stack, and the clock for it; NULL: it is lost. */
static void *make_room(struct neap_tls *tls, uint64_t *head, uint32_t *delta,
                       bool *multi)
{
    if (!begin(tls, true, delta, multi))
        return NULL;
    *head = tls->head;
    return reserve(tls, head, NEAP_EV_SIZE_MAX + sizeof(struct neap_ev_sample), true);
}

void neap_emit_sample(struct neap_tls *tls, const struct neap_context *caller,
                      const void *block, size_t size,
                      const struct neap_emit_sample *sample)
{
    uint64_t address = (uint64_t)(uintptr_t)block, head = 0, hash = 0;
    struct neap_ev_sample *record;
    uint32_t delta = 0, bytes = 0, index;
    bool multi = false;
    uint8_t *room = make_room(tls, &head, &delta, &multi);

    if (!recording())
        return;
    index = neap_samples_claim(address);
    if (index == NEAP_SAMPLES_NONE) {
        refused(size, sample->interval);
        return;
    }
    if (room)
        bytes = put_stack(tls, caller, room, &hash);
    else
        hash = hash_only(tls, caller);
    neap_samples_keep(
        index, address,
        &(struct neap_table_slot){.size = size,
                                  .stack = hash,
                                  .interval = sample->interval,
                                  .ts_ns = atomic_load_explicit(
                                      &neap_process->ctl->now_ns, memory_order_relaxed),
                                  .tid = tls->tid});
    tls->sampled = block;
    tls->sampled_left = tls->left;
    if (!room) {
        neap_record_lost(tls, size);
        return;
    }
    record = (struct neap_ev_sample *)(void *)(room + bytes);
    *record = (struct neap_ev_sample){
        .head = neap_ev_head(NEAP_EV_SAMPLE, next_seq(address, multi), delta),
        .address = address,
        .size = size,
        .stack = hash,
        .interval = sample->interval,
        .flags = sample->flags};
    publish(tls, head + bytes + sizeof(*record));
    sent_stack(tls, bytes, hash);
    if (NEAP_UNLIKELY(tls->retired))
        neap_lane_release(tls);
}

bool neap_emit_sample_free(struct neap_tls *tls, const void *block, uint32_t flags)
{
    uint64_t address = (uint64_t)(uintptr_t)block, head;
    struct neap_ev_sample_free *record;
    uint32_t delta;
    bool multi;

    if (!begin(tls, true, &delta, &multi)) {
        if (recording())
            neap_record_lost(tls, 0);
        return false;
    }
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record), false);
    if (!record) {
        neap_record_lost(tls, 0);
        return false;
    }
    *record = (struct neap_ev_sample_free){
        .head = neap_ev_head(NEAP_EV_SAMPLE_FREE, next_seq(address, multi), delta),
        .address = address,
        .flags = flags};
    finish(tls, head + sizeof(*record), flags & NEAP_SAMPLE_REALLOC);
    return true;
}

void neap_emit_realloc_done(struct neap_tls *tls)
{
    uint64_t head, *record;
    uint32_t delta;
    bool multi;

    if (!begin(tls, true, &delta, &multi)) {
        if (recording())
            neap_record_lost(tls, 0);
        return;
    }
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record), false);
    if (!record) {
        neap_record_lost(tls, 0);
        return;
    }
    *record = neap_ev_head(NEAP_EV_REALLOC_DONE, 0, delta);
    finish(tls, head + sizeof(*record), false);
}
