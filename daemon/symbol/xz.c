/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking .gnu_debugdata, see xz.h.
 *
 * liblzma is in every process that has libdw, which needs it. It is opened here
 * rather than linked, so that an elfutils built without it stays enough.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

#include "daemon/symbol/xz.h"
#include "schema/base/cleanup.h"

#define XZ_OK         0
#define XZ_BUF_ERROR  10 /* the output is longer than its room */
#define XZ_MEMORY_MAX (32u << 20)

/* lzma_stream_buffer_decode, the same since liblzma 5.0 */
typedef int (*xz_decode_fn)(uint64_t *memory_limit, uint32_t flags,
                            const void *allocator, const uint8_t *in, size_t *in_at,
                            size_t in_size, uint8_t *out, size_t *out_at,
                            size_t out_size);

bool neap_xz_unpack(const void *packed, size_t length, void **ret, size_t *ret_length)
{
    void *library = dlopen("liblzma.so.5", RTLD_NOW | RTLD_LOCAL);
    xz_decode_fn decode;
    size_t room = 8 * length;

    if (!library)
        return false;
    *(void **)&decode = dlsym(library, "lzma_stream_buffer_decode");
    if (!decode || length > NEAP_XZ_MAX)
        return false;
    for (; room <= 2 * (size_t)NEAP_XZ_MAX; room *= 2) {
        neap_auto_free uint8_t *out = malloc(room);
        uint64_t limit = XZ_MEMORY_MAX;
        size_t in_at = 0;
        size_t out_at = 0;
        int status;

        if (!out)
            return false;
        status = decode(&limit, 0, NULL, packed, &in_at, length, out, &out_at, room);
        if (status == XZ_OK && out_at <= NEAP_XZ_MAX) {
            *ret = neap_take(out);
            *ret_length = out_at;
            return true;
        }
        if (status != XZ_BUF_ERROR || room == 0)
            return false;
    }
    return false;
}
