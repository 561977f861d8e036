/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/track.h"

static void add(struct neap_amount *amount, uint64_t bytes)
{
    amount->count++;
    amount->bytes += bytes;
}

static void subtract(struct neap_amount *amount, uint64_t bytes)
{
    amount->count--;
    amount->bytes -= bytes;
}

void neap_track_init(struct neap_track *track)
{
    *track = (struct neap_track){.epoch = 0};
    neap_blocks_init(&track->blocks);
}

void neap_track_deinit(struct neap_track *track)
{
    neap_blocks_deinit(&track->blocks);
    neap_map_deinit(&track->by_hash);
    neap_vec_deinit(&track->sites);
}

uint32_t neap_track_site(struct neap_track *track, uint64_t hash)
{
    uint64_t number = neap_map_get(&track->by_hash, hash);

    if (NEAP_LIKELY(number != NEAP_MAP_NONE))
        return (uint32_t)number;
    number = track->sites.count;
    if (number >= NEAP_SITE_NONE || !neap_vec_reserve(&track->sites, 1) ||
        !neap_map_put(&track->by_hash, hash, number))
        return NEAP_SITE_NONE;
    track->sites.data[track->sites.count++] =
        (struct neap_site){.hash = hash,
                           .epoch = track->epoch,
                           .group = NEAP_SITE_NONE,
                           .next = NEAP_SITE_NONE};
    return (uint32_t)number;
}

struct neap_amount neap_site_live(const struct neap_site *site)
{
    return (struct neap_amount){.count = site->alloc.count - site->free.count,
                                .bytes = site->alloc.bytes - site->free.bytes};
}

struct neap_amount neap_site_peak(const struct neap_track *track,
                                  const struct neap_site *site)
{
    return site->epoch == track->epoch ? site->peak : neap_site_live(site);
}

/* The site is about to change: keep its share of the peak, once an epoch. */
static struct neap_site *site_touch(struct neap_track *track, uint32_t number)
{
    struct neap_site *site = &track->sites.data[number];

    if (site->epoch != track->epoch) {
        site->peak = neap_site_live(site);
        site->epoch = track->epoch;
    }
    site->dirty = true;
    return site;
}

/* After live has grown. */
static void peak_check(struct neap_track *track, uint64_t now_ns)
{
    if (track->live.bytes > track->peak.bytes) {
        track->peak = track->live;
        track->peak_ns = now_ns;
        track->epoch++;
    }
}

static void account_free(struct neap_track *track, const struct neap_block *block,
                         bool temporary)
{
    struct neap_site *site = site_touch(track, block->site);

    add(&site->free, block->size);
    if (temporary)
        add(&site->temporary, block->size);
    subtract(&track->live, block->size);
}

static bool is_temporary(const struct neap_actor *actor, const struct neap_block *block)
{
    return actor->last == block->address && actor->tid == block->tid;
}

bool neap_track_alloc(struct neap_track *track, struct neap_actor *actor, uint32_t site,
                      uint64_t address, uint64_t size, uint64_t now_ns)
{
    bool existed;
    struct neap_block *block = neap_blocks_put(&track->blocks, address, &existed);
    struct neap_site *changed;

    if (NEAP_UNLIKELY(!block))
        return false;
    if (NEAP_UNLIKELY(existed)) {
        account_free(track, block, false);
        add(&track->implied, block->size);
    }
    *block = (struct neap_block){.address = address,
                                 .size = size,
                                 .ts_ns = now_ns,
                                 .site = site,
                                 .tid = actor->tid};
    changed = site_touch(track, site);
    add(&changed->alloc, size);
    add(&track->alloc, size);
    add(&track->live, size);
    peak_check(track, now_ns);
    actor->last = address;
    return true;
}

void neap_track_free(struct neap_track *track, const struct neap_actor *actor,
                     uint64_t address)
{
    struct neap_block block;

    if (neap_blocks_take(&track->blocks, address, &block))
        account_free(track, &block, is_temporary(actor, &block));
    else
        track->foreign_frees++;
}

void neap_track_realloc_free(struct neap_track *track, const struct neap_actor *actor,
                             struct neap_realloc *pending, uint64_t address,
                             uint64_t now_ns)
{
    if (pending->open)
        neap_track_realloc_undo(track, pending, now_ns);
    *pending = (struct neap_realloc){.open = true};
    if (neap_blocks_take(&track->blocks, address, &pending->block)) {
        pending->temporary = is_temporary(actor, &pending->block);
        account_free(track, &pending->block, pending->temporary);
    } else {
        pending->foreign = true;
        pending->block.address = address;
        track->foreign_frees++;
    }
}

void neap_track_realloc_done(struct neap_realloc *pending)
{
    pending->open = false;
}

void neap_track_realloc_undo(struct neap_track *track, struct neap_realloc *pending,
                             uint64_t now_ns)
{
    const struct neap_block *old = &pending->block;
    struct neap_block *block;
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
    *block = *old;
    site = site_touch(track, old->site);
    subtract(&site->free, old->size);
    if (pending->temporary)
        subtract(&site->temporary, old->size);
    add(&track->live, old->size);
    peak_check(track, now_ns);
}
