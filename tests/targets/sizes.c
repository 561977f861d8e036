/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A heap that grows, stays for a while with much coming and going, and shrinks; always
 * the same, so that an exact recording of it says what samples of it should estimate.
 *
 *     sizes small | large | mixed
 */
#include <stdint.h>

#include "tests/targets/target.h"

#define SLOTS 4096u

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
}

struct plan {
    unsigned live;   /* blocks, when it stays */
    unsigned rounds; /* of coming and going, in it */
    size_t (*size)(void);
};

static size_t small(void)
{
    return 16 + draw() % 240;
}

static size_t large(void)
{
    return (32u << 10) + draw() % (4u << 20);
}

/* Most are small, most bytes are in the large ones. */
static size_t mixed(void)
{
    unsigned bits = 4 + (unsigned)(draw() % 4) * (unsigned)(draw() % 6);

    return ((size_t)1 << bits) + draw() % ((size_t)1 << bits);
}

static SITE void *grow(size_t size)
{
    return keep(malloc(size));
}

static SITE void *churn(size_t size)
{
    return keep(malloc(size));
}

static SITE void *brief(size_t size)
{
    return keep(malloc(size));
}

static void run(const struct plan *plan)
{
    static void *blocks[SLOTS];

    for (unsigned i = 0; i < plan->live; i++)
        blocks[i] = grow(plan->size());
    for (unsigned i = 0; i < plan->rounds; i++) {
        unsigned at = (unsigned)(draw() % plan->live);

        free(blocks[at]);
        blocks[at] = churn(plan->size());
        if (i % 4 == 0)
            free(brief(plan->size()));
    }
    for (unsigned i = 0; i < plan->live; i++)
        if (i % 3 != 0)
            free(blocks[i]);
}

int main(int argc, char **argv)
{
    static const struct plan plans[] = {
        {4096, 40000, small}, {48, 600, large}, {3000, 12000, mixed}};
    static const char *const names[] = {"small", "large", "mixed"};

    for (int i = 0; i < 3; i++)
        if (argc == 2 && strcmp(argv[1], names[i]) == 0) {
            run(&plans[i]);
            return 0;
        }
    return 2;
}
