/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: tests/unit/producer.c tests/unit/fail_alloc.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * Links: -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
/*
 * Handshake and session: real sockets and processes, with an ingest that only takes
 * notes. Peers are played by this process and by children of it.
 */
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/listen.h"
#include "tests/unit/fail_alloc.h"
#include "tests/unit/producer.h"

/* ---- an ingest that takes notes ---- */

struct neap_ingest {
    unsigned started;
    unsigned ended;
    unsigned events;
    unsigned lost_processes;
    unsigned switched;
    const char *mode;              /* of the last switch */
    struct neap_process_info info; /* of the last start; strings are not kept */
    struct neap_process_end end;   /* of the last end */
};

struct neap_ingest_process {
    char unused;
};

static struct neap_ingest notes;
static struct neap_ingest_process some_process;

struct neap_error *neap_ingest_create(sqlite3 *db,
                                      const struct neap_recording_info *info,
                                      struct neap_ingest **ret)
{
    (void)db;
    (void)info;
    *ret = &notes;
    return NULL;
}

void neap_ingest_destroy(struct neap_ingest *ingest)
{
    (void)ingest;
}

struct neap_error *neap_ingest_start(struct neap_ingest *ingest,
                                     const struct neap_process_info *info,
                                     struct neap_ingest_process **ret)
{
    ingest->started++;
    ingest->info = *info;
    assert_string_equal(info->allocator, "glibc");
    assert_non_null(strstr(info->exe, "test_listen"));
    *ret = &some_process;
    return NULL;
}

void neap_ingest_event(struct neap_ingest_process *process, uint32_t lane,
                       const struct neap_event *event)
{
    assert_ptr_equal(process, &some_process);
    assert_int_equal(lane, 0);
    assert_true(event->kind != NEAP_EV_PAD);
    notes.events++;
}

void neap_ingest_loss(struct neap_ingest *ingest, struct neap_ingest_process *process,
                      const char *what, uint64_t count, uint64_t bytes)
{
    assert_string_equal(what, "process");
    assert_null(process);
    assert_true(bytes == 0);
    ingest->lost_processes += (unsigned)count;
}

void neap_ingest_counters(struct neap_ingest_process *process,
                          const struct neap_process_counters *counters)
{
    (void)process;
    (void)counters;
}

void neap_ingest_end(struct neap_ingest_process *process,
                     const struct neap_process_end *end)
{
    (void)process;
    notes.ended++;
    notes.end = *end;
}

void neap_ingest_alive(struct neap_ingest_process *process, uint64_t address,
                       const struct neap_table_slot *slot)
{
    (void)process;
    (void)address;
    (void)slot;
    fail_msg("nobody has sampled anything");
}

void neap_ingest_heal(struct neap_ingest_process *process)
{
    (void)process;
    fail_msg("nobody has sampled anything");
}

void neap_ingest_switched(struct neap_ingest *ingest, uint64_t now_ns, const char *mode)
{
    (void)now_ns;
    ingest->switched++;
    ingest->mode = mode;
}

uint64_t neap_ingest_samples(const struct neap_ingest *ingest)
{
    (void)ingest;
    return 0;
}

struct neap_error *neap_ingest_commit(struct neap_ingest *ingest, uint64_t now_ns)
{
    (void)ingest;
    (void)now_ns;
    return NULL;
}

struct neap_error *neap_ingest_finish(struct neap_ingest *ingest, uint64_t now_ns,
                                      bool finished)
{
    (void)ingest;
    (void)now_ns;
    (void)finished;
    return NULL;
}

bool neap_ingest_unnamed(const struct neap_ingest *ingest)
{
    (void)ingest;
    return false;
}

void neap_ingest_tally(const struct neap_ingest *ingest, struct neap_tally *ret)
{
    (void)ingest;
    *ret = (struct neap_tally){0};
}

/* ---- fixture ---- */

