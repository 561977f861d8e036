/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/lane and emit with many threads, lanes that are full, a reader that sleeps
 * or is gone, and a forked child.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c libhook/emit.c libhook/emit_rare.c
 * Links: libhook/emit_sample.c libhook/gate.c libhook/sampler.c libhook/samples.c
 * Links: libhook/lane.c
 * Links: libhook/life.c libhook/link.c libhook/modules.c libhook/oracle.c
 * Links: libhook/real.c libhook/selfmem.c libhook/stack.c libhook/stackset.c
 * Links: libhook/unwind.c libhook/walk.c libhook/rules.c
 * Links: libhook/ownheap.c libhook/marks.c libhook/heap/%.c libhook/enter.c
 * Links: tests/unit/hook_process.c
 * Links: -Wl,--wrap=neap_link_connect
 */
#include "libhook/lane.h"

#include <limits.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/emit.h"
#include "libhook/link.h"
#include "libhook/real.h"
#include "tests/unit/hook_process.h"

#define MIB (1ull << 20)

enum {
    BATCH = 8192
};

static struct hook_record records[BATCH];

static void warm_up(void)
{
    hook_alloc(255 * MIB, 1);
    hook_read(0, records, BATCH);
}

/* ---- lanes that change hands ---- */

static void *short_thread(void *argument)
{
    uint64_t number = (uintptr_t)argument;

    hook_thread();
    hook_alloc(MIB * 40 + 16 * number, number);
    neap_emit_thread_end(&neap_tls);
    return (void *)(uintptr_t)neap_tls.tid;
}

static void a_thousand_short_threads_share_a_lane(void **state)
{
    (void)state;
    for (uintptr_t i = 1; i <= 1000; i++) {
        unsigned count, at;
        pthread_t thread;
        void *tid;

        assert_int_equal(pthread_create(&thread, NULL, short_thread, (void *)i), 0);
        assert_int_equal(pthread_join(thread, &tid), 0);
        count = hook_read(0, records, BATCH);
        assert_int_equal(hook_next(records, count, 0, NEAP_EV_TIME), 0);
        assert_int_equal(hook_next(records, count, 0, NEAP_EV_THREAD), 1);
        assert_int_equal(records[1].tid, (uintptr_t)tid);
        at = hook_next(records, count, 0, NEAP_EV_ALLOC);
        assert_true(at < count);
        assert_int_equal(records[at].size, i);
        assert_int_equal(records[at].seq, (i - 1) & NEAP_SEQ_MASK);
        /* Only the first brings the stack and the objects. */
        assert_true(i == 1 || count == 4);
        assert_int_equal(hook_next(records, count, 0, NEAP_EV_THREAD_END), count - 1);
    }
    assert_int_equal(neap_process->data->lanes, 1);
    assert_int_equal(neap_process->data->multi, 1);
    assert_int_equal(hook_lane(0)->lost_events, 0);
}

enum {
    TOGETHER = 40
};

static pthread_barrier_t barrier;

static void *thread_together(void *argument)
{
    hook_thread();
    hook_alloc(MIB * 40, (uintptr_t)argument);
    pthread_barrier_wait(&barrier);
    neap_emit_thread_end(&neap_tls);
    return NULL;
}

static void threads_at_once_have_a_lane_each(void **state)
{
    bool seen[TOGETHER] = {false};
    pthread_t thread[TOGETHER];

    (void)state;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, TOGETHER), 0);
    for (uintptr_t i = 0; i < TOGETHER; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, thread_together, (void *)i),
                         0);
    for (unsigned i = 0; i < TOGETHER; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(neap_process->data->lanes, TOGETHER);
    for (unsigned i = 0; i < TOGETHER; i++) {
        unsigned count = hook_read(i, records, BATCH);
        unsigned at = hook_next(records, count, 0, NEAP_EV_ALLOC);

        assert_true(at < count && records[at].size < TOGETHER);
        assert_false(seen[records[at].size]);
        seen[records[at].size] = true;
        assert_int_equal(hook_next(records, count, at + 1, NEAP_EV_ALLOC), count);
        assert_int_equal(hook_lane(i)->owner, 0);
    }
    pthread_barrier_destroy(&barrier);
}

static void *ended_at_once(void *unused)
{
    (void)unused;
    return (void *)(uintptr_t)gettid();
}

