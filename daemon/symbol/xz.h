/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking .gnu_debugdata: a small ELF file with the function names of a stripped
 * one, packed with xz. Some distributions put it into every program.
 */
#ifndef NEAP_DAEMON_SYMBOL_XZ_H
#define NEAP_DAEMON_SYMBOL_XZ_H

#include <stdbool.h>
#include <stddef.h>

#define NEAP_XZ_MAX (16u << 20) /* bytes unpacked; the largest known is a quarter */

/* False: no xz, too large, or no memory. The caller frees `*ret`. */
bool neap_xz_unpack(const void *packed, size_t length, void **ret, size_t *ret_length);

#endif
