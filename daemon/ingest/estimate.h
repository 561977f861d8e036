/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The books of a sampled process, beyond those that sums of weights serve as well as
 * sums of bytes: variances, and a peak that does not err upwards.
 *
 * The largest of many estimates of what is live is one whose error is upwards: on a
 * heap that stays at 100 MiB for a while, with 200 samples, by a fifth. So there are
 * two halves of the samples, and blocks that belong to both, the more the larger they
 * are (neap_weigh_class). A half, doubled, and what is in both estimate what is live,
 * with errors that have nothing to do with those of the other half. At the moment at
 * which half 0 is at its largest, half 1 says how large the heap was; and the other way
 * round.
 *
 *   moment m:  half m, doubled, and what is in both are at their largest together; as
 *              long as that stays so, when the other half is at its largest
 *   peak:      (half 1 and half of what is in both, at moment 0)
 *            + (half 0 and half of what is in both, at moment 1)
 *
 * A moment lasts until one of these falls; what was live in it is what a site has now,
 * unless it has changed since: the same epochs as in track.h, one for each moment.
 */
#ifndef NEAP_DAEMON_INGEST_ESTIMATE_H
#define NEAP_DAEMON_INGEST_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/attr.h"
#include "schema/base/vec.h"
#include "schema/base/weigh.h"

struct neap_amount {
    uint64_t count; /* of blocks; in sampled processes in units of 1/NEAP_WEIGHT_ONE */
    uint64_t bytes;
};

struct neap_measure {
    struct neap_amount amount;
    double variance;
};

/* Of one site. */
struct neap_spread {
    double alloc, temporary; /* variances */
    struct neap_measure live[NEAP_WEIGH_CLASSES];
    struct {
        uint64_t epoch;
        struct neap_measure share; /* doubled */
    } noted[2];                    /* by moment */
};

struct neap_moment {
    uint64_t highest; /* bytes, of half m doubled and what is in both */
    bool high;        /* it is as high now, and has been since */
    uint64_t best;    /* bytes, of the other half as of then */
    bool lasts;       /* that is as large now: the moment */
    uint64_t epoch;   /* grows when it has ended */
    uint64_t event;   /* number of events before it ended */
    uint64_t ts_ns;
    struct neap_measure share; /* doubled, of all sites, when it had ended */
};

struct neap_estimate {
    uint64_t base;     /* interval at the start; 0: the process is not sampled */
    uint64_t interval; /* the largest seen */
    uint64_t samples;
    struct neap_measure live[NEAP_WEIGH_CLASSES]; /* of all sites */
    struct neap_moment moment[2];
    NEAP_VEC(struct neap_spread) sites; /* by number of the site */
};

/* `base` as above. */
void neap_estimate_init(struct neap_estimate *estimate, uint64_t base);
void neap_estimate_deinit(struct neap_estimate *estimate);

/* Room for the site. False: no memory. */
bool neap_estimate_reach(struct neap_estimate *estimate, uint32_t site) NEAP_MUST_CHECK;

/* A block of a site that reach() was called for comes or goes. `events`: before it. */
struct neap_change {
    uint64_t address, size, interval;
    uint32_t site;
    uint64_t ts_ns;
    uint64_t events;
};
void neap_estimate_add(struct neap_estimate *estimate,
                       const struct neap_change *change);
void neap_estimate_remove(struct neap_estimate *estimate,
                          const struct neap_change *change);

/* All classes of a site, or of the process. */
struct neap_measure
neap_estimate_live(const struct neap_measure live[NEAP_WEIGH_CLASSES]);
/* The share of a site in the peak; the peak itself. */
struct neap_measure neap_estimate_site_peak(const struct neap_estimate *estimate,
                                            uint32_t site);
struct neap_measure neap_estimate_peak(const struct neap_estimate *estimate);

#endif
