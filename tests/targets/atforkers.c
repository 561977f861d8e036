/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks of a program that has a library with handlers of its own around them:
 *
 *     atforkers allocate   they allocate a large block and free it
 *     atforkers join       they end a thread that has allocated, and start another
 *
 * Links: tests/targets/libatforkers.c
 */
#include <sys/wait.h>

#include "tests/targets/target.h"

int atforkers_calls(void);

enum {
    FORKS = 5
};

int main(void)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        int status;

        need(child >= 0, "no child");
        if (child == 0) {
            for (size_t size = 1; size < 300000; size = size * 3 + 1)
                free(keep(malloc(size)));
            _exit(0);
        }
        need(waitpid(child, &status, 0) == child && status == 0, "a child failed");
    }
    say("%d\n", atforkers_calls());
    return 0;
}
