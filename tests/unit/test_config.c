/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `neapd run`, and what the launcher makes of them for its children. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/collect.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/spawn.h"

#define WORDS(...)        \
    (char *[])            \
    {                     \
        __VA_ARGS__, NULL \
    }

static void parse(char **words, struct neap_config *ret)
{
    struct neap_error *error = neap_config_parse(words, ret);

    if (error)
        fail_msg("%s", error->message);
}

static void expect_usage(char **words, const char *text)
{
    struct neap_config config;
    struct neap_error *error = neap_config_parse(words, &config);

    assert_non_null(error);
    assert_int_equal(error->code, NEAP_ERROR_USAGE);
    if (!strstr(error->message, text))
        fail_msg("no '%s' in: %s", text, error->message);
    neap_error_destroy(error);
}

static int clean_environment(void **state)
{
    static const char *const names[] = {"OUTPUT", "FORCE",     "POLICY", "FOLLOW",
                                        "QUIET",  "INTERVAL",  "FAULTS", "CENSUS",
                                        "PYTHON", "ALLOCATOR", "SOCKET"};
    char name[64];

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        snprintf(name, sizeof(name), "NEAP_%s", names[i]);
        unsetenv(name);
    }
    return 0;
}

static void test_defaults(void **state)
{
    struct neap_config config;

    (void)state;
    parse(WORDS("ls", "--help", "-o"), &config);
    assert_null(config.output);
    assert_false(config.force || config.quiet);
    assert_true(config.follow);
    assert_int_equal(config.settings.policy, NEAP_POLICY_BLOCK);
    assert_int_equal(config.settings.interval, 0);
    assert_false(config.settings.dormant);
    assert_int_equal(config.settings.max_size, NEAP_MAX_SIZE_DEFAULT);
    assert_string_equal(config.command[0], "ls");
    assert_string_equal(config.command[2], "-o");
    assert_null(config.command[3]);
}

static void test_options(void **state)
{
    struct neap_config config;

    (void)state;
    parse(WORDS("-o", "a", "-f", "--policy=drop", "--no-follow", "-q", "--interval",
                "exact", "--allocator", "app", "--faults=off", "--census=off",
                "--python", "auto", "--", "--odd"),
          &config);
    assert_string_equal(config.output, "a");
    assert_true(config.force && config.quiet);
    assert_false(config.follow);
    assert_int_equal(config.settings.policy, NEAP_POLICY_DROP);
    assert_string_equal(config.command[0], "--odd");
    parse(WORDS("-ob c", "--output=d=e", "x"), &config);
    assert_string_equal(config.output, "d=e");
}

static void test_environment(void **state)
{
    struct neap_config config;

    (void)state;
    setenv("NEAP_OUTPUT", "env", 1);
    setenv("NEAP_POLICY", "drop", 1);
    setenv("NEAP_FOLLOW", "0", 1);
    setenv("NEAP_QUIET", "yes", 1);
    parse(WORDS("x"), &config);
    assert_string_equal(config.output, "env");
    assert_int_equal(config.settings.policy, NEAP_POLICY_DROP);
    assert_true(config.quiet);
    assert_false(config.follow);
    parse(WORDS("--follow", "--policy", "block", "-o", "line", "x"), &config);
    assert_string_equal(config.output, "line");
    assert_int_equal(config.settings.policy, NEAP_POLICY_BLOCK);
    assert_true(config.follow);
    setenv("NEAP_POLICY", "perhaps", 1);
    expect_usage(WORDS("x"), "NEAP_POLICY in the environment");
    setenv("NEAP_POLICY", "", 1); /* empty is as good as unset */
    parse(WORDS("x"), &config);
    clean_environment(NULL);
}

