/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks whose every frame is known. Prints "frames SIZE FUNCTION:LINE ..." for the
 * one block of that size, innermost first, down to main; an inlined function's name
 * ends in a star.
 */
#include <alloca.h>

#include "tests/targets/target.h"

static int leaf_line, middle_line, outer_line, main_line;

static SITE void *leaf(size_t size)
{
    void *block;

    leaf_line = __LINE__ + 1;
    block = malloc(size);
    return keep(block);
}

static SITE void *middle(size_t size)
{
    void *block;

    middle_line = __LINE__ + 1;
    block = leaf(size);
    return keep(block);
}

static SITE void *outer(size_t size)
{
    void *block;

    outer_line = __LINE__ + 1;
    block = middle(size);
    return keep(block);
}

static int inlined_line, host_line;

static inline __attribute__((always_inline)) void *inlined(size_t size)
{
    void *block;

    inlined_line = __LINE__ + 1;
    block = malloc(size);
    return keep(block);
}

static SITE void *host(size_t size)
{
    void *block;

    host_line = __LINE__ + 1;
    block = inlined(size);
    return keep(block);
}

static int pointer_line, variadic_line, dynamic_line, aligned_line;

static SITE void *through_pointer(void *(*function)(size_t), size_t size)
{
    void *block;

    pointer_line = __LINE__ + 1;
    block = function(size);
    return keep(block);
}

static SITE void *variadic(int count, ...)
{
    va_list args;
    size_t size = 0;
    void *block;

    va_start(args, count);
    for (int i = 0; i < count; i++)
        size += va_arg(args, size_t);
    va_end(args);
    variadic_line = __LINE__ + 1;
    block = malloc(size);
    return keep(block);
}

/* The frame's size is known at run time only. */
static SITE void *dynamic(size_t room, size_t size)
{
    char *bytes = alloca(room);
    void *block;

    keep(bytes);
    dynamic_line = __LINE__ + 1;
    block = malloc(size);
    return keep(block);
}

/* ... and this one's place as well: the CFA is an expression. */
static SITE void *realigned(size_t room, size_t size)
{
    char wide[256] __attribute__((aligned(128)));
    char *bytes = alloca(room);
    void *block;

    keep(wide);
    keep(bytes);
    aligned_line = __LINE__ + 1;
    block = malloc(size);
    return keep(block);
}

int main(void)
{
    main_line = __LINE__ + 1;
    outer(7001);
    say("frames 7001 leaf:%d middle:%d outer:%d main:%d\n", leaf_line, middle_line,
        outer_line, main_line);
    main_line = __LINE__ + 1;
    host(7013);
    say("frames 7013 inlined*:%d host:%d main:%d\n", inlined_line, host_line,
        main_line);
    main_line = __LINE__ + 1;
    through_pointer(leaf, 7019);
    say("frames 7019 leaf:%d through_pointer:%d main:%d\n", leaf_line, pointer_line,
        main_line);
    main_line = __LINE__ + 1;
    variadic(3, (size_t)7000, (size_t)20, (size_t)7);
    say("frames 7027 variadic:%d main:%d\n", variadic_line, main_line);
    main_line = __LINE__ + 1;
    dynamic(opaque(1000), 7039);
    say("frames 7039 dynamic:%d main:%d\n", dynamic_line, main_line);
    main_line = __LINE__ + 1;
    realigned(opaque(1000), 7043);
    say("frames 7043 realigned:%d main:%d\n", aligned_line, main_line);
    main_line = __LINE__ + 1;
    through_pointer(host, 7057);
    say("frames 7057 inlined*:%d host:%d through_pointer:%d main:%d\n", inlined_line,
        host_line, pointer_line, main_line);
    return 0;
}
