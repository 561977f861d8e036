/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program can see of the world it was started into. Its output must be the
 * same with and without a recorder, but for LD_PRELOAD and NEAP_*, which the reader
 * of its output leaves out. Pids are not printed; the parent's name is not either.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/targets/target.h"

extern char **environ;

static void descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct stat st;
        off_t at;

        if (fstat(fd, &st) < 0)
            continue;
        at = lseek(fd, 0, SEEK_CUR);
        say("fd %d type %o flags %o cloexec %d offset %ld\n", fd,
            (unsigned)st.st_mode & S_IFMT, (unsigned)fcntl(fd, F_GETFL),
            fcntl(fd, F_GETFD), at < 0 ? -1L : (long)at);
    }
    say("next fd %d\n", dup(STDOUT_FILENO));
}

static void signals(void)
{
    sigset_t mask, pending;
    stack_t alternate;

    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigpending(&pending);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;

        if (sigaction(number, NULL, &action) < 0)
            continue;
        say("signal %d blocked %d pending %d handler %s flags %x\n", number,
            sigismember(&mask, number), sigismember(&pending, number),
            action.sa_handler == SIG_DFL   ? "default"
            : action.sa_handler == SIG_IGN ? "ignored"
                                           : "caught",
            (unsigned)action.sa_flags);
    }
    sigaltstack(NULL, &alternate);
    say("altstack %d %zu\n", alternate.ss_flags, alternate.ss_size);
}

static void limits(void)
{
    char name[32] = "";
    struct stat st;
    mode_t mask = umask(0);

    umask(mask);
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit;

        if (getrlimit((__rlimit_resource_t)which, &limit) == 0)
            say("rlimit %d %lu %lu\n", which, (unsigned long)limit.rlim_cur,
                (unsigned long)limit.rlim_max);
    }
    prctl(PR_GET_NAME, name);
    need(stat(".", &st) == 0, "stat");
    say("umask %o nice %d name %s cwd %lu dumpable %d cpus %ld\n", (unsigned)mask,
        getpriority(PRIO_PROCESS, 0), name, (unsigned long)st.st_ino,
        prctl(PR_GET_DUMPABLE), sysconf(_SC_NPROCESSORS_ONLN));
    say("session %d group %d no_new_privs %d scheduler %d\n", getsid(0) == getpid(),
        getpgrp() == getpid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        sched_getscheduler(0));
}

static void proc_status(void)
{
    static const char *const wanted[] = {
        "Threads:", "Seccomp:", "TracerPid:", "SigBlk:", "SigIgn:", "SigCgt:"};
    FILE *status = fopen("/proc/self/status", "r");
    char text[256];

    need(status != NULL, "cannot open /proc/self/status");
    while (fgets(text, sizeof(text), status) != NULL)
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
            if (strncmp(text, wanted[i], strlen(wanted[i])) == 0)
                say("%s", text);
    fclose(status);
}

static void children(void)
{
    FILE *list = fopen("/proc/thread-self/children", "r");
    char text[256];

    if (list == NULL)
        return;
    say("children %s\n", fgets(text, sizeof(text), list) ? text : "none");
    fclose(list);
}

static void keeps_errno(void)
{
    void *block;

    errno = EDOM;
    block = keep(malloc(opaque(100)));
    say("errno after malloc %d", errno);
    block = keep(realloc(block, opaque(100000)));
    say(" realloc %d", errno);
    free(block);
    say(" free %d", errno);
    free(keep(calloc(opaque(3), 5)));
    say(" calloc %d\n", errno);
    say("usable %d\n", malloc_usable_size(block = keep(malloc(opaque(100)))) >= 100);
    free(block);
}

int main(int argc, char **argv)
{
    char input[16] = "";
    ssize_t got;

    for (int i = 0; i < argc; i++)
        say("word %s\n", argv[i]);
    for (char **variable = environ; *variable != NULL; variable++)
        say("variable %.400s\n", *variable);
    descriptors();
    signals();
    limits();
    proc_status();
    children();
    keeps_errno();
    got = read(STDIN_FILENO, input, sizeof(input) - 1);
    say("stdin %zd %s\n", got, input);
    return 0;
}
