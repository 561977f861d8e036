/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scratch directory of unit tests. Any failure here is a failure of the test.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

static char directory[256];

int scratch_setup(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    /* In memory if there is room for it: a disk makes each commit wait. */
    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(directory, sizeof(directory), "%s/neap-unit-XXXXXX", base);
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

int scratch_teardown(void **state)
{
    (void)state;
    chmod(directory, 0700);
    return nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_dir(void)
{
    return directory;
}

const char *scratch_path(const char *name)
{
    static char paths[8][1024];
    static unsigned turn;
    char *path = paths[turn++ % 8];

    assert_in_range(snprintf(path, sizeof(paths[0]), "%s/%s", directory, name), 1,
                    sizeof(paths[0]) - 1);
    return path;
}

void scratch_write(const char *name, const void *bytes, size_t length)
{
    FILE *file = fopen(scratch_path(name), "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

unsigned char *scratch_read(const char *name, size_t *ret_length)
{
    FILE *file = fopen(scratch_path(name), "re");
    unsigned char *bytes;
    long length;

    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    length = ftell(file);
    assert_true(length >= 0);
    rewind(file);
    bytes = malloc((size_t)length + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)length, file), length);
    assert_int_equal(fclose(file), 0);
    *ret_length = (size_t)length;
    return bytes;
}

void scratch_patch(const char *name, long offset, const void *bytes, size_t length)
{
    FILE *file = fopen(scratch_path(name), "r+e");

    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

int scratch_count(void)
{
    DIR *dir = opendir(directory);
    int count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;
}
