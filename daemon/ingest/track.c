/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/track.h"

void neap_track_init(struct neap_track *track, uint64_t interval,
                     struct neap_journals *journals)
{
    *track = (struct neap_track){.journal.journals = journals};
    neap_blocks_init(&track->blocks);
    neap_estimate_init(&track->estimate, interval);
}

void neap_track_deinit(struct neap_track *track)
{
    neap_blocks_deinit(&track->blocks);
    neap_map_deinit(&track->by_hash);
    neap_vec_deinit(&track->sites);
    neap_estimate_deinit(&track->estimate);
    neap_journal_deinit(&track->journal);
}

uint32_t neap_track_find_site(struct neap_track *track, uint64_t hash)
{
    uint64_t number = neap_map_get(&track->by_hash, hash);
    unsigned at = hash % NEAP_SITES_RECENT;

    if (NEAP_LIKELY(number != NEAP_MAP_NONE)) {
        track->recent[at].hash = hash;
        track->recent[at].site = (uint32_t)number + 1;
        return (uint32_t)number;
    }
    number = track->sites.count;
    if (number >= NEAP_SITE_NONE || !neap_vec_reserve(&track->sites, 1) ||
        (track->estimate.base &&
         !neap_estimate_reach(&track->estimate, (uint32_t)number)) ||
        !neap_map_put(&track->by_hash, hash, number))
        return NEAP_SITE_NONE;
    track->sites.data[track->sites.count++] =
        (struct neap_site){.hash = hash,
                           .epoch = track->epoch,
                           .group = NEAP_SITE_NONE,
                           .next = NEAP_SITE_NONE};
    return (uint32_t)number;
}

/* ---- amounts ---- */

NEAP_ALWAYS_INLINE uint64_t interval_of(const struct neap_track *track, unsigned shift)
{
    return neap_interval(track->estimate.base, shift);
}

/* What a block counts for. */
NEAP_ALWAYS_INLINE struct neap_amount amount_of(const struct neap_track *track,
                                                const struct neap_block *block)
{
    struct neap_weight weight;

    if (NEAP_LIKELY(!track->estimate.base))
        return (struct neap_amount){.count = 1, .bytes = block->size};
    weight = neap_weigh(block->size, interval_of(track, block->shift));
    return (struct neap_amount){.count = weight.count, .bytes = weight.bytes};
}

NEAP_ALWAYS_INLINE void add(struct neap_amount *sum, struct neap_amount amount)
{
    sum->count += amount.count;
    sum->bytes += amount.bytes;
}

NEAP_ALWAYS_INLINE void subtract(struct neap_amount *sum, struct neap_amount amount)
{
    sum->count -= amount.count;
    sum->bytes -= amount.bytes;
}

struct neap_amount neap_track_blocks(const struct neap_track *track,
                                     struct neap_amount amount)
{
    if (track->estimate.base)
        amount.count = neap_weight_blocks(amount.count);
    return amount;
}

struct neap_measure neap_site_live(const struct neap_track *track, uint32_t site)
{
    const struct neap_site *books = &track->sites.data[site];

    if (track->estimate.base)
        return neap_estimate_live(track->estimate.sites.data[site].live);
    return (struct neap_measure){
        .amount = {.count = books->alloc.count - books->free.count,
                   .bytes = books->alloc.bytes - books->free.bytes}};
}

struct neap_measure neap_site_peak(const struct neap_track *track, uint32_t site)
{
    const struct neap_site *books = &track->sites.data[site];

    if (track->estimate.base)
        return neap_estimate_site_peak(&track->estimate, site);
    if (books->epoch != track->epoch)
        return neap_site_live(track, site);
    return (struct neap_measure){.amount = books->peak};
}

struct neap_measure neap_track_peak(const struct neap_track *track)
{
    if (track->estimate.base)
        return neap_estimate_peak(&track->estimate);
    return (struct neap_measure){.amount = track->peak};
}

/* The site is about to change: keep its share of the peak, once an epoch. */
NEAP_ALWAYS_INLINE struct neap_site *site_touch(struct neap_track *track,
                                                uint32_t number)
{
    struct neap_site *site = &track->sites.data[number];

    if (site->epoch != track->epoch) {
        site->peak.count = site->alloc.count - site->free.count;
        site->peak.bytes = site->alloc.bytes - site->free.bytes;
        site->epoch = track->epoch;
    }
    site->dirty = true;
    return site;
}

/* After live has grown. */
NEAP_ALWAYS_INLINE void peak_check(struct neap_track *track, uint64_t now_ns)
{
    if (track->live.bytes > track->peak.bytes) {
        track->peak = track->live;
        track->peak_ns = now_ns;
        track->peak_event = track->journal.count;
        track->epoch++;
    }
}

/* ---- what a sample adds to that ---- */

