/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each way to exec, with environments that do not lead to the recording: each child
 * becomes this program again, allocates LEAF bytes ROUNDS times in exec_leaf, and ends
 * with status 0. Prints "children N".
 */
#include <fcntl.h>
#include <sys/wait.h>

#include "tests/targets/target.h"

extern char **environ;

enum {
    LEAF = 345,
    ROUNDS = 3
};

static SITE void exec_leaf(void)
{
    for (int i = 0; i < ROUNDS; i++)
        keep(malloc(LEAF));
}

static void become(int way, const char *self)
{
    char *words[] = {"execs", "leaf", NULL};
    char *empty[] = {"A=1", NULL};

    if (way >= 5)
        clearenv();
    if (way == 0)
        execl(self, "execs", "leaf", (char *)NULL);
    else if (way == 1)
        execlp(self, "execs", "leaf", (char *)NULL);
    else if (way == 2)
        execle(self, "execs", "leaf", (char *)NULL, empty);
    else if (way == 3)
        execveat(AT_FDCWD, self, words, empty, 0);
    else if (way == 4)
        execve(self, words, NULL);
    else if (way == 5)
        execl(self, "execs", "leaf", (char *)NULL);
    else if (way == 6)
        execv(self, words);
    else
        execvpe(self, words, empty);
    _exit(9);
}

int main(int argc, char **argv)
{
    char self[4096] = "";
    int ways = 8;

    if (argc > 1 && strcmp(argv[1], "leaf") == 0) {
        exec_leaf();
        return 0;
    }
    need(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0, "who am I?");
    for (int way = 0; way < ways; way++) {
        int status = -1;
        pid_t pid = fork();

        need(pid >= 0, "fork");
        if (pid == 0)
            become(way, self);
        need(waitpid(pid, &status, 0) == pid && status == 0, "way %d: %#x", way,
             status);
    }
    say("children %d\n", ways);
    return 0;
}
