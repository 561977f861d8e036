/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of two libraries of the same shape, so that they fit into one another's place
 * and only the file says whose function is at an address.
 */
#include "tests/targets/target.h"

void *reuse_b(size_t size);

SITE void *reuse_b(size_t size)
{
    return keep(malloc(size));
}
