/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes shared by every room: visibility, branch hints, size assertions.
 * Includes nothing of ours and nothing of libc's but <stddef.h>.
 */
#ifndef NEAP_SCHEMA_ATTR_H
#define NEAP_SCHEMA_ATTR_H

#include <stddef.h>

#define NEAP_EXPORT            __attribute__((visibility("default")))
#define NEAP_LIKELY(x)         __builtin_expect(!!(x), 1)
#define NEAP_UNLIKELY(x)       __builtin_expect(!!(x), 0)
#define NEAP_NOINLINE          __attribute__((noinline))
#define NEAP_COLD              __attribute__((cold, noinline))
#define NEAP_ALWAYS_INLINE     static inline __attribute__((always_inline))
#define NEAP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define NEAP_MUST_CHECK        __attribute__((warn_unused_result))

/* A record that crosses a process or file boundary has one size, for ever. */
#define NEAP_ASSERT_SIZE(type, bytes) \
    _Static_assert(sizeof(type) == (bytes), "size of " #type " is part of the format")

#define NEAP_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
