/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is watched for a while: three phases, and before each of the last two
 * it says "ready" and waits for a byte on standard input.
 *
 *     phases [fork]       the second and third in a child
 *
 * Each phase allocates BLOCKS in a function of its own; the second also gives up the
 * first's, and the third those of the second, half of them by realloc.
 */
#include <sys/wait.h>

#include "tests/targets/target.h"

enum {
    BLOCKS = 200
};

static void *blocks[3][BLOCKS];

static void wait_for_word(void)
{
    char byte;

    say("ready\n");
    need(read(STDIN_FILENO, &byte, 1) == 1, "no word");
}

static SITE void first_phase(void)
{
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[0][i] = keep(malloc(100 + i));
}

static SITE void second_phase(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[1][i] = keep(malloc(1000 + i));
        free(blocks[0][i]);
    }
}

static SITE void third_phase(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[2][i] = keep(malloc(100 + i));
        if (i % 2)
            free(blocks[1][i]);
        else
            blocks[1][i] = keep(realloc(blocks[1][i], 5000));
    }
}

int main(int argc, char **argv)
{
    int status = 0;

    (void)argv;
    first_phase();
    wait_for_word();
    if (argc > 1 && fork() > 0) {
        wait(&status);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 97;
    }
    second_phase();
    wait_for_word();
    third_phase();
    return 0;
}
