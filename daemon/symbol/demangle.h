/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names as people wrote them: C++ (_Z…) through the C++ runtime, and Rust's older
 * scheme, which is C++'s with a hash behind it and punctuation spelled out.
 * Rust's newer names (_R…) stay as they are.
 */
#ifndef NEAP_DAEMON_SYMBOL_DEMANGLE_H
#define NEAP_DAEMON_SYMBOL_DEMANGLE_H

#include <stdbool.h>

/* Whether `name` is of a scheme that some demangler knows, this one or another. */
bool neap_demangle_applies(const char *name);

/*
 * The readable form of `name`, which the caller frees; NULL where it has none, or
 * no memory is left: then `name` itself is the best there is.
 */
char *neap_demangle(const char *name);

#endif
