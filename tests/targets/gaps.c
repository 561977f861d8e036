/* SPDX-License-Identifier: Apache-2.0 */
/* Links: -Wl,-z,max-page-size=0x200000 */
/*
 * A program whose segments lie apart, as older linkers make them: glibc then speaks of
 * one segment where others would be one object.
 */
#include "tests/targets/target.h"

static SITE void apart(void)
{
    for (int i = 0; i < 10; i++)
        keep(malloc(777));
}

int main(void)
{
    apart();
    site("apart", 10, 7770, 0, 0);
    return 0;
}
