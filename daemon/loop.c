/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll, with a timeout finer than its milliseconds, and the bell.
 *
 * Why a thread for the bell: a futex cannot be polled, and a target cannot be given
 * an eventfd, because no descriptor of ours may stay open in it. The thread waits for
 * a value that is always there, so only a wake ends the wait. A ring between two
 * waits is lost, and costs no more than the longest delay of the pace.
 */
#include "daemon/loop.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

#include "schema/base/cleanup.h"

#define BATCH           64
#define BUSY_TICK_NS    5000000l
#define BUSY_RINGS_MAX  1000u
#define BUSY_TICKS_MAX  2000u /* ten seconds: whoever needs longer hangs */
#define PACE_FASTEST_NS 50000ull
#define PACE_SLOWEST_NS 50000000ull

struct neap_loop {
    int epoll;
    struct epoll_event batch[BATCH];
    int batch_length;
    struct neap_watch bell_watch;
    _Atomic uint32_t *bell_word;
    pthread_t bell_thread;
    bool bell_running;
    atomic_bool bell_stop;     /* set by destroy, read by the thread after each wake */
    pthread_mutex_t busy_lock; /* over the next two */
    void (*tick)(void *context);
    void *tick_context;
};

struct neap_error *neap_loop_create(struct neap_loop **ret)
{
    struct neap_loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return NEAP_NO_MEMORY;
    loop->bell_watch.fd = -1;
    pthread_mutex_init(&loop->busy_lock, NULL);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        int errnum = errno;

        free(loop);
        return neap_error_os(errnum, "cannot wait for events (epoll)");
    }
    *ret = loop;
    return NULL;
}

/* Whether anybody heard it. */
static bool ring(_Atomic uint32_t *word)
{
    return syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) > 0;
}

void neap_loop_destroy(struct neap_loop *loop)
{
    if (!loop)
        return;
    if (loop->bell_running) {
        atomic_store(&loop->bell_stop, true);
        /* It may be between its look at the flag and its wait: ring until it went. */
        for (;;) {
            struct timespec until;

            ring(loop->bell_word);
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 1000000;
            if (until.tv_nsec >= 1000000000) {
                until.tv_nsec -= 1000000000;
                until.tv_sec++;
            }
            if (pthread_timedjoin_np(loop->bell_thread, NULL, &until) != ETIMEDOUT)
                break;
        }
    }
    if (loop->bell_watch.fd >= 0)
        close(loop->bell_watch.fd);
    close(loop->epoll);
    free(loop);
}

struct neap_error *neap_loop_add(struct neap_loop *loop, struct neap_watch *watch)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event))
        return neap_error_os(errno, "cannot watch a descriptor (epoll_ctl)");
    return NULL;
}

void neap_loop_remove(struct neap_loop *loop, struct neap_watch *watch)
{
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    for (int i = 0; i < loop->batch_length; i++) {
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
    }
}

bool neap_loop_wait(struct neap_loop *loop, uint64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                               .tv_nsec = (long)(timeout_ns % 1000000000u)};
    struct pollfd pollfd = {.fd = loop->epoll, .events = POLLIN};
    bool any = false;
    int count;

    if (ppoll(&pollfd, 1, &timeout, NULL) <= 0)
        return false;
    count = epoll_wait(loop->epoll, loop->batch, BATCH, 0);
    loop->batch_length = count > 0 ? count : 0;
    for (int i = 0; i < loop->batch_length; i++) {
        struct neap_watch *watch = loop->batch[i].data.ptr;

        if (!watch)
            continue;
        any |= watch != &loop->bell_watch;
        watch->ready(watch->context);
    }
    loop->batch_length = 0;
    return any;
}

/* ---- bell ---- */

/* The owner's clock, if it is busy. */
static bool tick_if_busy(struct neap_loop *loop)
{
    bool busy;

    pthread_mutex_lock(&loop->busy_lock);
    busy = loop->tick != NULL;
    if (busy)
        loop->tick(loop->tick_context);
    pthread_mutex_unlock(&loop->busy_lock);
    return busy;
}

static void *bell_main(void *context)
{
    const struct timespec pause = {.tv_nsec = BUSY_TICK_NS};
    struct neap_loop *loop = context;
    unsigned ticks = 0;
    uint64_t one = 1;

    pthread_setname_np(pthread_self(), "neapd-bell");
    while (!atomic_load(&loop->bell_stop)) {
        bool ticking = ticks < BUSY_TICKS_MAX && tick_if_busy(loop);
        long woken = syscall(SYS_futex, loop->bell_word, FUTEX_WAIT, 0,
                             ticking ? &pause : NULL, NULL, 0);

        ticks = ticking ? ticks + 1 : 0;
        if (woken == 0 && write(loop->bell_watch.fd, &one, sizeof(one)) < 0)
            continue; /* the counter is full: the loop is awake already */
    }
    return NULL;
}

void neap_loop_busy(struct neap_loop *loop, void (*tick)(void *context), void *context)
{
    pthread_mutex_lock(&loop->busy_lock);
    loop->tick = tick;
    loop->tick_context = context;
    pthread_mutex_unlock(&loop->busy_lock);
    /* Not heard: the thread is on its way to a wait that would have no end. */
    for (unsigned i = 0; tick && i < BUSY_RINGS_MAX && !ring(loop->bell_word); i++)
        sched_yield();
}

static void bell_ready(void *context)
{
    struct neap_loop *loop = context;
    uint64_t rings;

    if (read(loop->bell_watch.fd, &rings, sizeof(rings)) < 0)
        return; /* taken already */
}

struct neap_error *neap_loop_bell_start(struct neap_loop *loop, _Atomic uint32_t *word)
{
    sigset_t all, before;
    struct neap_error *error;
    int errnum;

    loop->bell_word = word;
    loop->bell_watch = (struct neap_watch){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .ready = bell_ready,
        .context = loop,
    };
    if (loop->bell_watch.fd < 0)
        return neap_error_os(errno, "cannot make an eventfd");
    error = neap_loop_add(loop, &loop->bell_watch);
    if (error)
        return error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(&loop->bell_thread, NULL, bell_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum)
        return neap_error_os(errnum, "cannot start a thread");
    loop->bell_running = true;
    return NULL;
}

/* ---- pace ---- */

uint64_t neap_pace_next(struct neap_pace *pace, enum neap_activity activity)
{
    static const uint64_t steps[] = {1000000,  2000000,  5000000,
                                     10000000, 20000000, PACE_SLOWEST_NS};
    uint64_t delay = pace->delay_ns;

    switch (activity) {
    case NEAP_ACTIVITY_BUSY:
        if (delay == 0 || delay > NEAP_PACE_TICK_NS)
            delay = NEAP_PACE_TICK_NS;
        delay = delay / 2 > PACE_FASTEST_NS ? delay / 2 : PACE_FASTEST_NS;
        break;
    case NEAP_ACTIVITY_SOME:
        /* Slowly back to a tick, lest busy and quiet passes alternate. */
        delay = delay == 0 || delay > NEAP_PACE_TICK_NS ? NEAP_PACE_TICK_NS
                                                        : delay + PACE_FASTEST_NS / 4;
        if (delay > NEAP_PACE_TICK_NS)
            delay = NEAP_PACE_TICK_NS;
        break;
    case NEAP_ACTIVITY_NONE:
        for (size_t i = 0; i < NEAP_ARRAY_LEN(steps); i++) {
            if (steps[i] > delay || i + 1 == NEAP_ARRAY_LEN(steps)) {
                delay = steps[i];
                break;
            }
        }
        break;
    }
    pace->delay_ns = delay;
    return delay;
}