struct fixture {
    char directory[64];
    char path[80];
    struct neap_loop *loop;
    struct neap_ctl *ctl;
    struct neap_session *session;
    struct neap_listener *listener;
};

static int setup_with(void **state, bool follow)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct neap_session_config config = {
        .ingest = &notes, .settings.policy = NEAP_POLICY_DROP, .follow = follow};

    notes = (struct neap_ingest){0};
    strcpy(fixture->directory, "/tmp/neap-test-listen-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->directory);
    assert_null(neap_loop_create(&fixture->loop));
    assert_null(neap_ctl_create(&fixture->ctl));
    config.loop = fixture->loop;
    config.ctl = fixture->ctl;
    assert_null(neap_session_create(&config, &fixture->session));
    assert_null(neap_listener_create(fixture->path, fixture->loop, fixture->session,
                                     &fixture->listener));
    *state = fixture;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, true);
}

static int setup_no_follow(void **state)
{
    return setup_with(state, false);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    struct stat st;

    neap_listener_destroy(fixture->listener);
    neap_session_destroy(fixture->session);
    neap_ctl_destroy(fixture->ctl);
    neap_loop_destroy(fixture->loop);
    assert_int_equal(stat(fixture->path, &st), -1); /* the socket went with it */
    rmdir(fixture->directory);
    free(fixture);
    return 0;
}

/* Turn the loop until nothing is ready any more. */
static void turn(struct fixture *fixture)
{
    while (neap_loop_wait(fixture->loop, 0))
        ;
    neap_session_drain(fixture->session, 1);
}

/* ---- a peer ---- */

static int connect_peer(const struct fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, fixture->path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
        abort();
    return fd;
}

static struct neap_hello good_hello(void)
{
    return (struct neap_hello){.magic = NEAP_HELLO_MAGIC,
                               .version = NEAP_WIRE_VERSION,
                               .origin = NEAP_ORIGIN_EXEC,
                               .tid = 1,
                               .unwinder = 1,
                               .allocator = "glibc"};
}

/* Takes WELCOME; false at an end of file. Descriptors are -1 where none came. */
static bool receive_welcome(int fd, struct neap_welcome *ret, int fds[2])
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = ret, .iov_len = sizeof(*ret)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

    fds[0] = fds[1] = -1;
    if (got <= 0)
        return false;
    if (message.msg_controllen)
        memcpy(fds, CMSG_DATA(&control.header), 2 * sizeof(int));
    return got == (ssize_t)sizeof(*ret) && ret->magic == NEAP_HELLO_MAGIC;
}