static void test_wrong_usage(void **state)
{
    (void)state;
    expect_usage(WORDS("--"), "no command");
    expect_usage(WORDS("-q"), "no command");
    expect_usage(WORDS("--nonsense", "x"), "--nonsense");
    expect_usage(WORDS("-z", "x"), "-z");
    expect_usage(WORDS("--out", "x"), "--out");
    expect_usage(WORDS("-o"), "needs a value");
    expect_usage(WORDS("--output=", "x"), "name of a file");
    expect_usage(WORDS("--quiet=1", "x"), "no value");
    expect_usage(WORDS("--policy", "wait", "x"), "block, drop or adapt");
    expect_usage(WORDS("--interval", "0", "x"), "exact");
    expect_usage(WORDS("--interval", "-1k", "x"), "exact");
    expect_usage(WORDS("--interval", "512Q", "x"), "exact");
    expect_usage(WORDS("--interval", "2T", "x"), "1 to 1T");
    expect_usage(WORDS("--interval", "99999999999999999999", "x"), "exact");
    expect_usage(WORDS("--policy", "adapt", "x"), "add --interval");
    expect_usage(WORDS("--max-size", "much", "x"), "bytes such as 500M");
    expect_usage(WORDS("--max-size", "9999999T", "x"), "bytes such as 500M");
    expect_usage(WORDS("--dormant=1", "x"), "no value");
}

static void test_sampling(void **state)
{
    struct neap_config config;

    (void)state;
    parse(WORDS("--interval", "512K", "--policy=adapt", "--dormant", "--max-size",
                "3MiB", "x"),
          &config);
    assert_int_equal(config.settings.interval, 512 << 10);
    assert_int_equal(config.settings.policy, NEAP_POLICY_ADAPT);
    assert_int_equal(config.settings.max_size, 3 << 20);
    assert_int_equal(neap_settings_mode(&config.settings), NEAP_MODE_OFF);
    parse(WORDS("--interval=1T", "x"), &config);
    assert_int_equal(config.settings.interval, NEAP_INTERVAL_MAX);
    assert_int_equal(neap_settings_mode(&config.settings), NEAP_MODE_SAMPLED);
    parse(WORDS("--interval=100B", "--interval=exact", "--max-size=0", "x"), &config);
    assert_int_equal(config.settings.interval, 0);
    assert_int_equal(config.settings.max_size, 0);
    assert_int_equal(neap_settings_mode(&config.settings), NEAP_MODE_EXACT);
}

static void test_later_releases(void **state)
{
    (void)state;
    expect_usage(WORDS("--faults", "full", "x"), "not part of this release");
    expect_usage(WORDS("--census", "5", "x"), "not part of this release");
    expect_usage(WORDS("--python", "on", "x"), "not part of this release");
}

static void test_allocator(void **state)
{
    static const char *const levels[] = {"", "4", "-1", "01", "high"};
    struct neap_config config;

    (void)state;
    parse(WORDS("x"), &config);
    assert_false(config.allocator.neap);
    assert_null(config.allocator.check);
    assert_null(config.allocator.error);
    parse(WORDS("--allocator", "neap", "x"), &config);
    assert_true(config.allocator.neap);
    parse(WORDS("--heap-check", "3", "--heap-error=continue", "--allocator=neap", "x"),
          &config);
    assert_string_equal(config.allocator.check, "3");
    assert_string_equal(config.allocator.error, "continue");
    parse(WORDS("--allocator=neap", "--allocator=app", "x"), &config);
    assert_false(config.allocator.neap);
    expect_usage(WORDS("--allocator", "glibc", "x"), "--allocator takes app");
    for (size_t i = 0; i < NEAP_ARRAY_LEN(levels); i++)
        expect_usage(WORDS("--allocator=neap", "--heap-check", (char *)levels[i], "x"),
                     "--heap-check takes a level from 0 to 3");
    expect_usage(WORDS("--allocator=neap", "--heap-error=", "x"),
                 "--heap-error takes continue or abort");
    expect_usage(WORDS("--heap-check=0", "x"), "add --allocator neap");
    expect_usage(WORDS("--allocator=app", "--heap-error=abort", "x"),
                 "--heap-error is for Neaptide's own allocator");
    setenv("NEAP_HEAP_CHECK", "2", 1);
    expect_usage(WORDS("x"), "--heap-check is for Neaptide's own allocator");
    setenv("NEAP_ALLOCATOR", "neap", 1);
    parse(WORDS("--heap-error=abort", "x"), &config);
    assert_string_equal(config.allocator.check, "2");
    parse(WORDS("--heap-check=1", "x"), &config);
    assert_string_equal(config.allocator.check, "1");
    unsetenv("NEAP_HEAP_CHECK");
    unsetenv("NEAP_ALLOCATOR");
}

