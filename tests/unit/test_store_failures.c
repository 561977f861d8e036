/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/store when things fail: the 1st, 2nd, 3rd ... allocation or system call
 * fails, until an attempt meets no failure. Each attempt must end in an error or in
 * success, leak nothing, leave no half-made file, and spare what was there before.
 *
 * SQLite's allocations fail through its own configuration, ours through ld's --wrap,
 * system calls through the table of SQLite's unix VFS.
 * Links: tests/unit/recordings.c tests/unit/scratch.c
 * Links: -Wl,--wrap=malloc -Wl,--wrap=realloc
 */
#include "schema/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

/* ---- the n-th of a kind fails ---- */

enum kind {
    NOTHING,
    OUR_MEMORY,
    SQLITE_MEMORY,
    SYSTEM_CALL
};

static enum kind failing;
static long countdown;  /* calls of that kind until one fails */
static bool persistent; /* and so do all after it */
static bool failed;

static bool fails(enum kind kind)
{
    if (failing != kind)
        return false;
    if (countdown > 0)
        countdown--;
    if (countdown > 0 || (failed && !persistent))
        return false;
    failed = true;
    return true;
}

static void fail_at(enum kind kind, long n, bool on)
{
    countdown = n;
    persistent = on;
    failed = false;
    failing = kind;
}

void *__real_malloc(size_t size);             /* NOLINT: ld's name */
void *__wrap_malloc(size_t size);             /* NOLINT: ld's name */
void *__real_realloc(void *old, size_t size); /* NOLINT: ld's name */
void *__wrap_realloc(void *old, size_t size); /* NOLINT: ld's name */

void *__wrap_malloc(size_t size) /* NOLINT: ld's name */
{
    return fails(OUR_MEMORY) ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size) /* NOLINT: ld's name */
{
    return fails(OUR_MEMORY) ? NULL : __real_realloc(old, size);
}

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int size)
{
    return fails(SQLITE_MEMORY) ? NULL : sqlite_memory.xMalloc(size);
}

static void *sqlite_realloc(void *old, int size)
{
    return fails(SQLITE_MEMORY) ? NULL : sqlite_memory.xRealloc(old, size);
}

/* What is called through SQLite's table, and what each says when it fails. */
#define FAIL(errnum)          \
    if (fails(SYSTEM_CALL)) { \
        errno = (errnum);     \
        return -1;            \
    }

static int sys_open(const char *path, int flags, int mode)
{
    FAIL(EMFILE)
    return open(path, flags, mode);
}

static ssize_t sys_pread(int fd, void *bytes, size_t length, off_t at)
{
    FAIL(EIO)
    return pread(fd, bytes, length, at);
}

static ssize_t sys_pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    FAIL(ENOSPC)
    return pwrite(fd, bytes, length, at);
}

static int sys_ftruncate(int fd, off_t length)
{
    FAIL(EIO)
    return ftruncate(fd, length);
}

static int sys_fstat(int fd, struct stat *st)
{
    FAIL(EIO)
    return fstat(fd, st);
}

static int sys_unlink(const char *path)
{
    FAIL(EIO)
    return unlink(path);
}

static void *sys_mmap(void *at, size_t length, int prot, int flags, int fd,
                      off_t offset)
{
    if (fails(SYSTEM_CALL)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mmap(at, length, prot, flags, fd, offset);
}

#undef FAIL

static void install(const char *name, sqlite3_syscall_ptr call)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    /* Which of pread and pread64 there is, is the build's choice. */
    vfs->xSetSystemCall(vfs, name, call);
}

static int start(void **state)
{
    (void)state;
    sqlite3_mem_methods mine;

    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory) != SQLITE_OK)
        return -1;
    mine = sqlite_memory;
    mine.xMalloc = sqlite_malloc;
    mine.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &mine) != SQLITE_OK ||
        sqlite3_initialize() != SQLITE_OK)
        return -1;
    install("open", (sqlite3_syscall_ptr)sys_open);
    install("pread", (sqlite3_syscall_ptr)sys_pread);
    install("pread64", (sqlite3_syscall_ptr)sys_pread);
    install("pwrite", (sqlite3_syscall_ptr)sys_pwrite);
    install("pwrite64", (sqlite3_syscall_ptr)sys_pwrite);
    install("ftruncate", (sqlite3_syscall_ptr)sys_ftruncate);
    install("fstat", (sqlite3_syscall_ptr)sys_fstat);
    install("unlink", (sqlite3_syscall_ptr)sys_unlink);
    install("mmap", (sqlite3_syscall_ptr)sys_mmap);
    return 0;
}

/* ---- the attempts ---- */

/* One attempt with something about to fail; true if nothing did. */
typedef bool attempt(enum kind kind, long n, bool on);

static int descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* All attempts of one kind; returns after how many nothing failed any more. */
static void until_success(attempt *try, enum kind kind, bool on, long at_least)
{
    sqlite3_int64 memory = sqlite3_memory_used();
    int open = descriptors();
    long n = 1;

    while (!try(kind, n, on)) {
        assert_int_equal(sqlite3_memory_used(), memory);
        assert_int_equal(descriptors(), open);
        assert_in_range(n, 1, 100000);
        /* Each of the first forty, then ever fewer: thousands would take minutes. */
        n += 1 + n / 40;
    }
    assert_in_range(n, at_least, 100000);
}

