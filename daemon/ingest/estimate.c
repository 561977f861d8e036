/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/estimate.h"

void neap_estimate_init(struct neap_estimate *estimate, uint64_t base)
{
    *estimate = (struct neap_estimate){.base = base, .interval = base};
    /* Nothing is live, and nothing was ever more. */
    estimate->moment[0].high = estimate->moment[1].high = true;
}

void neap_estimate_deinit(struct neap_estimate *estimate)
{
    neap_vec_deinit(&estimate->sites);
}

bool neap_estimate_reach(struct neap_estimate *estimate, uint32_t site)
{
    if (site < estimate->sites.count)
        return true;
    if (!neap_vec_reserve(&estimate->sites, site + 1 - estimate->sites.count))
        return false;
    while (estimate->sites.count <= site)
        estimate->sites.data[estimate->sites.count++] = (struct neap_spread){0};
    return true;
}

static struct neap_measure sum(struct neap_measure a, struct neap_measure b)
{
    a.amount.count += b.amount.count;
    a.amount.bytes += b.amount.bytes;
    a.variance += b.variance;
    return a;
}

static struct neap_measure scaled(struct neap_measure measure, unsigned by)
{
    measure.amount.count *= by;
    measure.amount.bytes *= by;
    measure.variance *= by;
    return measure;
}

struct neap_measure
neap_estimate_live(const struct neap_measure live[NEAP_WEIGH_CLASSES])
{
    return sum(sum(live[NEAP_WEIGH_HALF_0], live[NEAP_WEIGH_HALF_1]),
               live[NEAP_WEIGH_BOTH]);
}

/* What a moment is read off, doubled: the other half, and what is in both. */
static struct neap_measure share_now(const struct neap_measure live[NEAP_WEIGH_CLASSES],
                                     unsigned moment)
{
    return sum(scaled(live[1 - moment], 2), live[NEAP_WEIGH_BOTH]);
}

static uint64_t height(const struct neap_estimate *estimate, unsigned moment)
{
    return 2 * estimate->live[moment].amount.bytes +
           estimate->live[NEAP_WEIGH_BOTH].amount.bytes;
}

/* Before a block of `class` goes. */
static void end_moments(struct neap_estimate *estimate, enum neap_weigh_class class,
                        const struct neap_change *change)
{
    for (unsigned m = 0; m < 2; m++) {
        struct neap_moment *moment = &estimate->moment[m];

        if (moment->lasts) {
            moment->epoch++;
            moment->event = change->events;
            moment->share = share_now(estimate->live, m);
        }
        moment->lasts = false;
        moment->high &= class == 1 - m;
    }
}

/* After a block has come. */
static void begin_moments(struct neap_estimate *estimate,
                          const struct neap_change *change)
{
    for (unsigned m = 0; m < 2; m++) {
        struct neap_moment *moment = &estimate->moment[m];

        uint64_t share = share_now(estimate->live, m).amount.bytes;

        if (height(estimate, m) > moment->highest) {
            moment->highest = height(estimate, m);
            moment->high = true;
        } else if (!moment->high || share <= moment->best) {
            continue;
        }
        moment->best = share;
        moment->lasts = true;
        moment->ts_ns = change->ts_ns;
    }
}

/* Before the site changes: keep its share in moments that are over. */
static void note(const struct neap_estimate *estimate, struct neap_spread *site)
{
    for (unsigned m = 0; m < 2; m++) {
        if (site->noted[m].epoch == estimate->moment[m].epoch)
            continue;
        site->noted[m].share = share_now(site->live, m);
        site->noted[m].epoch = estimate->moment[m].epoch;
    }
}

static void apply(struct neap_measure *measure, const struct neap_weight *weight,
                  bool comes)
{
    if (comes) {
        measure->amount.count += weight->count;
        measure->amount.bytes += weight->bytes;
        measure->variance += weight->variance;
    } else {
        measure->amount.count -= weight->count;
        measure->amount.bytes -= weight->bytes;
        measure->variance -= weight->variance;
    }
    /* Sums of floating point numbers do not return to 0 by themselves. */
    if (measure->amount.count == 0 || measure->variance < 0)
        measure->variance = 0;
}

static void change_live(struct neap_estimate *estimate,
                        const struct neap_change *change, bool comes)
{
    enum neap_weigh_class class =
        neap_weigh_class(change->size, change->interval, change->address);
    struct neap_weight weight = neap_weigh(change->size, change->interval);
    struct neap_spread *site = &estimate->sites.data[change->site];

    if (!comes)
        end_moments(estimate, class, change);
    note(estimate, site);
    apply(&site->live[class], &weight, comes);
    apply(&estimate->live[class], &weight, comes);
    if (comes)
        begin_moments(estimate, change);
}

void neap_estimate_add(struct neap_estimate *estimate, const struct neap_change *change)
{
    change_live(estimate, change, true);
}

void neap_estimate_remove(struct neap_estimate *estimate,
                          const struct neap_change *change)
{
    change_live(estimate, change, false);
}

/* The mean of the two moments' doubled shares. */
static struct neap_measure mean(struct neap_measure first, struct neap_measure second)
{
    struct neap_measure both = sum(first, second);

    both.amount.count /= 2;
    both.amount.bytes /= 2;
    /* Each share is doubled, its variance was only scaled: the halves' own add up. */
    both.variance *= NEAP_PEAK_SPREAD / 2;
    return both;
}

static struct neap_measure site_share(const struct neap_estimate *estimate,
                                      const struct neap_spread *site, unsigned m)
{
    const struct neap_moment *moment = &estimate->moment[m];

    if (moment->lasts || site->noted[m].epoch != moment->epoch)
        return share_now(site->live, m);
    return site->noted[m].share;
}

struct neap_measure neap_estimate_site_peak(const struct neap_estimate *estimate,
                                            uint32_t site)
{
    const struct neap_spread *spread = &estimate->sites.data[site];

    return mean(site_share(estimate, spread, 0), site_share(estimate, spread, 1));
}

struct neap_measure neap_estimate_peak(const struct neap_estimate *estimate)
{
    struct neap_measure shares[2];

    for (unsigned m = 0; m < 2; m++) {
        const struct neap_moment *moment = &estimate->moment[m];

        shares[m] = moment->lasts ? share_now(estimate->live, m) : moment->share;
    }
    return mean(shares[0], shares[1]);
}
