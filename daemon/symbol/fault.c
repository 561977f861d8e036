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
static bool installed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void handle(int sig)
{
    if (landing)
        siglongjmp(*landing, 1);
    /* Not ours: whoever was here before gets it when the access is tried again. */
    sigaction(sig, &before, NULL);
}

static void install(void)
{
    struct sigaction action = {.sa_handler = handle};

    sigemptyset(&action.sa_mask);
    installed = sigaction(SIGBUS, &action, &before) == 0;
}

bool neap_fault_install(void)
{
    return pthread_once(&once, install) == 0 && installed;
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