/* What the launcher tells the collector comes out the same. */
static void test_collect_words(void **state)
{
    char *command[] = {(char *)"cmd", (char *)"--", NULL};
    struct neap_collect_config config = {.directory = "/d",
                                         .output = "o p",
                                         .force = true,
                                         .follow = false,
                                         .settings = {.policy = NEAP_POLICY_ADAPT,
                                                      .interval = 1ull << 40,
                                                      .max_size = INT64_MAX},
                                         .command = command};
    struct neap_collect_config got;
    char text[NEAP_COLLECT_TEXT];
    char *words[NEAP_COLLECT_WORDS + 3] = {NULL};

    (void)state;
    assert_false(neap_collect_parse(words, &got));
    neap_collect_words(&config, text, words);
    memcpy(words + NEAP_COLLECT_WORDS, command, sizeof(command));
    assert_true(neap_collect_parse(words, &got));
    assert_string_equal(got.directory, "/d");
    assert_string_equal(got.output, "o p");
    assert_true(got.force && !got.follow && !got.settings.dormant);
    assert_int_equal(got.settings.policy, NEAP_POLICY_ADAPT);
    assert_int_equal(got.settings.interval, 1ull << 40);
    assert_int_equal(got.settings.max_size, INT64_MAX);
    assert_string_equal(got.command[1], "--");
    words[NEAP_COLLECT_WORDS - 1] = (char *)"else";
    assert_false(neap_collect_parse(words, &got));
}

/* ---- the command's environment ---- */

static struct neap_allocator allocator; /* that is wished for */

static void expect_environment(char **envp, bool follow, const char *const *entries)
{
    struct neap_spawn_wishes wishes = {.hook = "/l/libneap.so",
                                       .socket = "/d/socket",
                                       .follow = follow,
                                       .allocator = allocator};
    char **block;
    size_t count = 0;

    assert_null(neap_spawn_environment(envp, &wishes, &block));
    for (; entries[count]; count++)
        assert_string_equal(block[count] ? block[count] : "(end)", entries[count]);
    assert_null(block[count]);
    free(block);
}

static void test_spawn_environment(void **state)
{
    static const char *const plain[] = {"A=1", "LD_PRELOAD=/l/libneap.so",
                                        "NEAP_SOCKET=/d/socket", NULL};
    static const char *const more[] = {"LD_PRELOAD=/l/libneap.so:/x.so /y.so",
                                       "NEAP_SOCKET=/d/socket", "NEAP_FOLLOW=0", NULL};
    static const char *const again[] = {"LD_PRELOAD=/l/libneap.so:/x.so",
                                        "NEAP_SOCKET=/d/socket", "NEAP_FOLLOW=1", NULL};
    static const char *const prefix[] = {"LD_PRELOAD=/l/libneap.so:/l/libneap.so.2",
                                         "NEAP_SOCKET=/d/socket", NULL};

    (void)state;
    expect_environment(WORDS("A=1"), true, plain);
    expect_environment(WORDS("LD_PRELOAD=", "A=1"), true, plain);
    expect_environment(WORDS("LD_PRELOAD=/x.so /y.so", "NEAP_SOCKET=/old"), false,
                       more);
    /* Recording within a recording, and a choice that the command line overrules. */
    expect_environment(WORDS("LD_PRELOAD=/l/libneap.so:/x.so", "NEAP_FOLLOW=0"), true,
                       again);
    expect_environment(WORDS("LD_PRELOAD=/l/libneap.so.2"), true, prefix);
}