static void a_dead_thread_s_lane_is_taken_over(void **state)
{
    pthread_t thread;
    void *dead;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, ended_at_once, NULL), 0);
    assert_int_equal(pthread_join(thread, &dead), 0);
    atomic_store(&neap_process->data->lanes, 64);
    for (unsigned i = 0; i < 64; i++)
        atomic_store(&hook_lane(i)->owner,
                     i == 9 ? (uintptr_t)dead : (unsigned)getpid());
    hook_alloc(16 * MIB, 1);
    assert_ptr_equal((uint8_t *)neap_tls.lane - (uint8_t *)neap_process->data,
                     NEAP_LANE_OFFSET(9));
    assert_int_equal(hook_lane(9)->owner, gettid());
    assert_int_equal(neap_process->data->lanes, 64);
    /* While all others live, the next thread gets a new one. */
    hook_thread();
    hook_alloc(16 * MIB, 1);
    assert_int_equal(neap_process->data->lanes, 65);
    assert_int_equal(hook_lane(64)->owner, gettid());
}

static void without_a_lane_events_are_counted(void **state)
{
    (void)state;
    atomic_store(&neap_process->data->lanes, NEAP_LANES_MAX);
    for (unsigned i = 0; i < NEAP_LANES_MAX; i++)
        atomic_store(&hook_lane(i)->owner, (unsigned)getpid());
    hook_alloc(16 * MIB, 100);
    hook_alloc(16 * MIB, 23);
    assert_false(hook_free(16 * MIB));
    assert_null(neap_tls.lane);
    assert_int_equal(neap_process->data->lane_loss, 3);
    assert_int_equal(neap_process->data->lane_loss_bytes, 123);
    atomic_store(&hook_lane(700)->owner, 0);
    assert_true(hook_free(16 * MIB));
    assert_int_equal(hook_lane(700)->owner, gettid());
    assert_int_equal(hook_read(700, records, BATCH), 3);
}

/* ---- full lanes ---- */

static void a_full_lane_drops_and_counts_without_a_gap(void **state)
{
    uint64_t kept = 0, lost = 0, lost_bytes = 0;
    unsigned count;

    (void)state;
    warm_up();
    for (volatile uint64_t i = 0; i < 20000; i++) {
        uint64_t before = neap_tls.head;

        hook_alloc(16 * MIB, i);
        if (neap_tls.head != before) {
            kept++;
        } else {
            lost++;
            lost_bytes += i;
        }
    }
    assert_true(kept > 5000 && lost > 5000);
    assert_int_equal(hook_lane(0)->lost_events, lost);
    assert_int_equal(hook_lane(0)->lost_bytes, lost_bytes);
    assert_int_equal(neap_process->data->waits, 0);
    assert_int_equal(neap_process->data->inexact, 0);
    count = hook_read(0, records, BATCH);
    hook_free(16 * MIB);
    count += hook_read(0, records + count, BATCH - count);
    for (unsigned i = 0, seq = 0; i < count; i++)
        if (records[i].kind == NEAP_EV_ALLOC || records[i].kind == NEAP_EV_FREE)
            assert_int_equal(records[i].seq, seq++);
    assert_int_equal(records[count - 1].kind, NEAP_EV_FREE);
    assert_int_equal(records[count - 1].seq, kept);
}

static void an_eighth_is_kept_for_frees(void **state)
{
    unsigned refused_at, frees = 0;

    (void)state;
    warm_up();
    while (hook_lane(0)->lost_events == 0)
        hook_alloc(MIB, 1);
    refused_at = (unsigned)(neap_tls.head - neap_tls.tail);
    assert_true(refused_at <= NEAP_LANE_BYTES / 8 * 7);
    assert_true(refused_at > NEAP_LANE_BYTES / 8 * 7 - NEAP_EV_SIZE_MAX - 128);
    while (hook_free(MIB))
        frees++;
    assert_true(frees >= NEAP_LANE_BYTES / 8 / sizeof(struct neap_ev_free));
    assert_int_equal(hook_lane(0)->lost_events, 2);
    /* With room again there is place for both. */
    while (hook_read(0, records, BATCH) > 0)
        ;
    hook_alloc(MIB, 1);
    assert_true(hook_free(MIB));
    assert_int_equal(hook_lane(0)->lost_events, 2);
}

static void adapt_does_not_wait_either(void **state)
{
    (void)state;
    warm_up();
    neap_process->policy = NEAP_POLICY_ADAPT;
    while (hook_lane(0)->lost_events == 0)
        hook_alloc(MIB, 1);
    assert_int_equal(neap_process->data->waits, 0);
    assert_int_equal(neap_process->data->inexact, 0);
    assert_true(hook_free(MIB));
}

static void fill(void)
{
    uint64_t lost = hook_lane(0)->lost_events;

    neap_process->policy = NEAP_POLICY_DROP;
    while (hook_lane(0)->lost_events == lost)
        hook_free(16 * MIB);
    neap_process->policy = NEAP_POLICY_BLOCK;
}

