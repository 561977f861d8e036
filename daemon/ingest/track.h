/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The books of one process: what is live, what each stack did, and the peak.
 *
 * A site is one stack of one process, named by its hash. An event costs O(1): one
 * site and at most one block change.
 *
 * Peak. The peak is the first moment at which live_bytes was larger than ever
 * before; each such moment starts a new epoch. What a site had live at that moment
 * is what it has now, as long as it has not changed since; so a site whose epoch is
 * an older one than the process's notes its live numbers before it changes for the
 * first time in the new epoch. Nothing is ever copied for all sites at once.
 *
 * realloc is a free at its REALLOC_FREE and an allocation at its REALLOC_ALLOC. In
 * between, its lane remembers the old block: REALLOC_FAIL puts it back and unwinds
 * the numbers, as if nothing had been, and so does an end of the lane's thread
 * without an answer, as the block may still be there.
 *
 * Frees of unknown blocks (from before the recording, or inherited over fork) are
 * counted as foreign. An allocation at the address of a live block says that the
 * block was freed unseen: it is freed in the books then, and counted as implied.
 *
 * Samples. In a sampled process a block counts for what it stands for (schema/base/
 * weigh.h), and estimate.h keeps the rest: variances, and the peak.
 *
 * Each change of the books is an event of the journal, so that the sums of the events
 * are the books.
 *
 * Invariants:  site: live = alloc - free, in blocks and in bytes
 *              process: each of its totals = the sum over its sites
 *              sum of peak shares = peak_bytes, peak_count
 */
#ifndef NEAP_DAEMON_INGEST_TRACK_H
#define NEAP_DAEMON_INGEST_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ingest/blocks.h"
#include "daemon/ingest/estimate.h"
#include "daemon/ingest/journal.h"
#include "schema/base/map.h"
#include "schema/base/vec.h"

#define NEAP_SITE_NONE    UINT32_MAX
#define NEAP_SITES_RECENT 512u

struct neap_raw_stack;

struct neap_site {
    uint64_t hash;
    uint64_t epoch; /* of `peak`; an older one: the share is what is live now */
    struct neap_amount alloc;
    struct neap_amount free;
    struct neap_amount temporary;
    struct neap_amount peak;
    bool dirty; /* changed since it was stored */
    bool told;  /* its stack stands in raw_event_site */
    /* The rest belongs to resolve.c. */
    uint32_t group; /* of sites with the same stack, NEAP_SITE_NONE until known */
    uint32_t next;  /* in its group */
    struct neap_raw_stack *raw; /* frames that wait to be resolved */
};

/* Who acts: the thread behind a lane. */
struct neap_actor {
    uint32_t tid;
    uint64_t last; /* address of its latest allocation */
};

/* A realloc under way. All zero: none. */
struct neap_realloc {
    bool open;
    bool foreign;   /* the old block is not known */
    bool temporary; /* the free was counted as one */
    struct neap_block block;
};

struct neap_track {
    struct neap_blocks blocks;
    struct neap_map by_hash;
    struct {
        uint64_t hash;
        uint32_t site;           /* + 1; 0 = none */
    } recent[NEAP_SITES_RECENT]; /* of by_hash, by the hash's low bits */
    NEAP_VEC(struct neap_site) sites;
    uint64_t epoch;
    struct neap_amount alloc;
    struct neap_amount live;
    struct neap_amount peak;
    struct neap_amount implied; /* frees that were not seen, each of one block */
    uint64_t peak_ns;
    uint64_t peak_event; /* events up to the peak, see the journal */
    uint64_t foreign_frees;
    struct neap_estimate estimate; /* of a sampled process */
    struct neap_journal journal;
};

/* `interval`: 0, or the one that samples are taken with at the start. `journals` NULL:
 * events are not kept one by one. Both outlive the track. */
void neap_track_init(struct neap_track *track, uint64_t interval,
                     struct neap_journals *journals);
void neap_track_deinit(struct neap_track *track);

/* The site of `hash`, made if it is new. NEAP_SITE_NONE: no memory for it. */
uint32_t neap_track_find_site(struct neap_track *track, uint64_t hash);

/* The same, for the sites that come up again and again. */
static inline uint32_t neap_track_site(struct neap_track *track, uint64_t hash)
{
    unsigned at = hash % NEAP_SITES_RECENT;

    if (NEAP_LIKELY(track->recent[at].hash == hash && track->recent[at].site))
        return track->recent[at].site - 1;
    return neap_track_find_site(track, hash);
}

/* An allocation. `shift`: of its interval, 0 for one that stands for itself alone. */
struct neap_track_alloc {
    uint64_t address, size;
    uint32_t site;
    unsigned shift;
    bool realloc; /* the second half of one */
};

/* False: no memory to follow the block; nothing is counted. */
bool neap_track_alloc(struct neap_track *track, struct neap_actor *actor,
                      const struct neap_track_alloc *alloc,
                      uint64_t now_ns) NEAP_MUST_CHECK;
/* The site that the block was of, NEAP_SITE_NONE if it was not known. */
uint32_t neap_track_free(struct neap_track *track, const struct neap_actor *actor,
                         uint64_t address, uint64_t now_ns);
/* Whether a sampled block was a temporary one only its thread knows: it has allocated
 * much that was not sampled. */
void neap_track_sample_free(struct neap_track *track, const struct neap_actor *actor,
                            uint64_t address, bool temporary, uint64_t now_ns);
/* A block that turns out to have been freed unseen. */
void neap_track_lost_free(struct neap_track *track, uint64_t address, uint64_t now_ns);

/* `temporary`: as for a sampled block; ignored in an exact process. */
void neap_track_realloc_free(struct neap_track *track, const struct neap_actor *actor,
                             struct neap_realloc *pending, uint64_t address,
                             bool temporary, uint64_t now_ns);
/* The allocating half is neap_track_alloc after this. */
void neap_track_realloc_done(struct neap_realloc *pending);
/* Undo. Also for a realloc that was never heard of again. */
void neap_track_realloc_undo(struct neap_track *track, const struct neap_actor *actor,
                             struct neap_realloc *pending, uint64_t now_ns);

/* What the site has live, its share of its process's peak, and the process's peak. */
struct neap_measure neap_site_live(const struct neap_track *track, uint32_t site);
struct neap_measure neap_site_peak(const struct neap_track *track, uint32_t site);
struct neap_measure neap_track_peak(const struct neap_track *track);
/* An amount in blocks and bytes. */
struct neap_amount neap_track_blocks(const struct neap_track *track,
                                     struct neap_amount amount);

#endif
