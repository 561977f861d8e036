/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection: HELLO, WELCOME, and the shared memory that comes with it.
 *
 * Works in a forked child of a threaded program (system calls only). What it cannot
 * get within NEAP_HELLO_TIMEOUT_MS it does without: the program goes on unrecorded.
 * No descriptor of ours stays open.
 */
#ifndef NEAP_LIBHOOK_LINK_H
#define NEAP_LIBHOOK_LINK_H

#include <stdbool.h>

#include "libhook/life.h"

/* Fill in the mappings and the policy of `process`. False: not welcome. */
bool neap_link_connect(const char *socket_path, const struct neap_hello *hello,
                       struct neap_process *process);

/* Map one more group of lanes; NULL if the kernel has no room. */
uint8_t *neap_link_lanes(struct neap_process *process, unsigned group);

/* Map the table of sampled blocks; NULL if the kernel has no room. */
struct neap_table *neap_link_table(struct neap_process *process);

#endif
