/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/wire/ring.h"

uint32_t neap_lane_readable(const struct neap_lane_view *view, bool *ret_corrupt)
{
    /* Pairs with the release store in neap_lane_publish. */
    uint64_t head = atomic_load_explicit(&view->lane->head, memory_order_acquire);
    uint64_t waiting = head - view->tail;
    uint32_t rest = NEAP_LANE_BYTES - (uint32_t)(view->tail % NEAP_LANE_BYTES);

    if (waiting > NEAP_LANE_BYTES || head % 8 != 0) {
        *ret_corrupt = true;
        return 0;
    }
    return waiting < rest ? (uint32_t)waiting : rest;
}

void neap_lane_consume(struct neap_lane_view *view, uint32_t length)
{
    view->tail += length;
    /* Pairs with the acquire load of the tail in the hook's emit. */
    atomic_store_explicit(view->tail_word, view->tail, memory_order_release);
}
