/* SPDX-License-Identifier: Apache-2.0 */
/* Where the launcher finds and makes things, in directories with odd names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/paths.h"

static char root[] = "/tmp/neap-test-paths-XXXXXX";
static char hook[128], odd_hook[128];

static void put_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static int setup(void **state)
{
    char path[128];

    (void)state;
    if (!mkdtemp(root))
        return -1;
    snprintf(hook, sizeof(hook), "%s/libneap.so", root);
    put_file(hook);
    snprintf(path, sizeof(path), "%s/a b:c", root);
    mkdir(path, 0700);
    snprintf(odd_hook, sizeof(odd_hook), "%s/a b:c/libneap.so", root);
    put_file(odd_hook);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "/bin/rm -rf '%s'", root);
    return system(command);
}

static struct neap_error *make(struct neap_paths *paths, const char *name,
                               const char *output, const char *library)
{
    char *command[] = {(char *)name, NULL};
    struct neap_config config = {.output = output, .command = command};

    *paths = (struct neap_paths){0};
    setenv("XDG_RUNTIME_DIR", root, 1);
    setenv(NEAP_ENV_HOOK, library, 1);
    return neap_paths_init(paths, &config);
}

static void test_directory(void **state)
{
    struct neap_paths paths;
    struct stat st;

    (void)state;
    assert_null(make(&paths, "cmd", NULL, hook));
    assert_int_equal(stat(paths.directory, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_true(strncmp(paths.directory, root, strlen(root)) == 0);
    assert_true(strncmp(paths.socket, paths.directory, strlen(paths.directory)) == 0);
    assert_string_equal(paths.hook, hook);
    put_file(paths.socket);
    neap_paths_remove_directory(paths.directory);
    assert_int_equal(stat(paths.directory, &st), -1);
    neap_paths_deinit(&paths);
    neap_paths_deinit(&paths);
}

/* A directory whose path is too long for a socket is passed over. */
static void test_long_directory(void **state)
{
    struct sockaddr_un address;
    struct neap_paths paths;
    char name[256];

    (void)state;
    snprintf(name, sizeof(name), "%s/%0100d", root, 0);
    assert_int_equal(mkdir(name, 0700), 0);
    setenv("TMPDIR", name, 1);
    assert_null(make(&paths, "cmd", NULL, hook));
    neap_paths_remove_directory(paths.directory);
    neap_paths_deinit(&paths);
    setenv("XDG_RUNTIME_DIR", name, 1);
    {
        char *command[] = {(char *)"cmd", NULL};
        struct neap_config config = {.command = command};

        assert_null(neap_paths_init(&paths, &config));
    }
    assert_true(strncmp(paths.directory, "/tmp/neap-", 10) == 0);
    assert_true(strlen(paths.socket) < sizeof(address.sun_path));
    neap_paths_remove_directory(paths.directory);
    neap_paths_deinit(&paths);
    unsetenv("TMPDIR");
}

static void test_odd_hook(void **state)
{
    struct neap_paths paths;
    char target[128] = {0};

    (void)state;
    assert_null(make(&paths, "cmd", NULL, odd_hook));
    assert_null(strpbrk(paths.hook, ": "));
    assert_true(readlink(paths.hook, target, sizeof(target) - 1) > 0);
    assert_string_equal(target, odd_hook);
    neap_paths_remove_directory(paths.directory);
    assert_int_equal(access(paths.directory, F_OK), -1);
    neap_paths_deinit(&paths);
}

static void test_no_hook(void **state)
{
    struct neap_paths paths;
    struct neap_error *error = make(&paths, "cmd", NULL, "/nowhere/libneap.so");

    (void)state;
    assert_non_null(error);
    assert_non_null(strstr(error->message, "/nowhere/libneap.so"));
    assert_non_null(strstr(error->message, NEAP_ENV_HOOK));
    assert_null(paths.directory); /* nothing was made */
    neap_error_destroy(error);
    neap_paths_deinit(&paths);
}

static void expect_output(const char *name, const char *given, const char *wanted)
{
    struct neap_paths paths;
    char pid[32], text[256];

    snprintf(pid, sizeof(pid), ".%d.neap", (int)getpid());
    snprintf(text, sizeof(text), "%s%s", wanted, given ? "" : pid);
    assert_null(make(&paths, name, given, hook));
    assert_string_equal(paths.output, text);
    neap_paths_remove_directory(paths.directory);
    neap_paths_deinit(&paths);
}

static void test_output(void **state)
{
    (void)state;
    expect_output("cmd", "x y.neap", "x y.neap");
    expect_output("cmd", NULL, "cmd");
    expect_output("/usr/bin/cmd", NULL, "cmd");
    expect_output("./a/-cmd", NULL, "./-cmd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directory), cmocka_unit_test(test_long_directory),
        cmocka_unit_test(test_odd_hook),  cmocka_unit_test(test_no_hook),
        cmocka_unit_test(test_output),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
