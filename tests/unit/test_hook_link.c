/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/link against collectors that answer rightly, wrongly, or not at all. Whatever
 * they do: no descriptor and no mapping of ours is left behind, and a collector that
 * welcomed in vain is told.
 *
 * Links: libhook/link.c tests/unit/scratch.c
 */
#include "libhook/link.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

enum {
    SLOT = 77
};

/* A collector for one connection. */
struct collector {
    pthread_t thread;
    int listener;
    bool mute;       /* read HELLO, never answer */
    bool hangs_up;   /* read HELLO, close */
    uint32_t length; /* of the answer */
    struct neap_welcome welcome;
    int ctl, data;
    unsigned fds; /* how many to send: ctl, data */
    /* what came */
    struct neap_hello hello;
    bool told; /* one byte more: the welcome was of no use */
};

static int shared(uint64_t bytes, uint64_t magic, int seals)
{
    int fd = memfd_create("neap-link", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(pwrite(fd, &magic, sizeof(magic), 0), sizeof(magic));
    if (seals)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void collector_init(struct collector *c)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *c = (struct collector){
        .length = sizeof(struct neap_welcome),
        .welcome = {.magic = NEAP_HELLO_MAGIC,
                    .version = NEAP_WIRE_VERSION,
                    .status = NEAP_WELCOME_OK,
                    .slot = SLOT,
                    .policy = NEAP_POLICY_DROP,
                    .lanes_filled = 1},
        .ctl = shared(NEAP_CTL_BYTES, NEAP_CTL_MAGIC, SEALS),
        .data = shared(NEAP_DATA_BYTES, NEAP_DATA_MAGIC, SEALS),
        .fds = 2,
    };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", scratch_path("socket"));
    c->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(c->listener >= 0);
    assert_int_equal(
        bind(c->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(c->listener, 4), 0);
}

static void collector_deinit(struct collector *c)
{
    close(c->listener);
    close(c->ctl);
    close(c->data);
    unlink(scratch_path("socket"));
}

static void answer(struct collector *c, int fd)
{
    int fds[2] = {c->ctl, c->data};
    size_t bytes = c->fds * sizeof(int);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec iov = {&c->welcome, c->length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (c->fds > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(&control.header), fds, bytes);
    }
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)c->length)
        abort();
}

static void *collector_run(void *argument)
{
    struct collector *c = argument;
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
    char byte;

    if (fd < 0 || recv(fd, &c->hello, sizeof(c->hello), 0) != sizeof(c->hello))
        abort();
    if (!c->mute && !c->hangs_up)
        answer(c, fd);
    if (!c->hangs_up)
        c->told = recv(fd, &byte, 1, 0) == 1;
    close(fd);
    return NULL;
}

static unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static const void *ctl_page; /* once mapped it stays, and is not counted */

static unsigned count_mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    unsigned count = 0;
    char line[512];

    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        count += strstr(line, "neap-link") &&
                 strtoull(line, NULL, 16) != (uintptr_t)ctl_page;
    fclose(file);
    return count;
}

static const struct neap_hello hello = {.magic = NEAP_HELLO_MAGIC,
                                        .version = NEAP_WIRE_VERSION,
                                        .origin = NEAP_ORIGIN_EXEC,
                                        .tid = 4711,
                                        .allocator = "glibc"};

static bool handshake(struct collector *c, struct neap_process *process)
{
    bool welcome;
    unsigned fds;

    memset(process, 0, sizeof(*process));
    assert_int_equal(pthread_create(&c->thread, NULL, collector_run, c), 0);
    fds = count_fds();
    welcome = neap_link_connect(scratch_path("socket"), &hello, process);
    assert_int_equal(pthread_join(c->thread, NULL), 0);
    assert_int_equal(count_fds(), fds);
    assert_memory_equal(&c->hello, &hello, sizeof(hello));
    if (welcome)
        ctl_page = process->ctl;
    return welcome;
}

/* The handshake fails, the collector is told, nothing is left. */
static void refused(struct collector *c)
{
    struct neap_process process;
    unsigned before = count_mappings(), fds = count_fds();

    assert_false(handshake(c, &process));
    assert_int_equal(count_fds(), fds);
    assert_int_equal(count_mappings(), before);
    assert_null(atomic_load(&process.groups[0]));
    if (!c->hangs_up)
        assert_true(c->told);
}

static void unmap(struct neap_process *process)
{
    /* ctl's page stays where it is: the next connection takes its place. */
    if (atomic_load(&process->table))
        munmap(atomic_load(&process->table), NEAP_TABLE_BYTES);
    munmap((void *)(uintptr_t)process->tails, NEAP_CTL_SLOT_BYTES);
    munmap(process->data, NEAP_LANE_OFFSET(NEAP_LANE_GROUP));
}

