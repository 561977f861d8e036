/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes through neap_chunk_decode. What it takes for events is written and read
 * once more, and must be the same.
 *
 * Input: how many events are expected (2 bytes), what follows (1 byte), then either a
 * BLOB as it is, or what its zstd frame holds, which is compressed here: fuzzers do not
 * get far behind a compressor.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "schema/store/chunk.h"
#include "schema/store/chunk_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static struct neap_chunk_reader *reader;
static struct neap_chunk_encoder *encoder;
static struct neap_chunk chunk;
static struct neap_chunk_event copy[NEAP_CHUNK_EVENTS];

static void must(struct neap_error *error)
{
    if (error)
        abort();
}

static void again(uint32_t count)
{
    const struct neap_chunk_event *found;
    const void *blob;
    uint16_t ref = 0;
    size_t length;

    neap_chunk_clear(&chunk);
    for (uint32_t i = 0; i < count; i++) {
        if (i && copy[i].ts_ns < copy[i - 1].ts_ns)
            abort();
        if (!neap_chunk_append(&chunk, &copy[i], &ref))
            abort();
    }
    must(neap_chunk_encode(encoder, &chunk, &blob, &length));
    must(neap_chunk_decode(reader, blob, length, count, &found));
    for (uint32_t i = 0; i < count; i++) {
        if (found[i].ts_ns != copy[i].ts_ns || found[i].address != copy[i].address ||
            found[i].size != copy[i].size || found[i].site != copy[i].site ||
            found[i].tid != copy[i].tid || found[i].owner != copy[i].owner ||
            found[i].op != copy[i].op || found[i].shift != copy[i].shift)
            abort();
    }
}

static void decode(const uint8_t *blob, size_t length, uint32_t count)
{
    const struct neap_chunk_event *found = NULL;
    struct neap_error *error = neap_chunk_decode(reader, blob, length, count, &found);

    if (error) {
        neap_error_destroy(error);
        return;
    }
    memcpy(copy, found, count * sizeof(*copy));
    if (count)
        again(count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    uint8_t *blob;
    uint32_t count;
    size_t room;

    if (length < 3)
        return 0;
    if (!reader) {
        must(neap_chunk_reader_create(&reader));
        must(neap_chunk_encoder_create(&encoder));
    }
    count = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
    room = ZSTD_compressBound(length) + 1;
    blob = malloc(room);
    if (!blob)
        return 0;
    if (bytes[2] & 1) {
        blob[0] = NEAP_CHUNK_VERSION;
        room = 1 + ZSTD_compress(blob + 1, room - 1, bytes + 3, length - 3, -5);
    } else {
        room = length - 3;
        memcpy(blob, bytes + 3, room);
    }
    decode(blob, room, count);
    free(blob);
    return 0;
}
