/* SPDX-License-Identifier: Apache-2.0 */
/* /proc: the parsers on what processes can make of it, the readers on real ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/source/procfs.h"

static bool parse(const char *text, struct neap_procfs_stat *ret)
{
    return neap_procfs_stat_parse(text, strlen(text), ret);
}

/* Fields 4 to 52, each its own number, but 52, which is `status`. */
static void make_stat(char *ret, size_t size, const char *name, int fields, int status)
{
    size_t at = (size_t)snprintf(ret, size, "1 (%s) Z", name);

    for (int i = 4; i <= fields; i++)
        at += (size_t)snprintf(ret + at, size - at, " %d", i == 52 ? status : i);
}

static void test_stat(void **state)
{
    static const char *const names[] = {"sh", "", ") R 9 9 9", "a b\n(c", "((", "))"};
    struct neap_procfs_stat stat;
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        make_stat(text, sizeof(text), names[i], 52, 256);
        assert_true(parse(text, &stat));
        assert_int_equal(stat.state, 'Z');
        assert_int_equal(stat.ppid, 4);
        assert_int_equal(stat.start_ticks, 22);
        assert_true(stat.has_wait_status);
        assert_int_equal(stat.wait_status, 256);
    }
    make_stat(text, sizeof(text), "x", 51, 0);
    assert_true(parse(text, &stat));
    assert_false(stat.has_wait_status);
}

static void test_stat_refused(void **state)
{
    static const char *const bad[] = {
        "",        ")",           "1 (x",         "1 (x)",     "1 (x) ",
        "1 (x) Z", "1 (x) 7 4 5", "1 (x) ZZ 4 5", "1 (x)Z 4 5"};
    struct neap_procfs_stat stat;
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(parse(bad[i], &stat));
    /* Cut anywhere before its 22nd field it is nothing. */
    make_stat(text, sizeof(text), "x", 21, 0);
    for (size_t i = 0; i <= strlen(text); i++)
        assert_false(neap_procfs_stat_parse(text, i, &stat));
}

static void expect_json(const char *bytes, size_t length, const char *json)
{
    char *text;

    assert_null(neap_procfs_command_json(bytes, length, &text));
    assert_string_equal(text, json);
    free(text);
}

static void test_command(void **state)
{
    (void)state;
    expect_json("", 0, "[]");
    expect_json("a\0b c\0", 6, "[\"a\", \"b c\"]");
    expect_json("a\0\0b", 4, "[\"a\", \"\", \"b\"]");
    expect_json("\"\\\n\0", 4, "[\"\\\"\\\\\\u000a\"]");
    expect_json("cut", 3, "[\"cut\"]");
}

static void test_environ(void **state)
{
    static const char block[] = "A=1\0NEAP_SOCKET=/x\0NEAP_SOCKET2=/y\0cut";

    (void)state;
    assert_true(neap_procfs_environ_has(block, sizeof(block) - 1, "A=1"));
    assert_true(neap_procfs_environ_has(block, sizeof(block) - 1, "NEAP_SOCKET=/x"));
    assert_true(neap_procfs_environ_has(block, sizeof(block) - 1, "cut"));
    assert_false(neap_procfs_environ_has(block, sizeof(block) - 1, "NEAP_SOCKET=/"));
    assert_false(neap_procfs_environ_has(block, sizeof(block) - 1, "SOCKET=/x"));
    assert_false(neap_procfs_environ_has("", 0, "A=1"));
}

static void test_process(void **state)
{
    struct neap_procfs_process process;

    (void)state;
    assert_null(neap_procfs_process_init(getpid(), &process));
    assert_int_equal(process.ppid, getppid());
    assert_non_null(strstr(process.exe, "test_procfs"));
    assert_non_null(strstr(process.command, "test_procfs"));
    neap_procfs_process_deinit(&process);
    /* One that is gone is described as far as that goes. */
    assert_null(neap_procfs_process_init(0x7ffffff0, &process));
    assert_string_equal(process.exe, "");
    assert_string_equal(process.command, "[]");
    neap_procfs_process_deinit(&process);
}

static pid_t start_child(int code, int *ret_pidfd)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (code < 0)
            raise(-code);
        _exit(code);
    }
    *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(*ret_pidfd >= 0);
    return pid;
}

static void test_wait_status(void **state)
{
    static const int codes[] = {0, 7, 255, -SIGKILL};
    siginfo_t info;

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        int pidfd, zombie, reaped;
        pid_t pid = start_child(codes[i], &pidfd);

        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        assert_true(neap_procfs_wait_status(pid, pidfd, &zombie));
        assert_int_equal(waitpid(pid, &reaped, 0), pid);
        assert_int_equal(zombie, reaped);
        /* Afterwards only newer kernels remember; whoever does is right. */
        if (neap_procfs_wait_status(pid, pidfd, &zombie))
            assert_int_equal(zombie, reaped);
        close(pidfd);
    }
}

static void test_alive_has_no_status(void **state)
{
    int status, pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    (void)state;
    assert_true(pidfd >= 0);
    assert_false(neap_procfs_wait_status(getpid(), pidfd, &status));
    assert_false(neap_procfs_is_stopped(getpid()));
    close(pidfd);
}

static bool except_none(void *context, pid_t pid)
{
    (void)context;
    (void)pid;
    return false;
}

static bool except_one(void *context, pid_t pid)
{
    return pid == *(const pid_t *)context;
}

static void test_count_environ(void **state)
{
    static char entry[] = "NEAP_TEST_PROCFS=only here";
    char *envp[] = {entry, NULL};
    char *argv[] = {(char *)"sleep", (char *)"60", NULL};
    int ready[2];
    char byte;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        execve("/bin/sleep", argv, envp);
        _exit(127);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 0); /* it has exec'ed */
    close(ready[0]);
    assert_int_equal(neap_procfs_count_environ(entry, except_none, NULL), 1);
    assert_int_equal(neap_procfs_count_environ(entry, except_one, &pid), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(neap_procfs_count_environ(entry, except_none, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_stat_refused),
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_environ),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_wait_status),
        cmocka_unit_test(test_alive_has_no_status),
        cmocka_unit_test(test_count_environ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
