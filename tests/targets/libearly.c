/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library whose constructors allocate, and which the loader initialises before
 * everything else, a preloaded library included.
 *
 * Links: -Wl,-z,initfirst -Wl,-soname,libearly.so
 */
#include "tests/targets/target.h"

enum {
    EARLY = 40
};

int early_anchor(void);

static int made;

static SITE void early_constructor(void)
{
    keep(malloc(323));
    made++;
}

static SITE void early_destructor(void)
{
    keep(malloc(329));
}

static __attribute__((constructor)) void library_starts(void)
{
    for (int i = 0; i < EARLY; i++)
        early_constructor();
}

static __attribute__((destructor)) void library_ends(void)
{
    early_destructor();
}

int early_anchor(void)
{
    return made;
}
