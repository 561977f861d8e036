/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A symbolizer without files: takes the place of daemon/symbol in tests that link
 * fake_symbolizer.c. A location has the name that the test gave it, "f_<offset in
 * hex>" in "<path>.c", line = offset, if none.
 *
 * Answers come when asked for, unless they are held.
 */
#ifndef NEAP_TESTS_UNIT_FAKE_SYMBOLIZER_H
#define NEAP_TESTS_UNIT_FAKE_SYMBOLIZER_H

#include <stdbool.h>
#include <stdint.h>

/* Forget names, refuse nothing, hold nothing. */
void fake_symbolizer_reset(void);

/*
 * Name `offset` in any module. `functions` has frames separated by '|', innermost
 * first, all but the last of them inlined; "" is a frame without a name.
 */
void fake_symbolizer_name(uint64_t offset, const char *functions);

/* Keep answers back until they are waited for. */
void fake_symbolizer_hold(bool hold);

/* Every call that may fail does. */
void fake_symbolizer_fail(bool fail);

/* Questions asked since the reset. */
uint64_t fake_symbolizer_asked(void);

#endif