/* ---- welcome ---- */

static void a_welcome_brings_the_shared_memory(void **state)
{
    struct neap_process process;
    struct collector c;
    uint64_t word = 0x1234;
    uint8_t *lane;

    (void)state;
    collector_init(&c);
    assert_true(handshake(&c, &process));
    assert_false(c.told);
    assert_int_equal(process.policy, NEAP_POLICY_DROP);
    assert_true(process.ctl->magic == NEAP_CTL_MAGIC);
    assert_true(process.data->magic == NEAP_DATA_MAGIC);
    /* our slot of ctl, and no other */
    assert_int_equal(pwrite(c.ctl, &word, 8, NEAP_CTL_SLOT_OFFSET(SLOT) + 8), 8);
    assert_int_equal(process.tails[1], word);
    assert_int_equal(process.tails[0], 0);
    /* the lanes of group 0 */
    lane = atomic_load(&process.groups[0]);
    word = 0x333333;
    memcpy(lane + 3 * (size_t)NEAP_LANE_STRIDE, &word, sizeof(word));
    word = 0;
    assert_int_equal(pread(c.data, &word, sizeof(word), NEAP_LANE_OFFSET(3)), 8);
    assert_int_equal(word, 0x333333);
    unmap(&process);
    assert_int_equal(count_mappings(), 0);
    collector_deinit(&c);
}

static void further_lanes_are_of_the_same_file(void **state)
{
    static const unsigned groups[] = {1, 7, NEAP_LANE_GROUPS - 1};
    struct neap_process process;
    struct collector c;

    (void)state;
    collector_init(&c);
    assert_true(handshake(&c, &process));
    for (size_t i = 0; i < NEAP_ARRAY_LEN(groups); i++) {
        unsigned fds = count_fds(), last = (groups[i] + 1) * NEAP_LANE_GROUP - 1;
        uint8_t *lanes = neap_link_lanes(&process, groups[i]);
        uint32_t number = 0;

        assert_non_null(lanes);
        assert_int_equal(count_fds(), fds);
        memcpy(lanes + (size_t)(NEAP_LANE_GROUP - 1) * NEAP_LANE_STRIDE, &last, 4);
        assert_int_equal(pread(c.data, &number, 4, (off_t)NEAP_LANE_OFFSET(last)), 4);
        assert_int_equal(number, last);
        munmap(lanes, (size_t)NEAP_LANE_GROUP * NEAP_LANE_STRIDE);
    }
    unmap(&process);
    assert_int_equal(count_mappings(), 0);
    collector_deinit(&c);
}

static void a_sampled_recording_has_a_table(void **state)
{
    struct neap_process process, child;
    const struct neap_ctl_header *page;
    struct neap_table *table;
    struct neap_ctl_header header = {.magic = NEAP_CTL_MAGIC, .interval = 4096};
    struct collector c;

    (void)state;
    collector_init(&c);
    assert_int_equal(pwrite(c.ctl, &header, sizeof(header), 0), sizeof(header));
    assert_true(handshake(&c, &process));
    table = atomic_load(&process.table);
    assert_non_null(table);
    table->key[7] = 4711;
    page = process.ctl;
    unmap(&process);
    /* As a child that connects anew: the clock's page is where it was. */
    assert_true(handshake(&c, &child));
    assert_ptr_equal(child.ctl, page);
    assert_int_equal(atomic_load(&child.table)->key[7], 4711);
    unmap(&child);
    collector_deinit(&c);
}