static void block_gives_up_on_a_reader_without_signs_of_life(void **state)
{
    uint64_t lost;

    (void)state;
    warm_up();
    fill();
    lost = hook_lane(0)->lost_events;
    assert_int_equal(neap_process->data->inexact, 0);
    assert_false(hook_free(16 * MIB));
    assert_int_equal(hook_lane(0)->lost_events, lost + 1);
    assert_int_equal(neap_process->data->waits, 1);
    assert_int_equal(neap_process->data->inexact, 1);
    assert_true(neap_process->stalled_ns >= 200000000);
    assert_true(neap_process->stalled_ns < 1000000000);
    /* Patience is the process's, not the event's: at last nothing waits any more. */
    for (unsigned i = 0; i < 20; i++)
        assert_false(hook_free(16 * MIB));
    assert_true(neap_process->stalled_ns >= 1000000000);
    assert_in_range(neap_process->data->waits, 2, 5);
    assert_int_equal(hook_lane(0)->lost_events, lost + 21);
}

static volatile sig_atomic_t rung;

static void count_ring(int signal)
{
    (void)signal;
    rung++;
}

/* FUTEX_WAKE of everybody is the bell's and nobody else's: count it, in place of it. */
static bool count_rings(void)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAKE, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, INT_MAX, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = NEAP_ARRAY_LEN(code), .filter = code};

    signal(SIGSYS, count_ring);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* 0; 1: this machine has no filters; else what is wrong. */
static int ring_much(void)
{
    int before;

    hook_process_setup(NULL); /* the parent's is wiped here */
    warm_up();
    atomic_store(&hook_ctl()->asleep, 1);
    if (!count_rings())
        return 1;
    fill();
    neap_process->policy = NEAP_POLICY_DROP;
    before = rung;
    if (before < 1)
        return 2;
    for (unsigned i = 0; i < 10000; i++)
        hook_free(16 * MIB);
    if (rung - before > 40)
        return 3;
    /* Alive: it is told at once. */
    before = rung;
    atomic_fetch_add(&hook_ctl()->now_ns, 1000000);
    hook_free(16 * MIB);
    return rung > before ? 0 : 4;
}

/* A reader that is gone sleeps for ever. */
static void a_dead_reader_is_not_rung_for_each_event(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    pid = fork();
    if (pid == 0)
        _exit(ring_much());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 1) {
        print_message("no seccomp here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void block_does_not_wait_when_the_recording_has_ended(void **state)
{
    (void)state;
    warm_up();
    fill();
    atomic_store(&hook_ctl()->closed, 1);
    assert_false(hook_free(16 * MIB));
    assert_int_equal(neap_process->data->waits, 0);
    assert_int_equal(neap_process->stalled_ns, 0);
}

static _Atomic bool reader_stop;
static struct hook_record late[BATCH];

/* Alive, but for 300 ms it does not come to read. */
static void *slow_reader(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 60; i++) {
        hook_tick();
        usleep(5000);
    }
    hook_read(0, late, BATCH);
    while (!atomic_load(&reader_stop)) {
        hook_tick();
        usleep(1000);
    }
    return NULL;
}

static void block_waits_for_a_reader_that_lives(void **state)
{
    pthread_t reader;
    uint64_t lost;

    (void)state;
    warm_up();
    fill();
    lost = hook_lane(0)->lost_events;
    atomic_store(&reader_stop, false);
    assert_int_equal(pthread_create(&reader, NULL, slow_reader, NULL), 0);
    assert_true(hook_free(16 * MIB));
    atomic_store(&reader_stop, true);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(hook_lane(0)->lost_events, lost);
    assert_in_range(neap_process->data->waits, 1, 2);
    assert_int_equal(neap_process->data->inexact, 0);
}

/* ---- everything at once ---- */

enum {
    THREADS = 4,
    EVENTS = 20000
};

static uint8_t seen[NEAP_ORDER_SHARDS][THREADS * EVENTS];
static _Atomic unsigned running;

/* Blocks of all threads lie in the same two MiB: two counters for all. */
static void *busy_thread(void *argument)
{
    uint64_t base = (16 + (uintptr_t)argument % 2) * MIB;

    hook_thread();
    for (volatile unsigned i = 0; i < EVENTS / 2; i++) {
        hook_alloc(base + 16 * i, i);
        hook_free(base + 16 * i);
    }
    neap_emit_thread_end(&neap_tls);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static uint64_t check_lane(unsigned lane, uint32_t *last_seq)
{
    unsigned count = hook_read(lane, records, BATCH);
    uint64_t events = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct hook_record *r = &records[i];
        unsigned shard = neap_order_shard(r->address);

        if (r->kind != NEAP_EV_ALLOC && r->kind != NEAP_EV_FREE)
            continue;
        assert_true(r->seq < THREADS * EVENTS);
        assert_true(last_seq[shard] == UINT32_MAX || r->seq > last_seq[shard]);
        assert_int_equal(seen[shard][r->seq], 0);
        last_seq[shard] = r->seq;
        seen[shard][r->seq] = 1;
        events++;
    }
    return events;
}

static void threads_and_their_reader_lose_nothing(void **state)
{
    static uint32_t last_seq[THREADS + 1][NEAP_ORDER_SHARDS];
    pthread_t thread[THREADS];
    uint64_t events = 0;
    bool over;

    (void)state;
    memset(seen, 0, sizeof(seen));
    memset(last_seq, 0xff, sizeof(last_seq));
    warm_up();
    neap_emit_thread_end(&neap_tls);
    neap_process->policy = NEAP_POLICY_BLOCK;
    atomic_store(&running, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, busy_thread, (void *)i), 0);
    do {
        over = atomic_load(&running) == 0;
        hook_tick();
        for (unsigned lane = 0; lane <= THREADS; lane++)
            events += check_lane(lane, last_seq[lane]);
    } while (!over);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (unsigned lane = 0; lane <= THREADS; lane++) {
        unsigned before;

        do {
            before = (unsigned)events;
            events += check_lane(lane, last_seq[lane]);
        } while (events != before);
        assert_int_equal(hook_lane(lane)->lost_events, 0);
    }
    assert_int_equal(events, THREADS * EVENTS);
    for (unsigned i = 0; i < EVENTS * THREADS / 2; i++)
        assert_true(seen[neap_order_shard(16 * MIB)][i] &&
                    seen[neap_order_shard(17 * MIB)][i]);
    assert_int_equal(neap_process->data->inexact, 0);
}

