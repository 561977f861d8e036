/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded reader of the numbers that DWARF is made of. What runs out of bounds
 * yields zeros, and the cursor is `bad` from then on. Little-endian machines only.
 */
#ifndef NEAP_LIBHOOK_CURSOR_H
#define NEAP_LIBHOOK_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct neap_cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline bool neap_cursor_take(struct neap_cursor *c, void *to, size_t bytes)
{
    if ((size_t)(c->end - c->at) < bytes) {
        c->bad = true;
        c->at = c->end;
        __builtin_memset(to, 0, bytes);
        return false;
    }
    __builtin_memcpy(to, c->at, bytes);
    c->at += bytes;
    return true;
}

static inline uint64_t neap_cursor_unsigned(struct neap_cursor *c, size_t bytes)
{
    uint64_t value = 0;

    neap_cursor_take(c, &value,
                     bytes); /* little-endian machines only, like the formats */
    return value;
}

static inline int64_t neap_cursor_signed(struct neap_cursor *c, size_t bytes)
{
    uint64_t value = neap_cursor_unsigned(c, bytes);
    unsigned shift = 64 - 8 * (unsigned)bytes;

    return (int64_t)(value << shift) >> shift;
}

static inline uint64_t neap_cursor_uleb(struct neap_cursor *c)
{
    uint64_t value = 0;

    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = (uint8_t)neap_cursor_unsigned(c, 1);

        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80) || c->bad)
            return value;
    }
}

static inline int64_t neap_cursor_sleb(struct neap_cursor *c)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;

    do {
        byte = (uint8_t)neap_cursor_unsigned(c, 1);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while ((byte & 0x80) && !c->bad);
    if (shift < 64 && (byte & 0x40))
        value |= ~0ull << shift;
    return (int64_t)value;
}

#endif
