/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hook stands on: the bootstrap heap, the next allocator, the set of stacks
 * sent, memory that a forked child finds wiped, and what it says of loaded objects.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c libhook/emit.c libhook/emit_rare.c
 * Links: libhook/emit_sample.c libhook/gate.c libhook/sampler.c libhook/samples.c
 * Links: libhook/lane.c
 * Links: libhook/life.c libhook/link.c libhook/modules.c libhook/oracle.c
 * Links: libhook/real.c libhook/selfmem.c libhook/stack.c libhook/stackset.c
 * Links: libhook/unwind.c libhook/walk.c libhook/rules.c
 * Links: libhook/ownheap.c libhook/marks.c libhook/heap/%.c libhook/enter.c
 * Links: tests/unit/hook_process.c
 */
#include "libhook/real.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/modules.h"
#include "libhook/selfmem.h"
#include "libhook/stackset.h"
#include "tests/unit/hook_process.h"

/* ---- bootstrap heap ---- */

static void bootstrap_blocks_are_aligned_apart_and_zeroed(void **state)
{
    uint8_t *last = NULL;
    size_t last_size = 0;

    (void)state;
    for (size_t align = 1; align <= 4096; align *= 2) {
        for (size_t size = 0; size < 100; size += 33) {
            uint8_t *block = neap_boot_alloc(align, size);

            assert_non_null(block);
            assert_int_equal((uintptr_t)block % (align < 16 ? 16 : align), 0);
            assert_int_equal(neap_boot_size(block), size);
            assert_true(neap_boot_owns(block));
            /* 16 bytes in front of it are its own, too */
            assert_true(!last || block - 16 >= last + last_size);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(block[i], 0);
            memset(block, 0xee, size);
            last = block;
            last_size = size;
        }
    }
}

static void only_the_bootstrap_heap_s_own_is_its_own(void **state)
{
    int local;

    (void)state;
    assert_true(neap_boot_owns(neap_boot));
    assert_true(neap_boot_owns(neap_boot + NEAP_BOOT_BYTES - 1));
    assert_false(neap_boot_owns(neap_boot + NEAP_BOOT_BYTES));
    assert_false(neap_boot_owns((uint8_t *)(uintptr_t)((uintptr_t)neap_boot - 1)));
    assert_false(neap_boot_owns(NULL));
    assert_false(neap_boot_owns(&local));
}

/* The last one to use it. */
static void the_bootstrap_heap_ends(void **state)
{
    unsigned blocks = 0;

    (void)state;
    assert_null(neap_boot_alloc(16, SIZE_MAX));
    assert_null(neap_boot_alloc(16, NEAP_BOOT_BYTES + 1));
    assert_null(neap_boot_alloc(16, NEAP_BOOT_BYTES));
    assert_null(neap_boot_alloc((size_t)1 << 63, 1));
    assert_null(neap_boot_alloc(NEAP_BOOT_BYTES, 1));
    for (;; blocks++) {
        uint8_t *block = neap_boot_alloc(16, 1000);

        if (!block)
            break;
        assert_true(block + 1000 <= neap_boot + NEAP_BOOT_BYTES);
        memset(block, 0xdd, 1000);
    }
    assert_in_range(blocks, 100, NEAP_BOOT_BYTES / 1000);
    assert_null(neap_boot_alloc(16, 1000));
}

static void the_next_definitions_are_found(void **state)
{
    void *block;

    (void)state;
    assert_true(neap_real.ready);
    block = neap_real.malloc(100);
    assert_non_null(block);
    assert_true(neap_real.malloc_usable_size(block) >= 100);
    assert_false(neap_boot_owns(block));
    block = neap_real.realloc(block, 1000);
    assert_non_null(block);
    neap_real.free(block);
    assert_non_null(neap_real.mmap);
    assert_non_null(neap_real.execve);
    assert_true(strlen(neap_real_allocator()) > 4);
    assert_true(strstr(neap_real_allocator(), ".so") != NULL);
    assert_null(strchr(neap_real_allocator(), '/'));
    assert_null(neap_real_find("no_such_function_anywhere", NULL));
    assert_ptr_equal(neap_real_find("qsort", NULL), dlsym(RTLD_NEXT, "qsort"));
}

/* ---- stacks sent ---- */