static void test_spawn_allocator(void **state)
{
    static const char *const said[] = {"NEAP_ALLOC=1", "LD_PRELOAD=/l/libneap.so",
                                       "NEAP_SOCKET=/d/socket", "NEAP_ALLOCATOR=neap",
                                       NULL};
    static const char *const overruled[] = {"LD_PRELOAD=/l/libneap.so",
                                            "NEAP_SOCKET=/d/socket",
                                            "NEAP_ALLOCATOR=app", NULL};
    static const char *const checked[] = {"NEAP_HEAP_THP=never",
                                          "LD_PRELOAD=/l/libneap.so",
                                          "NEAP_SOCKET=/d/socket",
                                          "NEAP_ALLOCATOR=neap",
                                          "NEAP_HEAP_CHECK=2",
                                          "NEAP_HEAP_ERROR=continue",
                                          NULL};

    (void)state;
    expect_environment(WORDS("NEAP_ALLOCATOR=neap"), true, overruled);
    allocator.neap = true;
    expect_environment(WORDS("NEAP_ALLOCATOR=app", "NEAP_ALLOC=1"), true, said);
    allocator.check = "2";
    allocator.error = "continue";
    expect_environment(
        WORDS("NEAP_HEAP_CHECK=1", "NEAP_HEAP_THP=never", "NEAP_HEAP_ERROR=abort"),
        true, checked);
    allocator = (struct neap_allocator){0};
}

/* ---- the command ---- */

static void announced(void *context, pid_t pid)
{
    *(pid_t *)context = pid;
}

static int run(const char *path, char **argv, pid_t *ret_pid, int *ret_errnum)
{
    pid_t told = 0;
    sigset_t mask;
    struct neap_spawn_command command = {.path = path,
                                         .argv = argv,
                                         .envp = environ,
                                         .mask = &mask,
                                         .announce = announced,
                                         .context = &told};
    int status = -1;

    sigprocmask(SIG_SETMASK, NULL, &mask);
    assert_null(neap_spawn_run(&command, ret_pid, ret_errnum));
    assert_int_equal(told, *ret_pid);
    if (!*ret_errnum)
        assert_int_equal(waitpid(*ret_pid, &status, 0), *ret_pid);
    return status;
}

static void test_spawn_run(void **state)
{
    char script[] = "/tmp/neap-test-script-XXXXXX";
    int fd = mkostemp(script, O_CLOEXEC);
    pid_t pid;
    int errnum, status;

    (void)state;
    status = run("/bin/sh", WORDS("sh", "-c", "exit 9"), &pid, &errnum);
    assert_int_equal(errnum, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    status = run("/bin/sh", WORDS("sh", "-c", "kill -9 $$"), &pid, &errnum);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    run("/nowhere", WORDS("x"), &pid, &errnum);
    assert_int_equal(errnum, ENOENT);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* nothing is left of it */
    run("/bin", WORDS("x"), &pid, &errnum);
    assert_int_equal(errnum, EACCES);
    /* A text without "#!" is for the shell, as with execvp. */
    assert_true(write(fd, "exit $1\n", 8) == 8);
    fchmod(fd, 0700);
    close(fd);
    status = run(script, WORDS("x", "6"), &pid, &errnum);
    unlink(script);
    assert_int_equal(errnum, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

static void test_size_text(void **state)
{
    char text[NEAP_SIZE_TEXT];

    (void)state;
    assert_string_equal(neap_size_text(0, text), "0 B");
    assert_string_equal(neap_size_text(1023, text), "1023 B");
    assert_string_equal(neap_size_text(1536, text), "1.5 KiB");
    assert_string_equal(neap_size_text(UINT64_MAX, text), "16.0 EiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_wrong_usage),
        cmocka_unit_test(test_later_releases),
        cmocka_unit_test(test_collect_words),
        cmocka_unit_test(test_spawn_environment),
        cmocka_unit_test(test_spawn_run),
        cmocka_unit_test(test_allocator),
        cmocka_unit_test(test_spawn_allocator),
        cmocka_unit_test(test_size_text),
        cmocka_unit_test(test_sampling),
    };

    return cmocka_run_group_tests(tests, clean_environment, NULL);
}
