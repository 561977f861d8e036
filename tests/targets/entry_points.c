/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every entry point of the C allocation family once or twice, each from a function
 * of its own and with sizes no other call has. What fails must leave no trace; what
 * libc allocates on our behalf (strdup and its like) comes from below our function.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>

#include "tests/targets/target.h"

static size_t page;

static SITE void *ep_malloc(size_t size)
{
    return keep(malloc(size));
}

static SITE void *ep_calloc(size_t count, size_t size)
{
    return keep(calloc(count, size));
}

static SITE void *ep_realloc_null(size_t size)
{
    return keep(realloc(NULL, size));
}

static SITE void *ep_realloc_grow(void *block, size_t size)
{
    return keep(realloc(block, size));
}

static SITE void *ep_realloc_shrink(void *block, size_t size)
{
    return keep(realloc(block, size));
}

static SITE void *ep_realloc_same(void *block, size_t size)
{
    return keep(realloc(block, size));
}

static SITE void *ep_realloc_zero(void *block)
{
    return keep(realloc(block, opaque(0)));
}

static SITE void *ep_realloc_huge(void *block)
{
    return keep(realloc(block, opaque((size_t)PTRDIFF_MAX + 1)));
}

static SITE void *ep_reallocarray(void *block, size_t count, size_t size)
{
    return keep(reallocarray(block, count, size));
}

static SITE void *ep_posix_memalign(size_t alignment, size_t size)
{
    void *block = NULL;

    if (posix_memalign(&block, alignment, size))
        block = NULL;
    return keep(block);
}

static SITE void *ep_aligned_alloc(size_t alignment, size_t size)
{
    return keep(aligned_alloc(alignment, size));
}

static SITE void *ep_memalign(size_t alignment, size_t size)
{
    return keep(memalign(alignment, size));
}

static SITE void *ep_valloc(size_t size)
{
    return keep(valloc(size));
}

static SITE void *ep_pvalloc(size_t size)
{
    return keep(pvalloc(size));
}

static SITE void *ep_zero(void)
{
    return keep(malloc(opaque(0)));
}

/* One base block for each kind of realloc, so that each has its own account. */
static SITE void *base_grow(size_t size)
{
    return keep(malloc(size));
}

static SITE void *base_shrink(size_t size)
{
    return keep(malloc(size));
}

static SITE void *base_same(size_t size)
{
    return keep(malloc(size));
}

static SITE void *base_zero(size_t size)
{
    return keep(malloc(size));
}

static SITE void *base_huge(size_t size)
{
    return keep(malloc(size));
}

static SITE void *base_array(size_t size)
{
    return keep(malloc(size));
}

static void plain(void)
{
    ep_malloc(1001);
    free(ep_malloc(1003));
    site("ep_malloc", 2, 2004, 1, 1003);
    ep_calloc(3, 337);
    free(ep_calloc(1, 1013));
    site("ep_calloc", 2, 2024, 1, 1013);
    need(ep_zero() != NULL, "malloc(0) gave no block");
    site("ep_zero", 1, 0, 0, 0);
    free(keep(NULL));
}

static void reallocs(void)
{
    void *block;

    ep_realloc_null(1019);
    site("ep_realloc_null", 1, 1019, 0, 0);

    need(ep_realloc_grow(base_grow(101), 70001) != NULL, "realloc failed");
    site("base_grow", 1, 101, 1, 101);
    site("ep_realloc_grow", 1, 70001, 0, 0);

    need(ep_realloc_shrink(base_shrink(5003), 99) != NULL, "realloc failed");
    site("base_shrink", 1, 5003, 1, 5003);
    site("ep_realloc_shrink", 1, 99, 0, 0);

    free(ep_realloc_same(base_same(640), 640));
    site("base_same", 1, 640, 1, 640);
    site("ep_realloc_same", 1, 640, 1, 640);

    need(ep_realloc_zero(base_zero(727)) == NULL, "realloc(p, 0) gave a block");
    site("base_zero", 1, 727, 1, 727);
    site("ep_realloc_zero", 0, 0, 0, 0);

    block = base_huge(1234);
    need(ep_realloc_huge(block) == NULL, "a huge realloc succeeded");
    memset(block, 1, 1234); /* still ours */
    site("base_huge", 1, 1234, 0, 0);
    site("ep_realloc_huge", 0, 0, 0, 0);

    block = ep_reallocarray(base_array(55), 7, 211);
    site("base_array", 1, 55, 1, 55);
    need(ep_reallocarray(block, opaque(SIZE_MAX / 2), 4) == NULL,
         "an overflowing reallocarray succeeded");
    site("ep_reallocarray", 1, 1477, 0, 0);
}