static void until_success_in_all_ways(attempt *try)
{
    for (int on = 0; on < 2; on++) {
        until_success(try, OUR_MEMORY, on, 2);
        until_success(try, SQLITE_MEMORY, on, 50);
        until_success(try, SYSTEM_CALL, on, 10);
    }
}

/* The outcome of one call: an error that says something, or a database. */
static bool settle(struct neap_error *error, sqlite3 *db)
{
    bool met = failed;

    failing = NOTHING;
    if (error) {
        assert_null(db);
        assert_true(met);
        assert_true(error->message[0]);
        neap_error_destroy(error);
    } else {
        assert_non_null(db);
    }
    return met;
}

static bool create(enum kind kind, long n, bool on)
{
    sqlite3 *db = NULL;
    struct neap_error *error;
    bool met;

    fail_at(kind, n, on);
    error = neap_store_create(scratch_path("new.neap"), false, &db);
    met = settle(error, db);
    if (!db) {
        assert_int_equal(scratch_count(), 0);
        return false;
    }
    /* A failure that did no harm left a whole recording. */
    recording_put(db, 1);
    neap_store_close(db);
    recording_holds("new.neap", 1);
    assert_int_equal(unlink(scratch_path("new.neap")), 0);
    assert_int_equal(scratch_count(), 0);
    return !met;
}

static void creating_leaves_a_recording_or_nothing(void **state)
{
    (void)state;
    until_success_in_all_ways(create);
}

/* SQLite leaves an empty log where it may not delete it: that one is no one's loss. */
static int beside_old(void)
{
    return (access(scratch_path("old.neap-wal"), F_OK) == 0) +
           (access(scratch_path("old.neap-shm"), F_OK) == 0) +
           (access(scratch_path("old.neap-journal"), F_OK) == 0);
}

static bool replace(enum kind kind, long n, bool on)
{
    sqlite3 *db = NULL;
    struct neap_error *error;
    bool met;

    fail_at(kind, n, on);
    error = neap_store_create(scratch_path("old.neap"), true, &db);
    met = settle(error, db);
    neap_store_close(db);
    if (error) {
        /* The last step opens the new one under its name: either may be there. */
        neap_auto(neap_store_guard) sqlite3 *there = NULL;

        assert_ok(neap_store_open(scratch_path("old.neap"), &there));
        int64_t rows = recording_number(there, "SELECT count(*) FROM loss");

        assert_in_range(rows, 0, 1);
        neap_store_close(neap_take(there));
        assert_int_equal(scratch_count(), beside_old() + 1);
        if (rows == 1)
            return false;
    }
    assert_int_equal(unlink(scratch_path("old.neap")), 0);
    recording_make("old.neap", 5);
    return !met && !error;
}

static void replacing_leaves_the_old_one_or_the_new(void **state)
{
    (void)state;
    recording_make("old.neap", 5);
    until_success_in_all_ways(replace);
}

static bool open_finished(enum kind kind, long n, bool on)
{
    sqlite3 *db = NULL;
    struct neap_error *error;
    bool met;

    fail_at(kind, n, on);
    error = neap_store_open(scratch_path("a.neap"), &db);
    met = settle(error, db);
    if (db)
        assert_int_equal(recording_number(db, "SELECT count FROM loss"), 5);
    neap_store_close(db);
    return !met;
}

static void opening_a_finished_recording_harms_nothing(void **state)
{
    (void)state;
    recording_make("a.neap", 5);
    until_success_in_all_ways(open_finished);
    recording_holds("a.neap", 5);
}

static void opening_a_dead_writers_recording_harms_nothing(void **state)
{
    (void)state;
    recording_crashed("a.neap", 5);
    until_success_in_all_ways(open_finished);
    recording_holds("a.neap", 5);
}

/* Closing reports nothing; whatever fails in it, what was committed is there. */
static bool close_writer(enum kind kind, long n, bool on)
{
    sqlite3 *db = NULL;
    bool met;

    assert_ok(neap_store_create(scratch_path("c.neap"), false, &db));
    recording_put(db, 6);
    fail_at(kind, n, on);
    neap_store_close(db);
    met = failed;
    failing = NOTHING;
    recording_holds("c.neap", 6);
    unlink(scratch_path("c.neap"));
    unlink(scratch_path("c.neap-wal"));
    unlink(scratch_path("c.neap-shm"));
    unlink(scratch_path("c.neap-journal"));
    return !met;
}

static void closing_keeps_what_was_committed(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        until_success(close_writer, SQLITE_MEMORY, on, 1);
        until_success(close_writer, SYSTEM_CALL, on, 5);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(creating_leaves_a_recording_or_nothing),
        TEST(replacing_leaves_the_old_one_or_the_new),
        TEST(opening_a_finished_recording_harms_nothing),
        TEST(opening_a_dead_writers_recording_harms_nothing),
        TEST(closing_keeps_what_was_committed),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