static NEAP_NOINLINE void estimate(struct neap_track *track,
                                   const struct neap_block *block, bool comes,
                                   uint64_t now_ns)
{
    struct neap_change change = {.address = block->address,
                                 .size = block->size,
                                 .interval = interval_of(track, block->shift),
                                 .site = block->site,
                                 .ts_ns = now_ns,
                                 .events = track->journal.count};

    if (comes)
        neap_estimate_add(&track->estimate, &change);
    else
        neap_estimate_remove(&track->estimate, &change);
}

static double variance_of(const struct neap_track *track,
                          const struct neap_block *block)
{
    return neap_weigh(block->size, interval_of(track, block->shift)).variance;
}

/* ---- events ---- */

static NEAP_NOINLINE void note_any(struct neap_track *track, struct neap_block *block,
                                   uint32_t tid, unsigned op, uint64_t now_ns)
{
    struct neap_chunk_event event = {.ts_ns = now_ns,
                                     .address = block->address,
                                     .size = block->size,
                                     .site = block->site,
                                     .tid = tid,
                                     .owner = block->tid,
                                     .op = (uint8_t)op,
                                     .shift = (uint8_t)block->shift};
    uint16_t ref = block->ref;

    neap_journal_note(&track->journal, &event, track->live.bytes, &ref);
    block->ref = ref;
}

/*
 * The books change because of this; called before they do. An allocation or a free of
 * its own block by the thread and at the time of the event before, in the middle of a
 * chunk, is written down here: most are that, and it takes a third of the instructions.
 */
NEAP_ALWAYS_INLINE void note(struct neap_track *track, struct neap_block *block,
                             uint32_t tid, unsigned op, uint64_t now_ns)
{
    struct neap_chunk *chunk = &track->journal.chunk;
    struct neap_chunk_row row = {.address = block->address,
                                 .size = block->size,
                                 .site = block->site,
                                 .thread = chunk->last_thread,
                                 .owner = chunk->last_thread,
                                 .ref = block->ref,
                                 .op = (uint8_t)op,
                                 .shift = (uint8_t)block->shift};

    if (NEAP_LIKELY(neap_chunk_goes_on(chunk, tid, now_ns) && tid == block->tid &&
                    (op & NEAP_CHUNK_KIND) <= NEAP_CHUNK_FREE)) {
        if ((op & NEAP_CHUNK_KIND) == NEAP_CHUNK_ALLOC)
            block->ref = chunk->count & UINT16_MAX;
        neap_chunk_put(chunk, &row);
        track->journal.count++;
    } else if (track->journal.journals) {
        note_any(track, block, tid, op, now_ns);
    } else {
        track->journal.count++;
    }
}

static NEAP_COLD void note_foreign(struct neap_track *track, uint64_t address,
                                   uint32_t tid, unsigned op, uint64_t now_ns)
{
    struct neap_block block = {.address = address, .site = NEAP_CHUNK_NONE};

    if (!track->journal.journals || !track->journal.journals->skip_foreign)
        note(track, &block, tid, op | NEAP_CHUNK_FOREIGN, now_ns);
    track->foreign_frees++;
}

/* A block goes. `flags` of enum neap_chunk_op. */
NEAP_ALWAYS_INLINE void account_free(struct neap_track *track, struct neap_block *block,
                                     uint32_t tid, unsigned flags, uint64_t now_ns)
{
    struct neap_amount amount = amount_of(track, block);
    struct neap_site *site;

    if (NEAP_UNLIKELY(track->estimate.base))
        estimate(track, block, false, now_ns);
    note(track, block, tid, flags | NEAP_CHUNK_FREE, now_ns);
    site = site_touch(track, block->site);
    add(&site->free, amount);
    if (flags & NEAP_CHUNK_TEMPORARY) {
        add(&site->temporary, amount);
        if (NEAP_UNLIKELY(track->estimate.base))
            track->estimate.sites.data[block->site].temporary +=
                variance_of(track, block);
    }
    subtract(&track->live, amount);
}

/* The first half of an allocation at the address of a live block. */
static NEAP_COLD void account_implied(struct neap_track *track,
                                      struct neap_block *block, uint32_t tid,
                                      uint64_t now_ns)
{
    add(&track->implied, (struct neap_amount){.count = 1, .bytes = block->size});
    account_free(track, block, tid, NEAP_CHUNK_IMPLIED, now_ns);
}

NEAP_ALWAYS_INLINE bool is_temporary(const struct neap_actor *actor,
                                     const struct neap_block *block)
{
    return actor->last == block->address && actor->tid == block->tid;
}

