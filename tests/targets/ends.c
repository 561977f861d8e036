/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every way for a process to end, each right after COUNT allocations that nothing
 * must lose:
 *
 *     ends return|exit|_exit|_Exit|quick_exit|abort|segv|kill|exec|exec_busy|
 *          exec_fails|thread_exit|main_leaves|syscall|kill_busy
 *
 * The blocks are 97, 98, ... bytes. `exec` runs this program again as `after`,
 * which makes AFTER allocations more under the same pid.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "tests/targets/target.h"

enum {
    COUNT = 1000,
    AFTER = 10,
    FIRST = 97
};

static SITE void last_words(void)
{
    for (size_t i = 0; i < COUNT; i++)
        keep(malloc(FIRST + i));
}

static SITE void after_exec(void)
{
    for (size_t i = 0; i < AFTER; i++)
        keep(malloc(4096 + i));
}

static void *leave_the_process(void *unused)
{
    (void)unused;
    last_words();
    exit(7);
}

static void *outlive_main(void *unused)
{
    usleep(50000); /* main's thread is gone by now, or soon: both are good */
    last_words();
    return unused;
}

static void *busy_for_ever(void *unused)
{
    for (size_t i = 0;; i++)
        free(keep(malloc(16 + i % 512)));
    return unused;
}

static void by_thread(const char *mode)
{
    pthread_t id;

    if (strcmp(mode, "exec_busy") == 0 || strcmp(mode, "kill_busy") == 0) {
        for (int i = 0; i < 2; i++)
            need(pthread_create(&id, NULL, busy_for_ever, NULL) == 0, "no thread");
        usleep(30000);
    }

    if (strcmp(mode, "thread_exit") == 0) {
        need(pthread_create(&id, NULL, leave_the_process, NULL) == 0, "no thread");
        pthread_join(id, NULL);
    } else if (strcmp(mode, "main_leaves") == 0) {
        need(pthread_create(&id, NULL, outlive_main, NULL) == 0, "no thread");
        pthread_exit(NULL);
    }
}

static void by_signal(const char *mode)
{
    if (strcmp(mode, "abort") == 0)
        abort();
    if (strcmp(mode, "segv") == 0)
        *(volatile int *)opaque(8) = 1;
    if (strncmp(mode, "kill", 4) == 0)
        kill(getpid(), SIGKILL);
}

static void by_exec(const char *mode, char **argv)
{
    char after[] = "after";
    char *words[] = {argv[0], after, NULL};

    if (strcmp(mode, "exec") == 0 || strcmp(mode, "exec_busy") == 0)
        execv("/proc/self/exe", words);
    if (strcmp(mode, "exec_fails") == 0) {
        execv("/nonexistent/program", words);
        exit(6);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "after") == 0) {
        after_exec();
        return 3;
    }
    by_thread(mode);
    last_words();
    if (strcmp(mode, "return") == 0)
        return 5;
    if (strcmp(mode, "exit") == 0)
        exit(6);
    if (strcmp(mode, "_exit") == 0)
        _exit(7);
    if (strcmp(mode, "_Exit") == 0)
        _Exit(8);
    if (strcmp(mode, "quick_exit") == 0)
        quick_exit(9);
    if (strcmp(mode, "syscall") == 0)
        syscall(SYS_exit_group, 10);
    by_signal(mode);
    by_exec(mode, argv);
    need(0, "ends: no such way to end: %s", mode);
    return 0;
}
