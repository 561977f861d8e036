/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane whose producer lies: heads that jump about, a tail far on, any bytes as
 * records. The reader must stay within the lane, always end, and never hand back
 * more than is there.
 *
 * Input: 8 bytes of tail, then steps of { 8 bytes to move the head by, 1 byte of
 * count, bytes to write at the tail }.
 */
#include "schema/wire/ring.h"

#include <stdlib.h>
#include <string.h>

#include "schema/wire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

struct input {
    const uint8_t *bytes;
    size_t length;
};

static bool take(struct input *input, void *ret, size_t length)
{
    if (input->length < length)
        return false;
    memcpy(ret, input->bytes, length);
    input->bytes += length;
    input->length -= length;
    return true;
}

/* What a collector does with a lane; false once it gives the lane up. */
static bool drain(struct neap_lane_view *view)
{
    bool corrupt = false;
    uint32_t length = neap_lane_readable(view, &corrupt);
    uint32_t at = 0;
    uint8_t *copy;
    bool good = true;

    if (corrupt)
        return length == 0 ? false : (abort(), false);
    if (length == 0)
        return true;
    if (length > NEAP_LANE_BYTES ||
        view->tail % NEAP_LANE_BYTES + length > NEAP_LANE_BYTES)
        abort();
    copy = malloc(length);
    if (!copy)
        return false;
    memcpy(copy, neap_lane_bytes(view), length);
    while (good && at < length) {
        struct neap_event event;

        good = neap_decode(copy + at, length - at, &event) == NEAP_DECODE_OK;
        if (good && (event.length == 0 || event.length > length - at))
            abort();
        if (good)
            at += event.length;
    }
    neap_lane_consume(view, at);
    free(copy);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct neap_lane *lane;
    struct input input = {bytes, length};
    _Atomic uint64_t tail_word = 0;
    struct neap_lane_view view;
    uint64_t move;
    uint8_t count;

    /* Exactly as large as a lane, so that a byte beyond it is seen. */
    if (!lane)
        lane = malloc(NEAP_LANE_STRIDE);
    view = (struct neap_lane_view){lane, &tail_word, 0};
    if (!lane || !take(&input, &view.tail, sizeof(view.tail)))
        return 0;
    view.tail &= ~7ull;
    memset(lane, 0, NEAP_LANE_STRIDE);
    atomic_store(&lane->head, view.tail);
    while (take(&input, &move, sizeof(move)) && take(&input, &count, 1)) {
        uint32_t at = (uint32_t)(view.tail % NEAP_LANE_BYTES);

        if (count > NEAP_LANE_BYTES - at)
            count = (uint8_t)(NEAP_LANE_BYTES - at);
        if (!take(&input, lane->data + at, count))
            break;
        neap_lane_publish(lane, atomic_load(&lane->head) + move);
        if (!drain(&view))
            break;
        if (atomic_load(&tail_word) != view.tail && atomic_load(&tail_word) != 0)
            abort();
    }
    return 0;
}
