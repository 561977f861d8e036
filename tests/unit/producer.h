/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's side of the lanes, for tests: maps a data memfd and writes records into
 * it as the hook does, but with stamps and numbers of the test's choice.
 */
#ifndef NEAP_TESTS_UNIT_PRODUCER_H
#define NEAP_TESTS_UNIT_PRODUCER_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/wire/ring.h"

struct producer {
    uint8_t *memory; /* NEAP_DATA_BYTES */
    struct neap_data_header *header;
    const _Atomic uint64_t *tails;
};

void producer_init(struct producer *producer, int fd, const _Atomic uint64_t *tails);
void producer_deinit(struct producer *producer);

struct neap_lane *producer_lane(const struct producer *producer, uint32_t lane);
/* Claim lanes 0 .. count-1. */
void producer_claim(struct producer *producer, uint32_t count);
/* Room for `length` bytes in the lane; NULL if it is full. Not visible yet. */
void *producer_reserve(const struct producer *producer, uint32_t lane, uint64_t *head,
                       uint32_t length);
/* Copy one whole record in and publish it. False if the lane is full. */
bool producer_put(const struct producer *producer, uint32_t lane, const void *record,
                  uint32_t length);

bool producer_time(const struct producer *producer, uint32_t lane, uint64_t stamp);
bool producer_alloc(const struct producer *producer, uint32_t lane, uint32_t seq,
                    uint32_t delta, uint64_t address, uint64_t size);
bool producer_free(const struct producer *producer, uint32_t lane, uint32_t seq,
                   uint32_t delta, uint64_t address);

#endif
