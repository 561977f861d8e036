/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope guards: a variable declared with one is released when its scope ends,
 * however it ends. neap_take() moves the value out of its guard.
 *
 *     neap_auto_free char *path = strdup(name);
 *     ...
 *     *ret = neap_take(path);
 */
#ifndef NEAP_SCHEMA_BASE_CLEANUP_H
#define NEAP_SCHEMA_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define neap_auto(release) __attribute__((cleanup(release)))

static inline void neap_free_guard(void *pointer)
{
    free(*(void **)pointer);
}

static inline void neap_close_guard(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void neap_fclose_guard(FILE **file)
{
    if (*file)
        fclose(*file);
}

#define neap_auto_free   neap_auto(neap_free_guard)
#define neap_auto_close  neap_auto(neap_close_guard)
#define neap_auto_fclose neap_auto(neap_fclose_guard)

/* The pointer in `guarded`, which is NULL from here on. */
#define neap_take(guarded)                    \
    ({                                        \
        __typeof__(guarded) taken_ = guarded; \
        (guarded) = NULL;                     \
        taken_;                               \
    })

/* The descriptor in `guarded`, which is -1 from here on. */
#define neap_take_fd(guarded)   \
    ({                          \
        int taken_ = (guarded); \
        (guarded) = -1;         \
        taken_;                 \
    })

#endif