static void aligned(void)
{
    need((uintptr_t)ep_posix_memalign(256, 1021) % 256 == 0, "not aligned");
    free(ep_posix_memalign(4096, 1031));
    need(ep_posix_memalign(opaque(3), 1033) == NULL, "an alignment of 3 succeeded");
    site("ep_posix_memalign", 2, 2052, 1, 1031);
    need((uintptr_t)ep_aligned_alloc(128, 1152) % 128 == 0, "not aligned");
    site("ep_aligned_alloc", 1, 1152, 0, 0);
    free(ep_memalign(512, 1039));
    site("ep_memalign", 1, 1039, 1, 1039);
    need((uintptr_t)ep_valloc(1049) % page == 0, "not aligned");
    site("ep_valloc", 1, 1049, 0, 0);
    need((uintptr_t)ep_pvalloc(page) % page == 0, "not aligned");
    site("ep_pvalloc", 1, (long)page, 0, 0);
}

static SITE void fails(void)
{
    need(keep(malloc(opaque((size_t)PTRDIFF_MAX + 1))) == NULL, "malloc succeeded");
    need(errno == ENOMEM, "malloc failed with errno %d", errno);
    need(keep(calloc(opaque(SIZE_MAX / 2), 4)) == NULL, "calloc succeeded");
    need(keep(memalign(64, opaque(SIZE_MAX - 64))) == NULL, "memalign succeeded");
    need(keep(aligned_alloc(64, opaque(SIZE_MAX - 63))) == NULL, "it succeeded");
    site("fails", 0, 0, 0, 0);
}

static SITE void lib_strdup(void)
{
    free(keep(strdup("seventeen letters")));
    keep(strndup("seventeen letters", 9));
    site("lib_strdup", 2, 28, 1, 18);
}

static SITE void lib_getline(void)
{
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/status", "r");

    need(file != NULL, "cannot read /proc/self/status");
    while (getline(&line, &room, file) > 0)
        ;
    free(line);
    fclose(file);
    site("lib_getline", -1, -1, -1, -1);
}

static SITE void lib_asprintf(void)
{
    char *text = NULL;

    need(asprintf(&text, "%0*d", 3000, 7) == 3000, "asprintf failed");
    free(text);
    site("lib_asprintf", -1, -1, -1, -1);
}

static SITE void lib_memstream(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);

    need(file != NULL, "open_memstream failed");
    fprintf(file, "%0*d", 9000, 7);
    fclose(file);
    free(text);
    site("lib_memstream", -1, -1, -1, -1);
}

/* C23's: not in every libc, but anyone may look for them by name. */
static SITE void c23_free_sized(void)
{
    void (*free_sized)(void *, size_t);
    void (*free_aligned_sized)(void *, size_t, size_t);

    *(void **)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
    *(void **)&free_aligned_sized = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (free_sized == NULL || free_aligned_sized == NULL)
        return;
    free_sized(keep(malloc(opaque(1051))), 1051);
    free_aligned_sized(keep(aligned_alloc(64, opaque(1088))), 64, 1088);
    free_sized(NULL, 0);
    site("c23_free_sized", 2, 2139, 2, 2139);
}

int main(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    plain();
    reallocs();
    aligned();
    fails();
    lib_strdup();
    lib_getline();
    lib_asprintf();
    lib_memstream();
    c23_free_sized();
    return 0;
}