static void a_forked_child_has_the_clock_page_alone(void **state)
{
    struct neap_process process;
    struct collector c;
    uint8_t *lanes;
    int status;
    pid_t pid;

    (void)state;
    collector_init(&c);
    assert_true(handshake(&c, &process));
    assert_null(atomic_load(&process.table)); /* an exact recording */
    atomic_store(&process.table, neap_link_table(&process));
    assert_non_null(atomic_load(&process.table));
    lanes = neap_link_lanes(&process, 2);
    assert_non_null(lanes);
    pid = fork();
    if (pid == 0) {
        const void *gone[] = {(const void *)process.tails, process.data, lanes,
                              atomic_load(&process.table)};
        unsigned char there;
        int found = 0;

        for (unsigned i = 0; i < NEAP_ARRAY_LEN(gone); i++)
            found += mincore((void *)(uintptr_t)gone[i], NEAP_PAGE, &there) == 0;
        _exit(process.ctl->magic == NEAP_CTL_MAGIC ? found : 9);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    munmap(lanes, (size_t)NEAP_LANE_GROUP * NEAP_LANE_STRIDE);
    unmap(&process);
    collector_deinit(&c);
}

/* ---- answers that are none ---- */

static void another_answer_than_welcome_is_refused(void **state)
{
    struct collector c;

    (void)state;
    collector_init(&c);
    c.welcome.magic++;
    refused(&c);
    c.welcome.magic--;
    c.welcome.version++;
    refused(&c);
    c.welcome.version--;
    c.welcome.status = NEAP_WELCOME_REFUSED;
    refused(&c);
    c.welcome.status = NEAP_WELCOME_VERSION;
    c.fds = 0;
    refused(&c);
    c.fds = 2;
    c.welcome.status = NEAP_WELCOME_OK;
    c.welcome.slot = NEAP_CTL_SLOTS_MAX;
    refused(&c);
    c.welcome.slot = SLOT;
    c.length = sizeof(c.welcome) - 4;
    refused(&c);
    c.length = 1;
    refused(&c);
    collector_deinit(&c);
}

static void too_few_descriptors_are_refused(void **state)
{
    struct collector c;

    (void)state;
    collector_init(&c);
    c.fds = 0;
    refused(&c);
    c.fds = 1;
    refused(&c);
    collector_deinit(&c);
}

static void replace(int *fd, int by)
{
    close(*fd);
    *fd = by;
}

static void memory_that_may_shrink_is_refused(void **state)
{
    struct collector c;

    (void)state;
    collector_init(&c);
    replace(&c.data, shared(NEAP_DATA_BYTES, NEAP_DATA_MAGIC, 0));
    refused(&c);
    replace(&c.data, shared(NEAP_DATA_BYTES, NEAP_DATA_MAGIC, F_SEAL_GROW));
    refused(&c);
    replace(&c.data, shared(NEAP_DATA_BYTES, NEAP_DATA_MAGIC, SEALS));
    replace(&c.ctl, shared(NEAP_CTL_BYTES, NEAP_CTL_MAGIC, 0));
    refused(&c);
    replace(&c.ctl, open("/dev/null", O_RDWR | O_CLOEXEC));
    refused(&c);
    collector_deinit(&c);
}

static void memory_that_is_too_small_or_another_s_is_refused(void **state)
{
    struct collector c;

    (void)state;
    collector_init(&c);
    replace(&c.data, shared(NEAP_DATA_BYTES - NEAP_PAGE, NEAP_DATA_MAGIC, SEALS));
    refused(&c);
    replace(&c.data, shared(NEAP_DATA_BYTES, NEAP_CTL_MAGIC, SEALS));
    refused(&c);
    replace(&c.data, shared(NEAP_DATA_BYTES, NEAP_DATA_MAGIC, SEALS));
    replace(&c.ctl, shared(NEAP_CTL_BYTES - NEAP_PAGE, NEAP_CTL_MAGIC, SEALS));
    refused(&c);
    replace(&c.ctl, shared(NEAP_CTL_BYTES, NEAP_DATA_MAGIC, SEALS));
    refused(&c);
    /* And all of it together is still welcome. */
    struct neap_process process;

    replace(&c.ctl, shared(NEAP_CTL_BYTES, NEAP_CTL_MAGIC, SEALS));
    assert_true(handshake(&c, &process));
    unmap(&process);
    collector_deinit(&c);
}

static void a_collector_without_an_answer_is_left(void **state)
{
    struct collector c;

    (void)state;
    collector_init(&c);
    c.hangs_up = true;
    refused(&c);
    c.hangs_up = false;
    c.mute = true;
    refused(&c);
    collector_deinit(&c);
}

static void nobody_to_talk_to_is_no_welcome(void **state)
{
    struct neap_process process = {0};
    unsigned fds = count_fds();
    char longest[200];
    struct collector c;

    (void)state;
    assert_false(neap_link_connect(scratch_path("nothing"), &hello, &process));
    assert_false(neap_link_connect("", &hello, &process));
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_false(neap_link_connect(longest, &hello, &process));
    longest[108] = '\0'; /* no room for its end */
    assert_false(neap_link_connect(longest, &hello, &process));
    scratch_write("file", "", 0);
    assert_false(neap_link_connect(scratch_path("file"), &hello, &process));
    collector_init(&c);
    close(c.listener); /* a socket that nobody listens at */
    c.listener = -1;
    assert_false(neap_link_connect(scratch_path("socket"), &hello, &process));
    collector_deinit(&c);
    assert_int_equal(count_fds(), fds);
    assert_null(process.data);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_welcome_brings_the_shared_memory),
        TEST(further_lanes_are_of_the_same_file),
        TEST(a_sampled_recording_has_a_table),
        TEST(a_forked_child_has_the_clock_page_alone),
        TEST(another_answer_than_welcome_is_refused),
        TEST(too_few_descriptors_are_refused),
        TEST(memory_that_may_shrink_is_refused),
        TEST(memory_that_is_too_small_or_another_s_is_refused),
        TEST(a_collector_without_an_answer_is_left),
        TEST(nobody_to_talk_to_is_no_welcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
