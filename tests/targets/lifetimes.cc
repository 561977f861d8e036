/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations at the edges of a program's and a thread's life: constructors before
 * main, destructors and atexit handlers after it, destructors of thread-local data.
 * libearly.so, linked, is initialised before the libraries that are preloaded.
 *
 * Links: tests/targets/libearly.c
 */
#include <pthread.h>

#include "tests/targets/target.h"

extern "C" int early_anchor(void);

namespace
{

enum {
    THREADS = 8
};

pthread_key_t key;

struct tls_owner {
    int used = 0;
    ~tls_owner();
};

thread_local tls_owner owner;

} // namespace

extern "C" {

SITE void *life_constructor()
{
    return keep(malloc(301));
}

SITE void *life_static_object()
{
    return keep(malloc(303));
}

SITE void life_atexit()
{
    keep(malloc(305));
}

SITE void life_destructor()
{
    keep(malloc(307));
}

SITE void life_static_destructor()
{
    keep(malloc(309));
}

SITE void life_tls_destructor()
{
    free(keep(malloc(311)));
    keep(malloc(313));
}

/* Asks for another round until the implementation has had enough of it. */
SITE void life_key_destructor(void *value)
{
    free(value);
    need(pthread_setspecific(key, keep(malloc(317))) == 0, "pthread_setspecific");
}

SITE void *life_key_value()
{
    return keep(malloc(319));
}

static __attribute__((constructor)) void before_main()
{
    life_constructor();
}

static __attribute__((destructor)) void after_main()
{
    life_destructor();
}

static void *thread_main(void *unused)
{
    owner.used = 1;
    need(pthread_setspecific(key, life_key_value()) == 0, "pthread_setspecific");
    return unused;
}

} // extern "C"

namespace
{

tls_owner::~tls_owner()
{
    life_tls_destructor();
}

struct static_object {
    void *block = life_static_object();
    ~static_object()
    {
        free(block);
        life_static_destructor();
    }
};

static_object object;

} // namespace

int main()
{
    pthread_t ids[THREADS];
    long rounds = sysconf(_SC_THREAD_DESTRUCTOR_ITERATIONS);
    int early = early_anchor();

    need(atexit(life_atexit) == 0, "atexit");
    need(pthread_key_create(&key, life_key_destructor) == 0, "pthread_key_create");
    for (int i = 0; i < THREADS; i++)
        need(pthread_create(&ids[i], nullptr, thread_main, nullptr) == 0, "no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], nullptr);

    site("life_constructor", 1, 301, 0, 0);
    site("life_static_object", 1, 303, 1, 303);
    site("life_atexit", 1, 305, 0, 0);
    site("life_destructor", 1, 307, 0, 0);
    site("life_static_destructor", 1, 309, 0, 0);
    site("life_tls_destructor", 2 * THREADS, 624L * THREADS, THREADS, 311L * THREADS);
    site("life_key_value", THREADS, 319L * THREADS, THREADS, 319L * THREADS);
    site("life_key_destructor", rounds * THREADS, 317 * rounds * THREADS,
         (rounds - 1) * THREADS, 317 * (rounds - 1) * THREADS);
    site("early_constructor", early, 323L * early, 0, 0);
    site("early_destructor", 1, 329, 0, 0);
    return 0;
}
