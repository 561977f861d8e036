/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last words of a run, as they stand on standard error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/tally.h"

static char said[4096];

static void say(const struct neap_tally *tally)
{
    int fd = memfd_create("stderr", MFD_CLOEXEC);
    int before = dup(STDERR_FILENO);
    ssize_t length;

    assert_true(fd >= 0 && before >= 0);
    dup2(fd, STDERR_FILENO);
    neap_tally_say(tally, "/tmp/x.neap", false);
    dup2(before, STDERR_FILENO);
    close(before);
    length = pread(fd, said, sizeof(said) - 1, 0);
    close(fd);
    assert_true(length > 0);
    said[length] = 0;
}

static void expect(const char *line)
{
    if (!strstr(said, line))
        fail_msg("\"%s\" is not in: %s", line, said);
}

static void expect_not(const char *words)
{
    if (strstr(said, words))
        fail_msg("\"%s\" is in: %s", words, said);
}

static void test_processes(void **state)
{
    struct neap_tally tally = {.processes = 1, .programs = 1};

    (void)state;
    say(&tally);
    expect_not("recorded");
    expect_not("lost");
    expect_not("added up");
    tally.programs = 2;
    say(&tally);
    expect("neap: 1 process recorded (2 programs, by exec)\n");
    expect(", the programs' own peaks added up\n");
    tally.processes = 2;
    say(&tally);
    expect("neap: 2 processes recorded\n");
    expect(", the processes' own peaks added up\n");
    tally.processes = 10;
    tally.programs = 16;
    say(&tally);
    expect("neap: 10 processes recorded (16 programs, by exec)\n");
}

static void test_losses(void **state)
{
    struct neap_tally tally = {.processes = 1, .programs = 1};

    (void)state;
    tally.lost[NEAP_LOSS_STACKS] = 1;
    say(&tally);
    expect("neap: lost: 1 stack\n");
    tally.lost[NEAP_LOSS_STACKS] = 0;
    tally.lost[NEAP_LOSS_PROCESS] = 1;
    say(&tally);
    expect("neap: lost: 1 process that was not recorded; totals miss them\n");
    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        tally.lost[i] = UINT64_MAX; /* the longest line there can be */
    say(&tally);
    expect("18446744073709551615 stacks; totals miss them\n");
    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        tally.lost[i] = 2;
    say(&tally);
    expect("neap: lost: 2 processes that were not recorded, 2 events, 2 samples that "
           "found no room, 2 events of threads without a lane, 2 events that were "
           "waited for in vain, 2 corrupt records, 2 rows that could not be stored, 2 "
           "stacks; totals miss them\n");
}

/* Nothing was recorded, but what tried to be is told of. */
static void test_errors(void **state)
{
    struct neap_tally tally = {.processes = 1, .programs = 1};

    (void)state;
    say(&tally);
    expect_not("memory error");
    tally.errors = 1;
    say(&tally);
    expect("neap: 1 memory error, see: neap errors /tmp/x.neap\n");
    tally.errors = 2;
    say(&tally);
    expect("neap: 2 memory errors, see: neap errors /tmp/x.neap\n");
}

static void test_nothing(void **state)
{
    struct neap_tally tally = {.lost = {[NEAP_LOSS_PROCESS] = 3}};

    (void)state;
    say(&tally);
    expect("no process could be recorded");
    expect("lost: 3 processes that were not recorded");
    expect_not("neap report");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