/* Say HELLO in the name of this process and expect to be welcome. */
static void be_welcome(struct fixture *fixture, struct neap_welcome *ret, int fds[2])
{
    struct neap_hello hello = good_hello();
    int fd = connect_peer(fixture);

    assert_int_equal(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
    turn(fixture);
    assert_true(receive_welcome(fd, ret, fds));
    assert_int_equal(ret->status, NEAP_WELCOME_OK);
    assert_true(fds[0] >= 0 && fds[1] >= 0);
    close(fd);
    turn(fixture);
    assert_int_equal(neap_listener_pending(fixture->listener), 0);
}

static void test_welcome(void **state)
{
    struct fixture *fixture = *state;
    struct neap_welcome welcome;
    struct producer producer;
    int fds[2], seals;

    be_welcome(fixture, &welcome, fds);
    assert_int_equal(notes.started, 1);
    assert_int_equal(notes.info.pid, getpid());
    assert_int_equal(notes.info.ppid, getppid());
    assert_int_equal(welcome.policy, NEAP_POLICY_DROP);
    assert_int_equal(welcome.lanes_filled, 1);
    seals = fcntl(fds[0], F_GET_SEALS);
    assert_true(seals & F_SEAL_SHRINK && seals & F_SEAL_FUTURE_WRITE);
    assert_true(fcntl(fds[1], F_GET_SEALS) & F_SEAL_SHRINK);
    producer_init(&producer, fds[1], neap_ctl_tails(fixture->ctl, welcome.slot));
    producer_claim(&producer, 1);
    assert_true(producer_alloc(&producer, 0, 0, 0, 4096, 1));
    assert_true(neap_session_waiting(fixture->session));
    turn(fixture);
    assert_int_equal(notes.events, 1);
    assert_false(neap_session_waiting(fixture->session));
    producer_deinit(&producer);
    close(fds[0]);
    close(fds[1]);
}

static void test_exec(void **state)
{
    struct fixture *fixture = *state;
    struct neap_welcome welcome;
    struct producer producer;
    int fds[2], more[2];

    be_welcome(fixture, &welcome, fds);
    producer_init(&producer, fds[1], neap_ctl_tails(fixture->ctl, welcome.slot));
    producer_claim(&producer, 1);
    assert_true(producer_alloc(&producer, 0, 0, 0, 4096, 1));
    /* The same pid again: the first image is over, and what it left is read. */
    be_welcome(fixture, &welcome, more);
    assert_int_equal(notes.started, 2);
    assert_int_equal(notes.ended, 1);
    assert_int_equal(notes.events, 1);
    assert_int_equal(notes.end.kind, NEAP_EXIT_EXEC);
    assert_int_equal(neap_session_alive(fixture->session), 1);
    assert_true(neap_session_knows(fixture->session, getpid()));
    neap_session_stop(fixture->session);
    assert_int_equal(notes.end.kind, NEAP_EXIT_RUNNING);
    assert_int_equal(neap_session_alive(fixture->session), 0);
    producer_deinit(&producer);
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(more[i]);
    }
}

/* ---- bad peers ---- */

static void expect_closed(struct fixture *fixture, const void *packet, size_t length)
{
    struct neap_welcome welcome;
    int fds[2];
    int fd = connect_peer(fixture);

    assert_int_equal(send(fd, packet, length, 0), length);
    turn(fixture);
    assert_false(receive_welcome(fd, &welcome, fds));
    close(fd);
    turn(fixture);
    assert_int_equal(neap_listener_pending(fixture->listener), 0);
    assert_int_equal(notes.started, 0);
}

static void test_bad_hello(void **state)
{
    struct fixture *fixture = *state;
    struct neap_hello hello = good_hello();
    char big[4096];

    memset(big, 0x41, sizeof(big));
    expect_closed(fixture, &hello, sizeof(hello) - 1);
    expect_closed(fixture, big, sizeof(big));
    memcpy(big, &hello, sizeof(hello));
    expect_closed(fixture, big, sizeof(hello) + 1);
    expect_closed(fixture, "x", 1);
    hello.magic++;
    expect_closed(fixture, &hello, sizeof(hello));
    hello = good_hello();
    hello.origin = 0;
    expect_closed(fixture, &hello, sizeof(hello));
    hello.origin = 3;
    expect_closed(fixture, &hello, sizeof(hello));
}

static void expect_refused(struct fixture *fixture, const struct neap_hello *hello,
                           uint32_t status)
{
    struct neap_welcome welcome;
    int fds[2];
    int fd = connect_peer(fixture);

    assert_int_equal(send(fd, hello, sizeof(*hello), 0), sizeof(*hello));
    turn(fixture);
    assert_true(receive_welcome(fd, &welcome, fds));
    assert_int_equal(welcome.status, status);
    assert_true(fds[0] == -1 && fds[1] == -1);
    close(fd);
    turn(fixture);
    assert_int_equal(notes.started, 0);
}

static void test_other_version(void **state)
{
    struct neap_hello hello = good_hello();

    hello.version++;
    expect_refused(*state, &hello, NEAP_WELCOME_VERSION);
    assert_int_equal(notes.lost_processes, 1);
}

