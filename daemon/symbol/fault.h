/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading mapped files that may shrink meanwhile.
 *
 * A program that is rebuilt in place while its names are read takes pages away from
 * under libelf's mapping, and the next read of one is a SIGBUS. Here it ends the
 * reading, not the collector. What was being read is in an unknown state afterwards:
 * it is to be left alone, memory and all, which costs little and happens seldom.
 */
#ifndef NEAP_DAEMON_SYMBOL_FAULT_H
#define NEAP_DAEMON_SYMBOL_FAULT_H

#include <stdbool.h>

/* Take SIGBUS over, if it is not yet. A fault outside of a guard goes its old way. */
bool neap_fault_install(void);

/* Run `read(argument)`; false: it was cut short by a fault of this thread. */
bool neap_fault_guard(void (*read)(void *argument), void *argument);

#endif
