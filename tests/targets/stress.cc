/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that makes stacks hard to walk, at once, in several threads: exceptions,
 * long jumps, coroutines on stacks that are mapped and unmapped, handlers on alternate
 * stacks, frames of no fixed size, realigned frames, calls through libc.
 *
 *     stress [TURNS]
 *
 * Libraries come and go in one more thread with "stress TURNS dlclose".
 */
#include <alloca.h>
#include <csetjmp>
#include <csignal>
#include <dlfcn.h>
#include <pthread.h>
#include <stdexcept>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/targets/target.h"

namespace
{

enum {
    THREADS = 3,
    LEVELS = 12
};

constexpr size_t stack_size = 64 << 10;

struct thread_state {
    std::jmp_buf back;
    ucontext_t scheduler, coroutine;
};

long turns = 200;
bool with_libraries;
thread_local thread_state *self;

} // namespace

extern "C" {

SITE void stress_block(size_t size)
{
    free(keep(malloc(size)));
}

SITE void stress_alloca(int level)
{
    auto *room =
        static_cast<char *>(alloca(opaque(16 + static_cast<size_t>(level) * 24)));

    room[0] = static_cast<char>(level);
    stress_block(32);
    keep(room);
}

__attribute__((force_align_arg_pointer)) SITE void stress_realigned(int level)
{
    alignas(64) volatile char room[64];

    room[0] = static_cast<char>(level);
    stress_block(48);
    room[1] = room[0];
}

static int compare(const void *left, const void *right)
{
    stress_block(64);
    return *static_cast<const int *>(left) - *static_cast<const int *>(right);
}

SITE void stress_sorted()
{
    int numbers[8] = {3, 1, 4, 1, 5, 9, 2, 6};

    qsort(numbers, 8, sizeof(numbers[0]), compare);
    keep(numbers);
}

SITE void stress_frame(int level, int how)
{
    stress_alloca(level);
    if (level % 3 == 0)
        stress_realigned(level);
    if (level == LEVELS) {
        stress_sorted();
        if (how == 0)
            throw std::runtime_error("out of here");
        if (how == 1)
            std::longjmp(self->back, 1);
        if (how == 2)
            raise(SIGUSR1);
        return;
    }
    stress_frame(level + 1, how);
    stress_block(80);
}

static void on_signal(int)
{
    stress_alloca(3);
    stress_block(96);
}

static void coroutine_main()
{
    for (;;) {
        try {
            stress_frame(LEVELS - 4, 0);
        } catch (const std::runtime_error &) {
            stress_block(112);
        }
        stress_frame(LEVELS - 2, 3);
        swapcontext(&self->coroutine, &self->scheduler);
    }
}

SITE void stress_coroutine()
{
    void *stack = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    need(stack != MAP_FAILED, "mmap");
    need(getcontext(&self->coroutine) == 0, "getcontext");
    self->coroutine.uc_stack.ss_sp = stack;
    self->coroutine.uc_stack.ss_size = stack_size;
    self->coroutine.uc_link = nullptr;
    makecontext(&self->coroutine, coroutine_main, 0);
    for (int i = 0; i < 3; i++) {
        swapcontext(&self->scheduler, &self->coroutine);
        stress_block(128);
    }
    munmap(stack, stack_size);
}

static void *stress_thread(void *unused)
{
    thread_state state;
    char alternate[32 << 10];
    stack_t stack = {};

    self = &state;
    stack.ss_sp = alternate;
    stack.ss_size = sizeof(alternate);
    need(sigaltstack(&stack, nullptr) == 0, "sigaltstack");
    for (volatile long turn = 0; turn < turns; turn = turn + 1) {
        try {
            stress_frame(static_cast<int>(turn % 5), 0);
        } catch (const std::runtime_error &) {
            stress_block(144);
        }
        if (setjmp(state.back) == 0)
            stress_frame(static_cast<int>(turn % 4), 1);
        stress_frame(static_cast<int>(turn % 7), 2);
        stress_coroutine();
    }
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
    return unused;
}

static void *libraries(void *unused)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 64);

    need(length > 0, "cannot read /proc/self/exe");
    path[length] = '\0';
    for (long turn = 0; turn < turns; turn++) {
        const char *letter = turn & 1 ? "b" : "a";
        char name[16];

        snprintf(strrchr(path, '/') + 1, 32, "libreuse_%s.so", letter);
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        need(library != nullptr, "%s", dlerror());
        snprintf(name, sizeof(name), "reuse_%s", letter);
        auto function = reinterpret_cast<void *(*)(size_t)>(dlsym(library, name));
        need(function != nullptr, "no %s", name);
        free(function(500));
        need(dlclose(library) == 0, "dlclose");
    }
    return unused;
}

} // extern "C"

int main(int argc, char **argv)
{
    struct sigaction action = {};
    pthread_t ids[THREADS], churn;

    if (argc > 1)
        turns = strtol(argv[1], nullptr, 10);
    with_libraries = argc > 2;
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    need(sigaction(SIGUSR1, &action, nullptr) == 0, "sigaction");
    if (with_libraries)
        need(pthread_create(&churn, nullptr, libraries, nullptr) == 0, "no thread");
    for (auto &id : ids)
        need(pthread_create(&id, nullptr, stress_thread, nullptr) == 0, "no thread");
    stress_thread(nullptr);
    for (auto id : ids)
        pthread_join(id, nullptr);
    if (with_libraries)
        pthread_join(churn, nullptr);
    say("done %ld\n", turns * (THREADS + 1));
    return 0;
}