static uint64_t in_bucket(uint64_t bucket, uint64_t number)
{
    return bucket << (64 - NEAP_STACKSET_BITS) | number;
}

static void a_stack_that_was_added_is_known(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 8; i++) {
        assert_false(neap_stackset_has(in_bucket(3, i)));
        neap_stackset_add(in_bucket(3, i));
        assert_true(neap_stackset_has(in_bucket(3, i)));
        assert_false(neap_stackset_has(in_bucket(4, i)));
    }
    for (uint64_t i = 1; i <= 8; i++)
        assert_true(neap_stackset_has(in_bucket(3, i)));
    neap_stackset_add(UINT64_MAX);
    assert_true(neap_stackset_has(UINT64_MAX));
    neap_stackset_add(1);
    assert_true(neap_stackset_has(1));
}

static void a_full_bucket_gives_up_one_stack_for_another(void **state)
{
    unsigned known = 0;

    (void)state;
    for (uint64_t i = 1; i <= 9; i++)
        neap_stackset_add(in_bucket(9, i));
    assert_true(neap_stackset_has(in_bucket(9, 9)));
    for (uint64_t i = 1; i <= 9; i++)
        known += neap_stackset_has(in_bucket(9, i));
    assert_int_equal(known, 8);
}

static void all_stacks_are_forgotten_at_once(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++)
        neap_stackset_add(in_bucket(i * 31, 5));
    neap_stackset_forget();
    for (uint64_t i = 0; i < 1000; i++)
        assert_false(neap_stackset_has(in_bucket(i * 31, 5)));
    neap_stackset_add(in_bucket(7, 5));
    assert_true(neap_stackset_has(in_bucket(7, 5)));
}

/* ---- our own memory ---- */

