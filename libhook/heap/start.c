/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/start.h"

#include <string.h>
#include <unistd.h>

#include "libhook/heap/check.h"
#include "libhook/heap/heap.h"
#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"

_Atomic bool neap_heap_begun;

static const char *variable(char *const *env, const char *name)
{
    size_t length = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            return *env + length + 1;
    return "";
}

/* Digits alone, up to `most`. */
static bool number(const char *text, uint32_t most, uint32_t *ret)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > most)
            return false;
    }
    *ret = (uint32_t)value;
    return true;
}

void neap_heap_options_from(char *const *env, struct neap_heap_options *ret)
{
    const char *thp = variable(env, "NEAP_HEAP_THP");

    *ret = (struct neap_heap_options){.delay_ms = 500};
    number(variable(env, "NEAP_HEAP_CHECK"), INT32_MAX, &ret->check); /* 3 at most */
    number(variable(env, "NEAP_HEAP_DELAY"), INT32_MAX, &ret->delay_ms);
    ret->abort = strcmp(variable(env, "NEAP_HEAP_ERROR"), "abort") == 0;
    if (strcmp(thp, "always") == 0)
        ret->thp = NEAP_HEAP_THP_ALWAYS;
    else if (strcmp(thp, "never") == 0)
        ret->thp = NEAP_HEAP_THP_NEVER;
}

bool neap_heap_begin(const struct neap_heap_options *options)
{
    bool first;

    neap_lock();
    first = !atomic_load_explicit(&neap_heap_begun, memory_order_relaxed);
    if (first) {
        neap_pool_settings.delay_ms = options->delay_ms;
        neap_pool_settings.thp = options->thp;
        neap_check_begin(options);
        neap_local_hidden = options->check > 0;
        neap_local_begin();
        atomic_store_explicit(&neap_heap_begun, true, memory_order_release);
    }
    neap_unlock();
    return first;
}

void neap_heap_start_slowly(void)
{
    struct neap_heap_options options;

    neap_heap_options_from(environ, &options);
    neap_heap_begin(&options);
}

void neap_heap_observe(const struct neap_heap_observer *observer)
{
    atomic_store_explicit(&neap_observer, observer, memory_order_release);
}

void neap_heap_fork_prepare(void)
{
    neap_heap_start();
    neap_lock_fork();
    neap_local_forks();
}

void neap_heap_fork_parent(void)
{
    neap_lock_fork_parent();
}

void neap_heap_fork_child(void)
{
    neap_local_forked();
    neap_lock_fork_child();
}

int neap_heap_trim(size_t pad)
{
    size_t before;
    bool some;

    neap_heap_start();
    neap_lock();
    before = neap_pool_counts.given_back;
    neap_unlock();
    neap_local_trim();
    neap_lock();
    neap_pool_trim(pad);
    some = neap_pool_counts.given_back != before;
    neap_unlock();
    return some;
}
