/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlclose: what it unmaps, our tables must forget. dlopen is never interposed: the
 * loader would then search our RPATH instead of the caller's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>

#include "libhook/guard.h"
#include "libhook/life.h"
#include "libhook/modules.h"
#include "libhook/real.h"

/* The loader counts objects it has unloaded; the first entry has it. */
static int take_count(struct dl_phdr_info *info, size_t size, void *ret)
{
    if (size >= offsetof(struct dl_phdr_info, dlpi_subs) + sizeof(info->dlpi_subs))
        *(unsigned long long *)ret = info->dlpi_subs;
    return 1;
}

static unsigned long long unloaded(void)
{
    unsigned long long count = 0;

    dl_iterate_phdr(take_count, &count);
    return count;
}

/* Is there anything to forget? */
static bool recorded(void)
{
    return neap_process && atomic_load_explicit(&neap_process->phase,
                                                memory_order_acquire) == NEAP_PHASE_ON;
}

/*
 * Most dlcloses unload nothing (another handle is open, or the library wants to stay),
 * and then nothing is forgotten. Whether one did is known only afterwards.
 */
NEAP_EXPORT int dlclose(void *handle)
{
    struct neap_tls *tls = &neap_tls;
    unsigned long long before;
    int result, saved;

    if (!neap_real.ready)
        neap_life_begin();
    if (neap_real.off || tls->busy != NEAP_IDLE || !recorded())
        return neap_real.dlclose(handle);
    before = unloaded();
    neap_modules_closing();
    result = neap_real.dlclose(handle);
    saved = errno;
    tls->busy = NEAP_INTERNAL;
    if (recorded() && unloaded() != before)
        neap_modules_unloaded();
    neap_modules_closed();
    tls->busy = NEAP_IDLE;
    errno = saved;
    return result;
}