static void test_no_follow(void **state)
{
    struct fixture *fixture = *state;
    struct neap_hello hello = good_hello();
    struct neap_welcome welcome;
    int fds[2];

    expect_refused(fixture, &hello, NEAP_WELCOME_REFUSED);
    assert_int_equal(notes.lost_processes, 0); /* nobody asked for it */
    assert_null(neap_session_command(fixture->session, getpid()));
    be_welcome(fixture, &welcome, fds);
    assert_true(notes.info.main);
    close(fds[0]);
    close(fds[1]);
    be_welcome(fixture, &welcome, fds);
    assert_false(notes.info.main); /* CMD's second image */
    close(fds[0]);
    close(fds[1]);
}

static void test_silent_peer(void **state)
{
    struct fixture *fixture = *state;
    struct neap_welcome welcome;
    int fds[2];
    int fd = connect_peer(fixture);

    turn(fixture);
    neap_listener_expire(fixture->listener, 1000);
    assert_int_equal(neap_listener_pending(fixture->listener), 1);
    neap_listener_expire(fixture->listener, 1000000000000ull);
    assert_int_equal(neap_listener_pending(fixture->listener), 0);
    assert_false(receive_welcome(fd, &welcome, fds));
    close(fd);
}

/* Gave up before it was answered, or after without reading the answer. */
static void test_peer_gave_up(void **state)
{
    struct fixture *fixture = *state;
    struct neap_hello hello = good_hello();
    int fd = connect_peer(fixture);

    assert_int_equal(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
    close(fd);
    turn(fixture);
    assert_int_equal(notes.lost_processes, 1);
    fd = connect_peer(fixture);
    assert_int_equal(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
    turn(fixture);
    close(fd);
    turn(fixture);
    assert_int_equal(notes.lost_processes, 2);
    assert_int_equal(neap_listener_pending(fixture->listener), 0);
}

/* Whichever allocation fails: the peer is told or let go, and counted; once. */
static void test_no_memory(void **state)
{
    struct fixture *fixture = *state;
    struct neap_hello hello = good_hello();
    unsigned failures = 0;

    for (;;) {
        struct neap_welcome welcome;
        int fds[2];
        int fd = connect_peer(fixture);
        bool failed, answered;

        assert_int_equal(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
        fail_alloc_at(failures + 1);
        turn(fixture);
        failed = fail_alloc_happened();
        fail_alloc_at(0);
        answered = receive_welcome(fd, &welcome, fds);
        close(fd);
        turn(fixture);
        assert_int_equal(neap_listener_pending(fixture->listener), 0);
        if (!failed) {
            assert_true(answered && welcome.status == NEAP_WELCOME_OK);
            close(fds[0]);
            close(fds[1]);
            break;
        }
        failures++;
        assert_true(!answered || welcome.status == NEAP_WELCOME_REFUSED);
        assert_int_equal(notes.lost_processes, failures);
        assert_int_equal(neap_session_alive(fixture->session), 0);
    }
    assert_in_range(failures, 5, 50);
    assert_int_equal(notes.started, 1);
}

/* ---- processes that end ---- */

/* A child that is welcome, writes one event and ends as told. */
static void run_child(struct fixture *fixture, int code)
{
    unsigned ended = notes.ended;
    unsigned events = notes.events;
    pid_t pid = fork();
    siginfo_t info;

    if (pid == 0) {
        struct neap_hello hello = good_hello();
        struct neap_welcome welcome;
        struct producer producer;
        int fds[2];
        int fd = connect_peer(fixture);

        if (send(fd, &hello, sizeof(hello), 0) != (ssize_t)sizeof(hello) ||
            !receive_welcome(fd, &welcome, fds))
            _exit(99);
        close(fd);
        producer_init(&producer, fds[1], neap_ctl_tails(fixture->ctl, welcome.slot));
        producer_claim(&producer, 1);
        producer_alloc(&producer, 0, 0, 0, 4096, 1);
        if (code < 0)
            raise(-code);
        _exit(code);
    }
    while (notes.ended == ended) {
        neap_loop_wait(fixture->loop, 1000000);
        neap_session_drain(fixture->session, 1);
    }
    assert_int_equal(notes.events, events + 1);
    assert_true(notes.end.has_code);
    assert_int_equal(notes.end.kind, code < 0 ? NEAP_EXIT_SIGNALED : NEAP_EXIT_EXITED);
    assert_int_equal(notes.end.code, code < 0 ? -code : code);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
}

static unsigned count_fds(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_children(void **state)
{
    static const int codes[] = {0, 7, 255, -SIGKILL, -SIGTERM};
    struct fixture *fixture = *state;
    unsigned fds = count_fds();

    for (size_t i = 0; i < NEAP_ARRAY_LEN(codes); i++)
        run_child(fixture, codes[i]);
    for (int i = 0; i < 100; i++)
        run_child(fixture, i);
    assert_int_equal(notes.lost_processes, 0);
    assert_int_equal(neap_session_alive(fixture->session), 0);
    /* Nothing of them is left: no descriptor, no slot. */
    assert_int_equal(count_fds(), fds);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(fixture->ctl->used); i++)
        assert_true(fixture->ctl->used[i] == 0);
}

static void test_command_end(void **state)
{
    struct fixture *fixture = *state;
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_null(neap_session_command(fixture->session, pid));
    turn(fixture);
    assert_false(neap_session_command_ended(fixture->session));
    kill(pid, SIGKILL);
    while (!neap_session_command_ended(fixture->session))
        neap_loop_wait(fixture->loop, 1000000);
    waitpid(pid, NULL, 0);
}

static struct neap_switched ask(struct fixture *fixture, uint32_t wish)
{
    struct neap_switch packet = {
        .magic = NEAP_SWITCH_MAGIC, .version = NEAP_WIRE_VERSION, .wish = wish};
    struct neap_switched answer = {0};
    int fd = connect_peer(fixture);

    assert_int_equal(send(fd, &packet, sizeof(packet), 0), sizeof(packet));
    turn(fixture);
    assert_int_equal(recv(fd, &answer, sizeof(answer), 0), sizeof(answer));
    assert_int_equal(answer.magic, NEAP_SWITCH_MAGIC);
    close(fd);
    turn(fixture);
    assert_int_equal(neap_listener_pending(fixture->listener), 0);
    return answer;
}

/* What is switched shows in ctl, in the answer, and, where it changes, in the
 * recording. */
static void test_switch(void **state)
{
    struct fixture *fixture = *state;
    const struct neap_ctl_header *header = fixture->ctl->header;

    assert_int_equal(ask(fixture, NEAP_SWITCH_ASK).mode, NEAP_MODE_OFF);
    assert_int_equal(notes.switched, 0);
    assert_int_equal(ask(fixture, NEAP_SWITCH_ON).mode, NEAP_MODE_EXACT);
    assert_int_equal(header->mode, NEAP_MODE_EXACT);
    assert_string_equal(notes.mode, "exact");
    assert_int_equal(ask(fixture, NEAP_SWITCH_ON).interval, 0);
    assert_int_equal(notes.switched, 1);
    assert_int_equal(ask(fixture, NEAP_SWITCH_OFF).mode, NEAP_MODE_OFF);
    assert_string_equal(notes.mode, "off");
    neap_ctl_mode(fixture->ctl, NEAP_MODE_OFF, 4096);
    assert_int_equal(ask(fixture, NEAP_SWITCH_ON).mode, NEAP_MODE_SAMPLED);
    assert_int_equal(ask(fixture, 77).interval, 4096); /* no wish: only told */
    assert_int_equal(header->mode, NEAP_MODE_SAMPLED);
    assert_int_equal(notes.lost_processes, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_welcome),
        T(test_exec),
        T(test_bad_hello),
        T(test_other_version),
        cmocka_unit_test_setup_teardown(test_no_follow, setup_no_follow, teardown),
        T(test_silent_peer),
        T(test_peer_gave_up),
        T(test_no_memory),
        T(test_children),
        T(test_command_end),
        T(test_switch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