/* ---- fork ---- */

static struct neap_process mapped;
static struct neap_hello said;
static unsigned calls;
static bool welcome;

bool __wrap_neap_link_connect(const char *socket_path, const struct neap_hello *hello,
                              struct neap_process *process);
bool __wrap_neap_link_connect(const char *socket_path, const struct neap_hello *hello,
                              struct neap_process *process)
{
    (void)socket_path;
    calls++;
    said = *hello;
    if (!welcome)
        return false;
    process->ctl = mapped.ctl;
    process->tails = mapped.tails;
    process->data = mapped.data;
    process->policy = mapped.policy;
    atomic_store(&process->groups[0], atomic_load(&mapped.groups[0]));
    return true;
}

/* 0, or the number of what is wrong. */
static int child(pid_t parent)
{
    calls = 0;
    welcome = false;
    if (atomic_load(&neap_process->phase) != NEAP_PHASE_NEW || neap_process->data ||
        neap_process->pid != 0)
        return 1;
    if (hook_free(16 * MIB))
        return 2;
    if (calls != 1 || said.origin != NEAP_ORIGIN_FORK || said.tid == (uint32_t)parent)
        return 3;
    if (atomic_load(&neap_process->phase) != NEAP_PHASE_OFF || !neap_real.off)
        return 4;
    /* Refused once is refused for good. */
    hook_alloc(16 * MIB, 1);
    return calls == 1 && !neap_tls.lane ? 0 : 5;
}

static void a_forked_child_connects_anew(void **state)
{
    unsigned count;
    int status;
    pid_t pid;

    (void)state;
    memcpy(&mapped, neap_process, sizeof(mapped));
    memset(neap_process, 0, sizeof(*neap_process));
    welcome = true;
    calls = 0;
    hook_alloc(16 * MIB, 1);
    assert_int_equal(calls, 1);
    assert_int_equal(said.magic, NEAP_HELLO_MAGIC);
    assert_int_equal(said.version, NEAP_WIRE_VERSION);
    assert_int_equal(said.origin, NEAP_ORIGIN_EXEC);
    assert_int_equal(said.tid, gettid());
    assert_int_equal(neap_process->pid, getpid());
    count = hook_read(0, records, BATCH);
    assert_true(hook_next(records, count, 0, NEAP_EV_ALLOC) < count);
    pid = fork();
    if (pid == 0)
        _exit(child(getppid()));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    /* It has left no trace in its parent's lane, and the parent goes on. */
    assert_int_equal(hook_read(0, records, BATCH), 0);
    assert_true(hook_free(16 * MIB));
    assert_int_equal(hook_read(0, records, BATCH), 1);
    assert_int_equal(calls, 1);
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, hook_process_setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_forked_child_connects_anew),
        TEST(a_thousand_short_threads_share_a_lane),
        TEST(threads_at_once_have_a_lane_each),
        TEST(a_dead_thread_s_lane_is_taken_over),
        TEST(without_a_lane_events_are_counted),
        TEST(a_full_lane_drops_and_counts_without_a_gap),
        TEST(an_eighth_is_kept_for_frees),
        TEST(adapt_does_not_wait_either),
        TEST(block_gives_up_on_a_reader_without_signs_of_life),
        TEST(a_dead_reader_is_not_rung_for_each_event),
        TEST(block_does_not_wait_when_the_recording_has_ended),
        TEST(block_waits_for_a_reader_that_lives),
        TEST(threads_and_their_reader_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
