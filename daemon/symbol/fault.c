/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS while reading mapped files, see fault.h.
 *
 * The signal is sent to the thread that touched the missing page, in the middle of
 * plain code of ours, libelf or libdw. None of them holds a lock of malloc's or of
 * stdio's while it reads file pages, so leaving by siglongjmp leaks and no more.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

#include "daemon/symbol/fault.h"

static _Thread_local sigjmp_buf *landing;
static struct sigaction before;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void handle(int sig)
{
    if (landing)
        siglongjmp(*landing, 1);
    /* Not ours: whoever was here before gets it when the access is tried again. */
    sigaction(sig, &before, NULL);
}

bool neap_fault_install(void)
{
    struct sigaction action = {.sa_handler = handle};
    struct sigaction found;
    bool done;

    sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&lock);
    done = sigaction(SIGBUS, NULL, &found) == 0;
    if (done && found.sa_handler != handle) {
        before = found;
        done = sigaction(SIGBUS, &action, NULL) == 0;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

bool neap_fault_guard(void (*read)(void *argument), void *argument)
{
    sigjmp_buf here;

    if (sigsetjmp(here, 1)) {
        landing = NULL;
        return false;
    }
    landing = &here;
    read(argument);
    landing = NULL;
    return true;
}
