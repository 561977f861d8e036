/* SPDX-License-Identifier: Apache-2.0 */
/* The collector's wait, its bell and its pace; and the shared memory of ctl.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/loop.h"
#include "daemon/source/ctl.h"

#define LONG_NS 60000000000ull /* a test that waits this long has failed */

struct end {
    struct neap_loop *loop;
    struct neap_watch watch;
    struct end *other; /* removed by the handler */
    int write_fd;
    unsigned calls;
};

static void on_ready(void *context)
{
    struct end *end = context;
    char byte;

    end->calls++;
    assert_int_equal(read(end->watch.fd, &byte, 1), 1);
    if (end->other) {
        neap_loop_remove(end->loop, &end->other->watch);
        neap_loop_remove(end->loop, &end->watch);
    }
}

static void end_init(struct end *end, struct neap_loop *loop)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    *end = (struct end){.loop = loop, .write_fd = fds[1]};
    end->watch = (struct neap_watch){.fd = fds[0], .ready = on_ready, .context = end};
    assert_null(neap_loop_add(loop, &end->watch));
}

static void end_deinit(struct end *end)
{
    close(end->watch.fd);
    close(end->write_fd);
}

static void test_watch(void **state)
{
    struct neap_loop *loop;
    struct end end;

    (void)state;
    assert_null(neap_loop_create(&loop));
    end_init(&end, loop);
    assert_false(neap_loop_wait(loop, 0));
    assert_false(neap_loop_wait(loop, 1000));
    assert_int_equal(write(end.write_fd, "x", 1), 1);
    assert_true(neap_loop_wait(loop, LONG_NS));
    assert_int_equal(end.calls, 1);
    neap_loop_remove(loop, &end.watch);
    assert_int_equal(write(end.write_fd, "x", 1), 1);
    assert_false(neap_loop_wait(loop, 0));
    end_deinit(&end);
    neap_loop_destroy(loop);
}

/* Whichever of two ready watches is called first, the other one is gone by then. */
static void test_remove_in_handler(void **state)
{
    struct neap_loop *loop;
    struct end ends[2];

    (void)state;
    assert_null(neap_loop_create(&loop));
    for (int i = 0; i < 2; i++)
        end_init(&ends[i], loop);
    for (int i = 0; i < 2; i++) {
        ends[i].other = &ends[1 - i];
        assert_int_equal(write(ends[i].write_fd, "x", 1), 1);
    }
    assert_true(neap_loop_wait(loop, LONG_NS));
    assert_int_equal(ends[0].calls + ends[1].calls, 1);
    assert_false(neap_loop_wait(loop, 0));
    for (int i = 0; i < 2; i++)
        end_deinit(&ends[i]);
    neap_loop_destroy(loop);
}

static _Atomic unsigned ticks;

static void on_tick(void *context)
{
    (void)context;
    atomic_fetch_add(&ticks, 1);
}

static void test_bell(void **state)
{
    struct neap_loop *loop;
    struct neap_ctl *ctl;
    struct end end;

    (void)state;
    assert_null(neap_ctl_create(&ctl));
    assert_null(neap_loop_create(&loop));
    assert_null(neap_loop_bell_start(loop, &ctl->header->bell));
    end_init(&end, loop);
    /* As a target does it; again and again, because nobody may be listening yet. */
    while (syscall(SYS_futex, &ctl->header->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) <
           1)
        ;
    assert_false(neap_loop_wait(loop, LONG_NS)); /* woken, by nothing but the bell */
    assert_int_equal(end.calls, 0);
    while (atomic_load(&ticks) < 3)
        neap_loop_busy(loop, on_tick, NULL);
    neap_loop_busy(loop, NULL, NULL);
    end_deinit(&end);
    neap_loop_destroy(loop);
    neap_ctl_destroy(ctl);
}

static void test_pace(void **state)
{
    struct neap_pace pace = {0};
    uint64_t delay, last = 0;

    (void)state;
    assert_true(neap_pace_next(&pace, NEAP_ACTIVITY_SOME) == NEAP_PACE_TICK_NS);
    for (int i = 0; i < 20; i++) {
        delay = neap_pace_next(&pace, NEAP_ACTIVITY_NONE);
        assert_true(delay >= last && delay <= 50 * NEAP_PACE_TICK_NS);
        last = delay;
    }
    assert_true(last == 50 * NEAP_PACE_TICK_NS);
    assert_true(neap_pace_next(&pace, NEAP_ACTIVITY_SOME) == NEAP_PACE_TICK_NS);
    for (int i = 0; i < 20; i++) {
        delay = neap_pace_next(&pace, NEAP_ACTIVITY_BUSY);
        assert_true(delay > 0 && delay < NEAP_PACE_TICK_NS);
    }
    for (int i = 0; i < 100; i++)
        delay = neap_pace_next(&pace, NEAP_ACTIVITY_SOME);
    assert_true(delay == NEAP_PACE_TICK_NS);
}

/* ---- ctl ---- */

static void test_ctl_is_sealed(void **state)
{
    struct neap_ctl *ctl;

    (void)state;
    assert_null(neap_ctl_create(&ctl));
    assert_true(ctl->header->magic == NEAP_CTL_MAGIC);
    assert_true(mmap(NULL, NEAP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ctl->fd, 0) ==
                MAP_FAILED);
    assert_int_equal(pwrite(ctl->fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(ctl->fd, 0), -1);
    assert_int_equal(ftruncate(ctl->fd, (off_t)NEAP_CTL_BYTES * 2), -1);
    neap_ctl_destroy(ctl);
}

static void test_ctl_slots(void **state)
{
    struct neap_ctl *ctl;
    uint32_t slot;

    (void)state;
    assert_null(neap_ctl_create(&ctl));
    for (uint32_t i = 0; i < NEAP_CTL_SLOTS_MAX; i++) {
        assert_true(neap_ctl_take(ctl, &slot));
        assert_int_equal(slot, i);
    }
    assert_false(neap_ctl_take(ctl, &slot));
    atomic_store(&neap_ctl_tails(ctl, 100)[1], 77);
    neap_ctl_give(ctl, 100, 2);
    neap_ctl_give(ctl, 99, 0);
    assert_true(neap_ctl_take(ctl, &slot) && slot == 99);
    assert_true(neap_ctl_take(ctl, &slot) && slot == 100);
    assert_true(atomic_load(&neap_ctl_tails(ctl, slot)[1]) == 0);
    neap_ctl_destroy(ctl);
}

static void test_ctl_closed(void **state)
{
    struct neap_ctl *ctl;
    struct neap_ctl_header *mine;
    uint64_t now;

    (void)state;
    assert_null(neap_ctl_create(&ctl));
    mine = mmap(NULL, NEAP_PAGE, PROT_READ, MAP_SHARED, ctl->fd, 0);
    assert_true(mine != MAP_FAILED);
    now = neap_ctl_tick(ctl);
    assert_true(mine->now_ns == now);
    assert_true(neap_ctl_tick(ctl) >= now);
    assert_int_equal(mine->closed, 0);
    neap_ctl_destroy(ctl);
    assert_int_equal(mine->closed, 1);
    munmap(mine, NEAP_PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch),         cmocka_unit_test(test_remove_in_handler),
        cmocka_unit_test(test_bell),          cmocka_unit_test(test_pace),
        cmocka_unit_test(test_ctl_is_sealed), cmocka_unit_test(test_ctl_slots),
        cmocka_unit_test(test_ctl_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