static void a_forked_child_finds_wiped_memory_wiped(void **state)
{
    uint8_t *wiped = neap_selfmem_wiped(3 * NEAP_PAGE);
    uint8_t *kept = neap_selfmem_map(NEAP_PAGE);
    int status;
    pid_t pid;

    (void)state;
    assert_non_null(wiped);
    assert_non_null(kept);
    for (unsigned i = 0; i < 3 * NEAP_PAGE; i++)
        assert_int_equal(wiped[i], 0);
    memset(wiped, 7, 3 * NEAP_PAGE);
    memset(kept, 7, NEAP_PAGE);
    pid = fork();
    if (pid == 0) {
        unsigned wrong = 0;

        for (unsigned i = 0; i < 3 * NEAP_PAGE; i++)
            wrong += wiped[i] != 0;
        for (unsigned i = 0; i < NEAP_PAGE; i++)
            wrong += kept[i] != 7;
        wiped[5] = 1; /* it is the child's now, and stays */
        _exit(wrong || wiped[5] != 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    for (unsigned i = 0; i < 3 * NEAP_PAGE; i++)
        assert_int_equal(wiped[i], 7);
    neap_selfmem_clear(wiped, 3 * NEAP_PAGE);
    assert_int_equal(wiped[0] + wiped[3 * NEAP_PAGE - 1], 0);
    munmap(wiped, 3 * NEAP_PAGE);
    munmap(kept, NEAP_PAGE);
}

static void memory_that_is_not_there_is_null(void **state)
{
    int before = errno = 5;

    (void)state;
    assert_null(neap_selfmem_map(1ull << 62));
    assert_null(neap_selfmem_wiped(1ull << 62));
    assert_null(neap_selfmem_wiped(0));
    assert_int_equal(errno, before);
}

/* ---- objects ---- */

/* The build-id in a file, from its section headers. */
static uint32_t build_id_of_file(const char *path, uint8_t *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint32_t length = 0;
    struct stat st;
    uint8_t *file;

    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(file != MAP_FAILED);
    close(fd);
    const Elf64_Ehdr *elf = (const void *)file;
    const Elf64_Shdr *section = (const void *)(file + elf->e_shoff);

    for (unsigned i = 0; i < elf->e_shnum; i++) {
        const Elf64_Nhdr *note = (const void *)(file + section[i].sh_offset);

        if (section[i].sh_type == SHT_NOTE && note->n_type == NT_GNU_BUILD_ID) {
            length = note->n_descsz;
            assert_true(length <= NEAP_BUILD_ID_MAX);
            memcpy(ret, (const uint8_t *)(note + 1) + note->n_namesz, length);
        }
    }
    munmap(file, (size_t)st.st_size);
    return length;
}

static void announced_objects_are_the_files_they_say(void **state)
{
    static struct hook_record records[64];
    unsigned count, compared = 0;
    char self[4096] = {0};

    (void)state;
    hook_alloc(1 << 20, 1);
    count = hook_read(0, records, NEAP_ARRAY_LEN(records));
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    for (unsigned i = 0; i < count; i++) {
        uint8_t expected[NEAP_BUILD_ID_MAX];

        if (records[i].kind != NEAP_EV_MODULE)
            continue;
        assert_int_equal(records[i].path[0], '/');
        assert_int_equal(records[i].build_id_len,
                         build_id_of_file(records[i].path, expected));
        assert_memory_equal(records[i].build_id, expected, records[i].build_id_len);
        assert_true(records[i].build_id_len > 0);
        if ((uintptr_t)a_forked_child_finds_wiped_memory_wiped >= records[i].start &&
            (uintptr_t)a_forked_child_finds_wiped_memory_wiped < records[i].end)
            assert_string_equal(records[i].path, self);
        compared++;
    }
    assert_true(compared >= 3); /* this program, libcmocka, libc */
}

static void an_object_is_found_by_any_of_its_addresses(void **state)
{
    struct neap_object object, again;
    int local;

    (void)state;
    assert_true(neap_modules_find((uintptr_t)neap_modules_find, &object));
    assert_true(object.start <= (const uint8_t *)(uintptr_t)neap_modules_find &&
                (const uint8_t *)(uintptr_t)neap_modules_find < object.end);
    assert_non_null(object.eh_frame_hdr);
    assert_true(neap_modules_find((uintptr_t)object.end - 1, &again));
    assert_ptr_equal(again.start, object.start);
    assert_ptr_equal(again.link_map, object.link_map);
    assert_false(neap_modules_find((uintptr_t)&local, &object));
    assert_false(neap_modules_find(0, &object));
    assert_false(neap_modules_find(UINT64_MAX, &object));
    assert_null(neap_modules_path(&local));
    assert_true(strstr(neap_modules_path((void *)(uintptr_t)neap_real.execve), ".so"));
}

static void the_loader_is_known_from_others(void **state)
{
    (void)state;
    assert_true(getauxval(AT_BASE) != 0);
    assert_true(neap_modules_is_loader(getauxval(AT_BASE) + 0x1000));
    assert_false(neap_modules_is_loader((uintptr_t)neap_modules_find));
    assert_false(neap_modules_is_loader((uintptr_t)dlsym(RTLD_NEXT, "qsort")));
    assert_false(neap_modules_is_loader(0));
}

static void an_object_is_noted_once_a_generation(void **state)
{
    struct neap_object object;
    uint32_t generation = (uint32_t)atomic_load(&neap_process->epoch);

    (void)state;
    neap_tls.tid = (uint32_t)gettid();
    assert_true(neap_modules_find((uintptr_t)neap_modules_find, &object));
    assert_true(neap_tls.found);
    neap_modules_announce(&neap_tls); /* no lane: said to nobody, but done */
    assert_false(neap_tls.found);
    assert_true(neap_modules_find((uintptr_t)neap_modules_find, &object));
    assert_false(neap_tls.found);
    neap_modules_unloaded();
    assert_true((uint32_t)atomic_load(&neap_process->epoch) > generation);
    assert_true(neap_modules_find((uintptr_t)neap_modules_find, &object));
    assert_true(neap_tls.found);
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, hook_process_setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bootstrap_blocks_are_aligned_apart_and_zeroed),
        TEST(only_the_bootstrap_heap_s_own_is_its_own),
        TEST(the_next_definitions_are_found),
        TEST(a_stack_that_was_added_is_known),
        TEST(a_full_bucket_gives_up_one_stack_for_another),
        TEST(all_stacks_are_forgotten_at_once),
        TEST(a_forked_child_finds_wiped_memory_wiped),
        TEST(memory_that_is_not_there_is_null),
        TEST(announced_objects_are_the_files_they_say),
        TEST(an_object_is_found_by_any_of_its_addresses),
        TEST(the_loader_is_known_from_others),
        TEST(an_object_is_noted_once_a_generation),
        TEST(the_bootstrap_heap_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
