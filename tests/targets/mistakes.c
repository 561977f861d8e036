/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mistakes with memory, by name, and then on as if nothing had been:
 *
 *     double | invalid | interior | twice     told at any check level
 *     mismatch | resize                       (a sized free; realloc of what is none)
 *     overflow                                from level 1 on
 *     reused                                  from level 2 on: a write after a free
 *     held | last                             level 3: found when it leaves, at the end
 *     none
 *
 * Prints what an allocator that sees it should say:
 *
 *     mistake KIND ADDRESS BLOCK SIZE FOUND-BY FREED-BY ALLOCATED-BY     - = none
 *
 * and what make_block has come to: what is refused is no free.
 */
#include <dlfcn.h>

#include "tests/targets/target.h"

#define SIZE  4321u
#define MANY  4000 /* 17 MiB: more than is kept back, or at hand of one size */
#define INNER 40   /* bytes from the start of a block */

static long made, freed;
static char *many[MANY];

static SITE char *make_block(void)
{
    made++;
    return keep(malloc(opaque(SIZE)));
}

static SITE void free_once(char *block)
{
    freed++;
    free(block);
    keep(NULL);
}

static SITE void free_again(char *block)
{
    free(block);
    keep(NULL);
}

static SITE void free_with_size(char *block, size_t size)
{
    void (*free_sized)(void *, size_t);

    /* C23's: not in every libc. */
    *(void **)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
    need(free_sized != NULL, "no free_sized");
    free_sized(block, size);
    keep(NULL);
}

static SITE void resize(char *block)
{
    need(keep(realloc(block, opaque(100))) == NULL, "realloc has moved what is none");
}

static SITE void write_to(char *block)
{
    *(volatile char *)block = 1;
}

/* Whoever gets the block next. */
static SITE void allocate_many(void)
{
    for (int i = 0; i < MANY; i++)
        many[i] = malloc(opaque(SIZE));
    keep(NULL);
}

static SITE void free_many(void)
{
    for (int i = 0; i < MANY; i++)
        free(many[i]);
    keep(NULL);
}

static void mistake(const char *kind, const char *address, const char *block,
                    const char *by)
{
    say("mistake %s %lu %lu %u %s\n", kind, (unsigned long)address,
        (unsigned long)block, block ? SIZE : 0, by);
}

/* ---- frees ---- */

static void double_free(void)
{
    char *block = make_block();

    free_once(block);
    free_again(block);
    mistake("double-free", block, block, "free_again free_once make_block");
}

static void twice(void)
{
    double_free();
    double_free();
}

static void invalid_free(void)
{
    static char none[64];

    free_again(keep(none));
    mistake("invalid-free", none, NULL, "free_again - -");
}

static void interior_free(void)
{
    char *block = make_block();

    free_again(block + INNER);
    mistake("interior-free", block + INNER, block, "free_again - make_block");
    free_once(block);
}

static void mismatch(void)
{
    char *block = make_block();

    free_with_size(block, SIZE / 4);
    mistake("size-mismatch", block, block, "free_with_size - make_block");
    free_with_size(block, SIZE);
    freed++;
    block = make_block();
    free_with_size(block, 2 * SIZE);
    mistake("size-mismatch", block, block, "free_with_size - make_block");
}

static void resize_inside(void)
{
    char *block = make_block();

    resize(block + INNER);
    mistake("interior-free", block + INNER, block, "resize - make_block");
    free_once(block);
}

/* ---- writes ---- */

static void overflow(void)
{
    char *block = make_block();

    write_to(block + SIZE);
    free_once(block);
    mistake("overflow", block + SIZE, block, "free_once - make_block");
}

static char *write_to_freed(void)
{
    char *block = make_block();

    free_once(block);
    write_to(block + INNER);
    return block;
}

static void reused(void)
{
    char *block = write_to_freed();

    allocate_many();
    mistake("write-after-free", block + INNER, block,
            "allocate_many free_once make_block");
}

static void held(void)
{
    char *block;

    allocate_many();
    block = write_to_freed();
    free_many();
    mistake("write-after-free", block + INNER, block, "free_many free_once make_block");
}

static void last(void)
{
    char *block = write_to_freed();

    mistake("write-after-free", block + INNER, block, "- free_once make_block");
}

static void none(void)
{
    char *block = make_block();

    memset(block, 1, SIZE);
    free_once(block);
    allocate_many();
    free_many();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*make)(void);
    } modes[] = {
        {"double", double_free},
        {"twice", twice},
        {"invalid", invalid_free},
        {"mismatch", mismatch},
        {"interior", interior_free},
        {"resize", resize_inside},
        {"overflow", overflow},
        {"reused", reused},
        {"held", held},
        {"last", last},
        {"none", none},
    };

    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (argc > 1 && strcmp(argv[1], modes[i].name) == 0) {
            modes[i].make();
            site("make_block", made, made * (long)SIZE, freed, freed * (long)SIZE);
            say("went on\n");
            return 0;
        }
    }
    need(0, "usage: mistakes double|twice|…, see the source");
}
