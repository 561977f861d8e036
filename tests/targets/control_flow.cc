/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control flow that leaves the straight path of calls and returns, with allocations
 * on the way:
 *
 *     control_flow throw | longjmp | coroutines | signals | recursion | noreturn |
 *                  timer
 */
#include <csetjmp>
#include <csignal>
#include <pthread.h>
#include <stdexcept>
#include <sys/time.h>
#include <ucontext.h>

#include "tests/targets/target.h"

namespace
{

enum {
    THROWS = 300,
    FRAMES = 20,
    JUMPS = 500,
    COROUTINES = 4,
    STEPS = 100
};
enum {
    SIGNALS = 50,
    DEPTH = 5000,
    EVERY = 100,
    RETURNS = 25,
    TIMED = 60000,
    TIMED_THREADS = 2
};

struct held {
    void *block;
    explicit held(void *given) : block(given)
    {
    }
    held(const held &) = delete;
    held &operator=(const held &) = delete;
    ~held()
    {
        free(block);
    }
};

std::jmp_buf back;
ucontext_t scheduler, coroutine[COROUTINES];
volatile int depth_sink;

} // namespace

extern "C" {

SITE void *throw_block(size_t size)
{
    return keep(malloc(size));
}

SITE void throw_frame(int level)
{
    held block(throw_block(64 + static_cast<size_t>(level)));

    if (level == FRAMES - 1)
        throw std::runtime_error("out of here");
    throw_frame(level + 1);
}

static void throws()
{
    long bytes = 0;
    int caught = 0;

    for (int i = 0; i < THROWS; i++) {
        try {
            throw_frame(0);
        } catch (const std::runtime_error &) {
            caught++;
        }
    }
    need(caught == THROWS, "caught %d", caught);
    for (int i = 0; i < FRAMES; i++)
        bytes += 64 + i;
    site("throw_block", THROWS * FRAMES, THROWS * bytes, THROWS * FRAMES,
         THROWS * bytes);
}

/* The jump skips the frames of the two; what they allocated is never freed. */
SITE void jump_inner()
{
    keep(malloc(72));
    std::longjmp(back, 1);
}

SITE void jump_outer()
{
    keep(malloc(88));
    jump_inner();
}

SITE void jump_after()
{
    free(keep(malloc(104)));
}

static void jumps()
{
    volatile int done = 0;

    while (done < JUMPS) {
        if (setjmp(back) == 0)
            jump_outer();
        jump_after();
        done = done + 1;
    }
    site("jump_inner", JUMPS, 72L * JUMPS, 0, 0);
    site("jump_after", JUMPS, 104L * JUMPS, JUMPS, 104L * JUMPS);
}

SITE void coroutine_step(void **block, size_t size)
{
    free(*block);
    *block = keep(malloc(size));
}

static void coroutine_main(int number)
{
    void *block = nullptr;

    for (int i = 0; i < STEPS; i++) {
        coroutine_step(&block, 48);
        swapcontext(&coroutine[number], &scheduler);
    }
    free(block);
}

SITE void *coroutine_stack(size_t size)
{
    return keep(malloc(size));
}

static void coroutines()
{
    constexpr size_t stack_size = 64 << 10;
    void *stacks[COROUTINES];

    for (int i = 0; i < COROUTINES; i++) {
        stacks[i] = coroutine_stack(stack_size);
        need(getcontext(&coroutine[i]) == 0, "getcontext");
        coroutine[i].uc_stack.ss_sp = stacks[i];
        coroutine[i].uc_stack.ss_size = stack_size;
        coroutine[i].uc_link = &scheduler;
        makecontext(&coroutine[i], reinterpret_cast<void (*)()>(coroutine_main), 1, i);
    }
    for (int step = 0; step <= STEPS; step++)
        for (int i = 0; i < COROUTINES; i++)
            swapcontext(&scheduler, &coroutine[i]);
    for (int i = 0; i < COROUTINES; i++)
        free(stacks[i]);
    site("coroutine_step", COROUTINES * STEPS, 48L * COROUTINES * STEPS,
         COROUTINES * STEPS, 48L * COROUTINES * STEPS);
    site("coroutine_stack", COROUTINES, 65536L * COROUTINES, COROUTINES,
         65536L * COROUTINES);
}

SITE void in_handler(int number)
{
    (void)number;
    free(keep(malloc(120)));
    keep(malloc(136));
}

SITE void raises_here()
{
    need(raise(SIGUSR1) == 0, "raise");
    free(keep(malloc(152)));
}

static void signals()
{
    static char stack[64 << 10];
    stack_t alternate = {};
    struct sigaction action = {};

    alternate.ss_sp = stack;
    alternate.ss_size = sizeof(stack);
    action.sa_handler = in_handler;
    action.sa_flags = SA_ONSTACK;
    need(sigaltstack(&alternate, nullptr) == 0, "sigaltstack");
    need(sigaction(SIGUSR1, &action, nullptr) == 0, "sigaction");
    for (int i = 0; i < SIGNALS; i++)
        raises_here();
    site("in_handler", 2 * SIGNALS, 256L * SIGNALS, SIGNALS, 120L * SIGNALS);
}

SITE void deep(int level)
{
    if (level % EVERY == 0)
        keep(malloc(1000 + static_cast<size_t>(level)));
    if (level < DEPTH)
        deep(level + 1);
    depth_sink = level; /* no tail call */
}

static void recursion()
{
    long bytes = 0;

    deep(1);
    for (int level = EVERY; level <= DEPTH; level += EVERY)
        bytes += 1000 + level;
    site("deep", DEPTH / EVERY, bytes, 0, 0);
}

/*
 * A call that never returns may be the last instruction of its function: the return
 * address then belongs to whatever code comes next.
 */
[[noreturn]] SITE void never_returns()
{
    keep(malloc(168));
    std::longjmp(back, 1);
}

[[noreturn]] SITE void ends_in_a_call()
{
    never_returns();
}

SITE void comes_next()
{
    free(keep(malloc(184)));
}

static void noreturns()
{
    volatile int done = 0;

    while (done < RETURNS) {
        done = done + 1;
        if (setjmp(back) == 0)
            ends_in_a_call();
    }
    comes_next();
    site("never_returns", RETURNS, 168L * RETURNS, 0, 0);
    site("ends_in_a_call", RETURNS, 168L * RETURNS, 0, 0);
    site("comes_next", 1, 184, 1, 184);
}

/*
 * A timer that interrupts wherever it may, in threads and in main, while they
 * allocate: a call cut short or made twice would show in the counts.
 */
static volatile sig_atomic_t ticks;

static void on_tick(int number)
{
    (void)number;
    ticks = ticks + 1;
}

SITE void *timed_block(size_t size)
{
    return keep(malloc(size));
}

static void *timed_work(void *unused)
{
    for (size_t i = 0; i < TIMED; i++) {
        void *block = timed_block(200 + i % 64);

        block = keep(realloc(block, 300));
        free(block);
    }
    return unused;
}

static void timer()
{
    struct sigaction action = {};
    struct itimerval every = {{0, 300}, {0, 300}};
    pthread_t ids[TIMED_THREADS];
    long bytes = 0;

    action.sa_handler = on_tick;
    action.sa_flags = SA_RESTART;
    need(sigaction(SIGPROF, &action, nullptr) == 0, "sigaction");
    need(sigaction(SIGALRM, &action, nullptr) == 0, "sigaction");
    need(setitimer(ITIMER_PROF, &every, nullptr) == 0, "setitimer");
    need(setitimer(ITIMER_REAL, &every, nullptr) == 0, "setitimer");
    for (auto &id : ids)
        need(pthread_create(&id, nullptr, timed_work, nullptr) == 0, "no thread");
    timed_work(nullptr);
    for (auto &id : ids)
        pthread_join(id, nullptr);
    every = {};
    setitimer(ITIMER_PROF, &every, nullptr);
    setitimer(ITIMER_REAL, &every, nullptr);
    need(ticks > 0, "the timer never came");
    for (size_t i = 0; i < TIMED; i++)
        bytes += 200 + static_cast<long>(i) % 64;
    site("timed_block", (TIMED_THREADS + 1L) * TIMED, (TIMED_THREADS + 1) * bytes,
         (TIMED_THREADS + 1L) * TIMED, (TIMED_THREADS + 1) * bytes);
}

} // extern "C"

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "throw") == 0)
        throws();
    else if (strcmp(mode, "longjmp") == 0)
        jumps();
    else if (strcmp(mode, "coroutines") == 0)
        coroutines();
    else if (strcmp(mode, "signals") == 0)
        signals();
    else if (strcmp(mode, "recursion") == 0)
        recursion();
    else if (strcmp(mode, "noreturn") == 0)
        noreturns();
    else if (strcmp(mode, "timer") == 0)
        timer();
    else
        need(0, "control_flow: no such mode: %s", mode);
    return 0;
}
