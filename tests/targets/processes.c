/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to make processes. Each child prints "leaf PID COUNT": it has made COUNT
 * allocations of LEAF bytes in leaf_work and freed none.
 *
 *     processes forks N     N forks beside busy threads; each child allocates a bit
 *     processes fork_live   a child that frees, and reallocs, its parent's blocks
 *     processes fork_thread a child whose second thread allocates before its first
 *     processes vfork | spawn | system | popen | daemon
 *     processes leaf COUNT  what the latter run
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/targets/target.h"

extern char **environ;

enum {
    LEAF = 333,
    BUSY = 3
};

static char self[4096];
static _Atomic int stop;
static _Atomic long busy_count;

static SITE void leaf_work(long count)
{
    for (long i = 0; i < count; i++)
        keep(malloc(LEAF));
}

static void leaf(long count)
{
    leaf_work(count);
    say("leaf %d %ld\n", (int)getpid(), count);
}

static void wait_for(pid_t pid)
{
    int status = -1;

    need(pid > 0, "no child: %s", strerror(errno));
    while (waitpid(pid, &status, 0) < 0)
        need(errno == EINTR, "waitpid: %s", strerror(errno));
    need(status == 0, "child %d ended with wait status %#x", (int)pid, status);
}

static SITE void busy_block(size_t size)
{
    free(keep(malloc(size)));
}

static void *busy(void *unused)
{
    long count = 0;

    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        busy_block(64 + (size_t)(count++ & 7) * 128);
        if ((count & 0x3ff) == 0)
            usleep(100);
    }
    atomic_fetch_add(&busy_count, count);
    return unused;
}

static void forks(int children)
{
    pthread_t ids[BUSY];

    for (int i = 0; i < BUSY; i++)
        need(pthread_create(&ids[i], NULL, busy, NULL) == 0, "no thread");
    for (int i = 0; i < children; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            leaf(i % 5 + 1);
            _exit(0);
        }
        wait_for(pid);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < BUSY; i++)
        pthread_join(ids[i], NULL);
    site("busy_block", busy_count, -1, busy_count, -1);
}

static SITE void *parents_block(void)
{
    return keep(malloc(808));
}

static SITE void *childs_realloc(void *block)
{
    return keep(realloc(block, 909));
}

static void fork_live(void)
{
    void *first = parents_block();
    void *second = parents_block();
    pid_t pid = fork();

    if (pid == 0) {
        free(first);
        childs_realloc(second);
        leaf(4);
        exit(0);
    }
    wait_for(pid);
    keep(first);
    keep(second);
    site("parents_block", 2, 1616, 0, 0);
}

static void *leaf_thread(void *count)
{
    leaf_work(*(long *)count);
    return NULL;
}

static void run_thread(long count)
{
    pthread_t id;

    need(pthread_create(&id, NULL, leaf_thread, &count) == 0, "no thread");
    pthread_join(id, NULL);
}

/*
 * The child's thread has a stack that the parent's left behind, so that none is
 * allocated for it. What the parent had mapped and the child has not is something
 * else's before either allocates.
 */
static void fork_thread(void)
{
    const size_t hole = 1 << 20;
    pid_t pid;

    parents_block();
    run_thread(0);
    pid = fork();
    if (pid == 0) {
        unsigned char *mine[8];

        for (int i = 0; i < 8; i++)
            mine[i] =
                (unsigned char *)syscall(SYS_mmap, NULL, hole, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
        run_thread(3);
        leaf_work(4);
        for (int i = 0; i < 8; i++)
            for (size_t at = 0; at < hole; at++)
                need(mine[i][at] == 0, "somebody wrote into the child's memory");
        say("leaf %d %d\n", (int)getpid(), 7);
        exit(0);
    }
    wait_for(pid);
}

static void run_vfork(void)
{
    pid_t pid = vfork();

    if (pid == 0) {
        execl(self, "processes", "leaf", "11", (char *)NULL);
        _exit(127);
    }
    wait_for(pid);
}

static void run_spawn(void)
{
    char name[] = "processes", word[] = "leaf", count[] = "12";
    char *words[] = {name, word, count, NULL};
    pid_t pid = -1;

    need(posix_spawn(&pid, self, NULL, NULL, words, environ) == 0, "posix_spawn");
    wait_for(pid);
}

static void run_shell(const char *how)
{
    char command[4200];
    char line[128];
    FILE *pipe;

    snprintf(command, sizeof(command), "'%s' leaf 13", self);
    if (strcmp(how, "system") == 0) {
        need(system(command) == 0, "system failed");
        return;
    }
    pipe = popen(command, "r");
    need(pipe != NULL, "popen failed");
    need(fgets(line, sizeof(line), pipe) != NULL, "nothing came through the pipe");
    need(pclose(pipe) == 0, "pclose failed");
    say("%s", line);
}

/* The classic two forks. The daemon allocates on both sides of its parents' end. */
static void run_daemon(void)
{
    int ready[2];
    char byte;
    pid_t pid;

    need(pipe(ready) == 0, "no pipe");
    pid = fork();
    if (pid == 0) {
        need(setsid() > 0, "setsid");
        pid = fork();
        if (pid != 0)
            _exit(pid < 0);
        leaf_work(20);
        say("leaf %d %d\n", (int)getpid(), 35);
        int null = open("/dev/null", O_RDWR);

        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        need(write(ready[1], "x", 1) == 1, "no reader");
        close(ready[0]);
        close(ready[1]);
        usleep(300000);
        leaf_work(15);
        _exit(0);
    }
    wait_for(pid);
    close(ready[1]);
    need(read(ready[0], &byte, 1) == 1, "the daemon did not start");
    leaf_work(3);
    say("leaf %d %d\n", (int)getpid(), 3);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    need(length > 0, "cannot read /proc/self/exe");
    if (strcmp(mode, "leaf") == 0)
        leaf(count);
    else if (strcmp(mode, "forks") == 0)
        forks((int)count);
    else if (strcmp(mode, "fork_live") == 0)
        fork_live();
    else if (strcmp(mode, "fork_thread") == 0)
        fork_thread();
    else if (strcmp(mode, "vfork") == 0)
        run_vfork();
    else if (strcmp(mode, "spawn") == 0)
        run_spawn();
    else if (strcmp(mode, "system") == 0 || strcmp(mode, "popen") == 0)
        run_shell(mode);
    else if (strcmp(mode, "daemon") == 0)
        run_daemon();
    else
        need(0, "processes: no such mode: %s", mode);
    return 0;
}
