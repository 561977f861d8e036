/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry points by which a program sets its allocator and asks for its numbers. They
 * stand before the C library's, which would speak of a heap that serves nobody when our
 * own allocator does, and otherwise they go straight on.
 */
#include <malloc.h>

#include "libhook/guard.h"
#include "libhook/life.h"
#include "libhook/real.h"

static void begin(void)
{
    if (!neap_real.ready && neap_tls.busy == NEAP_IDLE)
        neap_life_begin();
}

NEAP_EXPORT int mallopt(int parameter, int value)
{
    begin();
    return neap_real.mallopt ? neap_real.mallopt(parameter, value) : 0;
}

NEAP_EXPORT int malloc_trim(size_t pad)
{
    begin();
    return neap_real.malloc_trim ? neap_real.malloc_trim(pad) : 0;
}

NEAP_EXPORT void malloc_stats(void)
{
    begin();
    if (neap_real.malloc_stats)
        neap_real.malloc_stats();
}

NEAP_EXPORT int malloc_info(int options, FILE *file)
{
    begin();
    return neap_real.malloc_info ? neap_real.malloc_info(options, file) : -1;
}

NEAP_EXPORT struct mallinfo mallinfo(void)
{
    begin();
    return neap_real.mallinfo ? neap_real.mallinfo() : (struct mallinfo){0};
}

NEAP_EXPORT struct mallinfo2 mallinfo2(void)
{
    begin();
    return neap_real.mallinfo2 ? neap_real.mallinfo2() : (struct mallinfo2){0};
}
