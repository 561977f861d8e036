/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/fill.h"

#include <string.h>
#include <sys/auxv.h>

static uint64_t secret;

static uint64_t mixed(uint64_t value)
{
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93u;
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93u;
    return value ^ value >> 32;
}

/* The kernel's gift to each program: nothing to wait for, and a fork's child has the
 * same. Others use these bytes as they are, so ours are mixed. */
void neap_fill_begin(void)
{
    const void *random = (const void *)getauxval(AT_RANDOM);
    uint64_t words[2] = {(uintptr_t)&secret, 1};

    if (random)
        memcpy(words, random, sizeof(words));
    secret = mixed(words[0] ^ mixed(words[1]));
}

/* The eight bytes at a multiple of 8. Each is from 0x80 to 0xbf. */
static uint64_t pattern(enum neap_fill fill, uintptr_t at)
{
    uint64_t value = mixed((at >> 3) ^ secret ^ ((uint64_t)fill << 62));

    return (value & 0x3f3f3f3f3f3f3f3fu) | 0x8080808080808080u;
}

static unsigned char byte_of(enum neap_fill fill, uintptr_t at)
{
    uint64_t value = pattern(fill, at & ~(uintptr_t)7);
    unsigned char bytes[8];

    memcpy(bytes, &value, sizeof(bytes));
    return bytes[at & 7];
}

/* The program may have threads that do what these are to find out. */
__attribute__((no_sanitize("thread"))) void neap_fill(enum neap_fill fill,
                                                      uintptr_t from, size_t size)
{
    uintptr_t end = from + size;

    for (; from < end && from & 7; from++)
        *(unsigned char *)from = byte_of(fill, from);
    for (; from + 8 <= end; from += 8)
        *(uint64_t *)from = pattern(fill, from);
    for (; from < end; from++)
        *(unsigned char *)from = byte_of(fill, from);
}

__attribute__((no_sanitize("thread"))) uintptr_t
neap_fill_changed(enum neap_fill fill, uintptr_t from, size_t size)
{
    uintptr_t end = from + size;

    while (from < end) {
        if ((from & 7) == 0 && from + 8 <= end &&
            *(const volatile uint64_t *)from == pattern(fill, from)) {
            from += 8;
            continue;
        }
        if (*(const volatile unsigned char *)from != byte_of(fill, from))
            return from;
        from++;
    }
    return 0;
}
