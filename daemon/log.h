/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for people, on standard error: "neap: <one line>".
 *
 * One write a line, so that it does not mix with the program's own output. Where
 * standard error is gone the words are, too; nothing fails for that.
 */
#ifndef NEAP_DAEMON_LOG_H
#define NEAP_DAEMON_LOG_H

#include <stdint.h>

#include "schema/attr.h"
#include "schema/base/error.h"

void neap_log(const char *format, ...) NEAP_PRINTF(1, 2);
/* Say an error and end it. Takes NULL, and says nothing then. */
void neap_log_error(struct neap_error *error);

/* "1.2 MiB" in `buffer`; exact below 1 KiB. */
#define NEAP_SIZE_TEXT 32
const char *neap_size_text(uint64_t bytes, char buffer[NEAP_SIZE_TEXT]);

#endif
