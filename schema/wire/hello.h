/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake, over a SOCK_SEQPACKET socket at the path in NEAP_SOCKET.
 *
 *   target  -> HELLO
 *   neapd   -> WELCOME, with the descriptors of ctl and data if status is OK
 *   target     maps both, closes the socket and the descriptors: nothing of ours
 *              stays in its descriptor table. neapd learns of its end from a pidfd.
 *
 * neapd believes the kernel (SO_PEERCRED) about pid and uid, not the message.
 * A target that cannot use its WELCOME (no descriptors or address space left) sends
 * one byte more before it closes, and counts as lost.
 * The target checks sizes and seals before it maps. Both have a second at most;
 * a target that is not welcome goes on unrecorded.
 */
#ifndef NEAP_SCHEMA_WIRE_HELLO_H
#define NEAP_SCHEMA_WIRE_HELLO_H

#include <stdint.h>

#include "schema/attr.h"

#define NEAP_WIRE_VERSION     3u
#define NEAP_HELLO_MAGIC      0x4f4c4c4548504e45ull
#define NEAP_HELLO_TIMEOUT_MS 1000

/* Environment of a target. */
#define NEAP_ENV_SOCKET    "NEAP_SOCKET"   /* where to say HELLO */
#define NEAP_ENV_FOLLOW    "NEAP_FOLLOW"   /* "0": children are not recorded */
#define NEAP_ENV_UNWINDER  "NEAP_UNWINDER" /* "libunwind": do not use our walker */
#define NEAP_ENV_VERIFY    "NEAP_VERIFY" /* N: compare every N-th trace with libunwind */
#define NEAP_ENV_SEED      "NEAP_SEED"   /* number: the same samples in each run */
#define NEAP_ENV_ALLOCATOR "NEAP_ALLOCATOR"  /* "neap": malloc is libneap.so's own; */
#define NEAP_ENV_CHECK     "NEAP_HEAP_CHECK" /* that looks for mistakes: 0 to 3; */
#define NEAP_ENV_ERROR     "NEAP_HEAP_ERROR" /* "abort" after one, or "continue" */

enum neap_hello_origin {
    NEAP_ORIGIN_EXEC = 1, /* a new program image */
    NEAP_ORIGIN_FORK,     /* a forked child that goes on with its parent's image */
};

struct neap_hello {
    uint64_t magic;
    uint32_t version;
    uint32_t origin; /* enum neap_hello_origin */
    uint32_t tid;
    uint32_t unwinder;  /* 1 = our walker, 2 = libunwind, 0 = none */
    char allocator[32]; /* who serves malloc: "glibc", "jemalloc", "libfoo.so" ... */
};
NEAP_ASSERT_SIZE(struct neap_hello, 56);

enum neap_policy {
    NEAP_POLICY_BLOCK = 1,
    NEAP_POLICY_DROP,
    NEAP_POLICY_ADAPT, /* as DROP in the target; the collector raises the interval */
};

enum neap_welcome_status {
    NEAP_WELCOME_OK = 1,
    NEAP_WELCOME_VERSION, /* another release's libneap.so */
    NEAP_WELCOME_REFUSED, /* foreign uid, no room, or the recording has ended */
};

struct neap_welcome {
    uint64_t magic;
    uint32_t version;
    uint32_t status;       /* enum neap_welcome_status */
    uint32_t slot;         /* of ctl */
    uint32_t policy;       /* enum neap_policy */
    uint32_t lanes_filled; /* lanes whose pages exist already */
    uint32_t reserved;
};
NEAP_ASSERT_SIZE(struct neap_welcome, 32);

/*
 * Over the same socket, to the collector of a recording: `neap switch`. One message
 * each way, then both close. The collector believes the kernel about who asks: the user
 * whose recording it is, or root.
 */
#define NEAP_SWITCH_MAGIC 0x6863746977537065ull

enum neap_switch_wish {
    NEAP_SWITCH_ASK = 0, /* only tell */
    NEAP_SWITCH_ON,
    NEAP_SWITCH_OFF,
};

struct neap_switch {
    uint64_t magic;
    uint32_t version; /* NEAP_WIRE_VERSION */
    uint32_t wish;    /* enum neap_switch_wish */
    uint64_t reserved;
};
NEAP_ASSERT_SIZE(struct neap_switch, 24);

struct neap_switched {
    uint64_t magic;
    uint32_t version;
    uint32_t mode;      /* enum neap_mode, now */
    uint32_t processes; /* that are connected */
    uint32_t reserved;
    uint64_t interval; /* now; 0 in exact mode */
};
NEAP_ASSERT_SIZE(struct neap_switched, 32);

#endif
