/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mistake with memory, by name, and then on as if nothing had been:
 *
 *     mistakes double | invalid | interior | twice
 *
 * Prints what an allocator that sees it should say:
 *
 *     mistake KIND ADDRESS BLOCK SIZE FOUND-BY FREED-BY ALLOCATED-BY     - = none
 */
#include "tests/targets/target.h"

#define SIZE 4321u

static SITE char *make_block(void)
{
    return keep(malloc(opaque(SIZE)));
}

static SITE void free_once(char *block)
{
    free(block);
    keep(NULL);
}

static SITE void free_again(char *block)
{
    free(block);
    keep(NULL);
}

static void double_free(void)
{
    char *block = make_block();

    free_once(block);
    free_again(block);
    say("mistake double-free %lu %lu %u free_again free_once make_block\n",
        (unsigned long)block, (unsigned long)block, SIZE);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    char *block;

    if (strcmp(mode, "double") == 0) {
        double_free();
    } else if (strcmp(mode, "twice") == 0) {
        double_free();
        double_free();
    } else if (strcmp(mode, "invalid") == 0) {
        free_again((char *)mode);
        say("mistake invalid-free %lu 0 0 free_again - -\n", (unsigned long)mode);
    } else if (strcmp(mode, "interior") == 0) {
        block = make_block();
        free_again(block + 40);
        say("mistake interior-free %lu %lu %u free_again - make_block\n",
            (unsigned long)block + 40, (unsigned long)block, SIZE);
        free_once(block);
    } else {
        need(0, "usage: mistakes double|invalid|interior|twice");
    }
    say("went on\n");
    return 0;
}