bool neap_track_alloc(struct neap_track *track, struct neap_actor *actor,
                      const struct neap_track_alloc *alloc, uint64_t now_ns)
{
    bool existed;
    struct neap_block *block =
        neap_blocks_put(&track->blocks, alloc->address, &existed);
    struct neap_amount amount;
    struct neap_site *site;

    if (NEAP_UNLIKELY(!block))
        return false;
    if (NEAP_UNLIKELY(existed))
        account_implied(track, block, actor->tid, now_ns);
    *block = (struct neap_block){.address = alloc->address,
                                 .size = alloc->size,
                                 .ts_ns = now_ns,
                                 .shift = alloc->shift,
                                 .site = alloc->site,
                                 .tid = actor->tid};
    note(track, block, actor->tid,
         NEAP_CHUNK_ALLOC | (alloc->realloc ? NEAP_CHUNK_REALLOC : 0), now_ns);
    amount = amount_of(track, block);
    site = site_touch(track, alloc->site);
    add(&site->alloc, amount);
    add(&track->alloc, amount);
    add(&track->live, amount);
    peak_check(track, now_ns);
    if (NEAP_UNLIKELY(track->estimate.base)) {
        estimate(track, block, true, now_ns);
        track->estimate.sites.data[alloc->site].alloc += variance_of(track, block);
    }
    actor->last = alloc->address;
    return true;
}

uint32_t neap_track_free(struct neap_track *track, const struct neap_actor *actor,
                         uint64_t address, uint64_t now_ns)
{
    struct neap_block block;

    if (NEAP_LIKELY(neap_blocks_take(&track->blocks, address, &block))) {
        account_free(track, &block, actor->tid,
                     is_temporary(actor, &block) ? NEAP_CHUNK_TEMPORARY : 0, now_ns);
        return block.site;
    }
    note_foreign(track, address, actor->tid, 0, now_ns);
    return NEAP_SITE_NONE;
}

void neap_track_sample_free(struct neap_track *track, const struct neap_actor *actor,
                            uint64_t address, bool temporary, uint64_t now_ns)
{
    struct neap_block block;

    if (neap_blocks_take(&track->blocks, address, &block))
        account_free(track, &block, actor->tid, temporary ? NEAP_CHUNK_TEMPORARY : 0,
                     now_ns);
    else
        note_foreign(track, address, actor->tid, 0, now_ns);
}

void neap_track_lost_free(struct neap_track *track, uint64_t address, uint64_t now_ns)
{
    struct neap_block block;

    if (neap_blocks_take(&track->blocks, address, &block))
        account_implied(track, &block, block.tid, now_ns);
}

void neap_track_realloc_free(struct neap_track *track, const struct neap_actor *actor,
                             struct neap_realloc *pending, uint64_t address,
                             bool temporary, uint64_t now_ns)
{
    if (pending->open)
        neap_track_realloc_undo(track, actor, pending, now_ns);
    *pending = (struct neap_realloc){.open = true};
    if (neap_blocks_take(&track->blocks, address, &pending->block)) {
        pending->temporary =
            track->estimate.base ? temporary : is_temporary(actor, &pending->block);
        account_free(track, &pending->block, actor->tid,
                     NEAP_CHUNK_REALLOC |
                         (pending->temporary ? NEAP_CHUNK_TEMPORARY : 0),
                     now_ns);
    } else {
        pending->foreign = true;
        pending->block.address = address;
        note_foreign(track, address, actor->tid, NEAP_CHUNK_REALLOC, now_ns);
    }
}

void neap_track_realloc_done(struct neap_realloc *pending)
{
    pending->open = false;
}

void neap_track_realloc_undo(struct neap_track *track, const struct neap_actor *actor,
                             struct neap_realloc *pending, uint64_t now_ns)
{
    struct neap_block *old = &pending->block, *block;
    struct neap_amount amount;
    struct neap_site *site;
    bool existed;

    if (!pending->open)
        return;
    pending->open = false;
    if (pending->foreign) {
        track->foreign_frees--;
        return;
    }
    block = neap_blocks_put(&track->blocks, old->address, &existed);
    /*
     * Somebody else lives there now: it was freed after all. Without memory to
     * follow it, it stays freed too: a block less to hear of, never one too many.
     */
    if (!block || existed)
        return;
    note(track, old, actor->tid,
         NEAP_CHUNK_UNDO | NEAP_CHUNK_REALLOC |
             (pending->temporary ? NEAP_CHUNK_TEMPORARY : 0),
         now_ns);
    *block = *old;
    amount = amount_of(track, block);
    site = site_touch(track, old->site);
    subtract(&site->free, amount);
    if (pending->temporary) {
        subtract(&site->temporary, amount);
        if (track->estimate.base)
            track->estimate.sites.data[old->site].temporary -=
                variance_of(track, block);
    }
    add(&track->live, amount);
    peak_check(track, now_ns);
    if (track->estimate.base)
        estimate(track, block, true, now_ns);
}
