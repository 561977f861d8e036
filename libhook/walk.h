/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole walk, from the caller to the root, frame by frame: by compiled rules
 * (rules.h), by .eh_frame itself for frames that have no plain rule, and with all
 * registers where even that is not enough.
 */
#ifndef NEAP_LIBHOOK_WALK_H
#define NEAP_LIBHOOK_WALK_H

#include "libhook/unwind.h"

/* 64 bits of identity, from the root inwards, so that it can go on from a known frame.
 */
NEAP_ALWAYS_INLINE uint64_t neap_walk_hash(uint64_t hash, uint64_t pc)
{
    hash = (hash ^ pc) * 0x9fb21c651e98df25ull;
    return hash ^ hash >> 29;
}

/* Name a stack of these frames; the hash is seeded with the generation. */
void neap_walk_seal(struct neap_walk *ret, uint64_t seed, const uint64_t *pcs,
                    unsigned depth, unsigned flags);

/* Into pcs[NEAP_STACK_DEPTH_MAX]. `careful`: a library may just be going, so what is
 * known of it is not believed. */
void neap_walk(struct neap_tls *tls, const struct neap_context *context, uint64_t seed,
               bool careful, uint64_t *pcs, struct neap_walk *ret);

/* From a frame in [start, end) to the first one out of it. False: the way is lost. */
bool neap_walk_out(struct neap_tls *tls, struct neap_context *context, uint64_t start,
                   uint64_t end);

#endif
