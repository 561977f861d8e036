/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start. The first hooked call of an image may come from ld.so, from a constructor
 * that runs before ours, or from our own constructor; whichever it is finds
 * neap_real.ready false and comes to neap_life_begin. The environment is read from
 * the process's initial stack, since libc may not have set `environ` yet.
 *
 * Fork. The child finds *neap_process zeroed, so its first event connects anew, with
 * empty tables. Nothing has to run at fork itself, and raw clone() is covered too. The
 * thread that forked still has its parent's lane, also if another one was first to
 * connect: the connection's number tells. A vfork child shares its parent's memory and
 * goes on under its parent's name.
 *
 * End. Nothing to do: what was recorded is in memory that belongs to the collector.
 * on_exit and _exit only tell the status, for kernels on which a collector that is
 * not the parent cannot ask for it.
 */
#include "libhook/life.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "libhook/emit.h"
#include "libhook/gate.h"
#include "libhook/link.h"
#include "libhook/modules.h"
#include "libhook/ownheap.h"
#include "libhook/real.h"
#include "libhook/selfmem.h"
#include "libhook/stack.h"
#include "libhook/stackset.h"
#include "libhook/sys.h"
#include "libhook/unwind.h"

__thread struct neap_tls neap_tls __attribute__((tls_model("initial-exec")));
struct neap_process *neap_process;
struct neap_life_env neap_life_env;

/* Of the image, so a forked child inherits them. */
static uint16_t connections; /* so far, of this process and those it was forked from */
static bool follow = true;   /* record forked children */
static char allocator[sizeof(((struct neap_hello *)NULL)->allocator)];
static pthread_key_t thread_key;
static bool has_thread_key;
static _Atomic int begin_lock;

/* ---- environment ---- */

static const char *variable(char *const *env, const char *name)
{
    size_t length = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            return *env + length + 1;
    return NULL;
}

/* envp as the kernel left it above argv, whatever libc has done so far. */
static char *const *initial_environment(void)
{
    void *const *origin = dlsym(RTLD_DEFAULT, "__libc_stack_end");
    char *const *words;
    long argc;

    if (!origin || !*origin)
        return NULL;
    words = *origin;
    argc = *(const long *)*origin;
    return words + 1 + argc + 1;
}

/* Which of LD_PRELOAD's words we are: the one that ends in our file's name. */
static void find_own_path(const char *preload)
{
    Dl_info self;
    size_t length;

    if (!dladdr(&neap_life_env, &self) || !self.dli_fname)
        return;
    length = strlen(self.dli_fname);
    if (length >= sizeof(neap_life_env.hook) || !preload ||
        !strstr(preload, self.dli_fname))
        return;
    memcpy(neap_life_env.hook, self.dli_fname, length + 1);
}

/* A value that fits, else "". */
static void copy_value(char *const *env, const char *name, char *ret, size_t size)
{
    const char *value = variable(env, name);

    if (value && strlen(value) < size)
        memcpy(ret, value, strlen(value) + 1);
}

static bool read_environment(char *const *env)
{
    const char *path = variable(env, NEAP_ENV_SOCKET);
    const char *children = variable(env, NEAP_ENV_FOLLOW);

    if (getauxval(AT_SECURE) || !path || !*path ||
        strlen(path) >= sizeof(neap_life_env.socket))
        return false;
    memcpy(neap_life_env.socket, path, strlen(path) + 1);
    copy_value(env, NEAP_ENV_ALLOCATOR, neap_life_env.allocator,
               sizeof(neap_life_env.allocator));
    copy_value(env, NEAP_ENV_CHECK, neap_life_env.check, sizeof(neap_life_env.check));
    copy_value(env, NEAP_ENV_ERROR, neap_life_env.error, sizeof(neap_life_env.error));
    follow = !children || strcmp(children, "0") != 0;
    find_own_path(variable(env, "LD_PRELOAD"));
    neap_life_env.active = follow && neap_life_env.hook[0];
    neap_sampler_configure(variable(env, NEAP_ENV_SEED));
    neap_unwind_configure(variable(env, NEAP_ENV_UNWINDER),
                          variable(env, NEAP_ENV_VERIFY));
    return true;
}

/* ---- start ---- */

static void thread_ends(void *unused)
{
    struct neap_tls *tls = &neap_tls;

    (void)unused;
    if (tls->busy != NEAP_IDLE)
        return;
    tls->busy = NEAP_RECORDING;
    neap_emit_thread_end(tls);
    tls->busy = NEAP_IDLE;
}

static void name_allocator(void)
{
    static const char *const known[] = {"jemalloc", "tcmalloc", "mimalloc"};
    const char *file = neap_real_allocator(), *name = file;

    if (strncmp(file, "libc.so", 7) == 0 || strncmp(file, "libc-", 5) == 0)
        name = "glibc";
    for (unsigned i = 0; i < NEAP_ARRAY_LEN(known); i++)
        if (strstr(file, known[i]))
            name = known[i];
    /* A program's own definition comes before ours: what it serves is not seen. */
    if (neap_real.heap)
        name = "neap";
    else if (!neap_real_is_behind_us("malloc"))
        name = "own";
    strncpy(allocator, name, sizeof(allocator) - 1);
}

static void begin_internal(void)
{
    char *const *env = initial_environment();

    neap_real_resolve();
    if (!neap_real.malloc || !neap_real.free || !read_environment(env)) {
        neap_real.off = true;
        return;
    }
    neap_process = neap_selfmem_wiped(sizeof(*neap_process));
    if (!neap_process || !neap_modules_init() || !neap_stackset_init() ||
        !neap_unwind_init()) {
        neap_real.off = true;
        return;
    }
    neap_stack_init();
    if (strcmp(neap_life_env.allocator, "neap") == 0)
        neap_ownheap_begin(env);
    name_allocator();
    has_thread_key = pthread_key_create(&thread_key, thread_ends) == 0;
}

void neap_life_begin(void)
{
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;

    tls->busy = NEAP_INTERNAL;
    while (atomic_exchange_explicit(&begin_lock, 1, memory_order_acquire))
        neap_sys_yield();
    if (!neap_real.ready) {
        begin_internal();
        if (neap_real.off)
            neap_gate_set(&neap_gate_off);
        neap_filter_reset();
        __atomic_store_n(&neap_real.ready, true, __ATOMIC_RELEASE);
    }
    atomic_store_explicit(&begin_lock, 0, memory_order_release);
    tls->busy = busy;
}

/* ---- connection ---- */

static bool connect_process(void)
{
    struct neap_hello hello = {.magic = NEAP_HELLO_MAGIC,
                               .version = NEAP_WIRE_VERSION,
                               .origin =
                                   connections ? NEAP_ORIGIN_FORK : NEAP_ORIGIN_EXEC,
                               .tid = (uint32_t)NEAP_SYS1(SYS_gettid, 0),
                               .unwinder = neap_unwind_engine()};

    if (connections && neap_real.heap)
        neap_ownheap_forked();
    if (connections && !follow)
        return false;
    memcpy(hello.allocator, allocator, sizeof(hello.allocator));
    neap_process->pid = (uint32_t)NEAP_SYS1(SYS_getpid, 0);
    if (!neap_link_connect(neap_life_env.socket, &hello, neap_process))
        return false;
    if (connections) /* a child: the parent's blocks are none of its */
        neap_filter_reset();
    neap_gate_set(&neap_process->ctl->mode);
    connections += connections == UINT16_MAX ? 2 : 1; /* never 0 again */
    atomic_store_explicit(&neap_process->connection, connections, memory_order_relaxed);
    return true;
}

/* A thread of this process from here on. One that was its parent's forgets what it has
 * from there: its lane is not mapped here. */
static NEAP_COLD void enter_process(struct neap_tls *tls)
{
    if (tls->connection != 0) {
        tls->memo = NULL;
        tls->lane = NULL;
        tls->random = 0;
        tls->sampled = NULL;
    }
    tls->tid = (uint32_t)NEAP_SYS1(SYS_gettid, 0);
    tls->connection =
        atomic_load_explicit(&neap_process->connection, memory_order_relaxed);
}

void neap_life_settle(struct neap_tls *tls)
{
    tls->settled = true;
    if (!tls->stack_hi)
        neap_stack_thread(tls, tls->tid == neap_process->pid);
    if (has_thread_key && !tls->keyed)
        tls->keyed = pthread_setspecific(thread_key, tls) == 0;
}

bool neap_life_connect(struct neap_tls *tls)
{
    uint32_t phase = NEAP_PHASE_NEW;

    if (neap_real.off)
        return false;
    if (atomic_compare_exchange_strong_explicit(
            &neap_process->phase, &phase, NEAP_PHASE_CONNECTING, memory_order_acquire,
            memory_order_acquire)) {
        phase = connect_process() ? NEAP_PHASE_ON : NEAP_PHASE_OFF;
        neap_real.off = phase == NEAP_PHASE_OFF;
        if (neap_real.off) {
            neap_gate_set(&neap_gate_off);
            neap_filter_reset();
        }
        atomic_store_explicit(&neap_process->phase, phase, memory_order_release);
    }
    while (phase == NEAP_PHASE_CONNECTING) {
        neap_sys_yield();
        phase = atomic_load_explicit(&neap_process->phase, memory_order_acquire);
    }
    if (tls->connection !=
        atomic_load_explicit(&neap_process->connection, memory_order_relaxed))
        enter_process(tls);
    return phase == NEAP_PHASE_ON;
}

/* ---- constructor and end ---- */

static void at_exit(int status, void *unused)
{
    struct neap_tls *tls = &neap_tls;

    (void)unused;
    if (neap_real.off || tls->busy != NEAP_IDLE)
        return;
    if (neap_real.heap)
        neap_ownheap_flush(tls);
    tls->busy = NEAP_RECORDING;
    neap_emit_exit(tls, status);
    tls->busy = NEAP_IDLE;
}

static __attribute__((constructor)) void start(void)
{
    struct neap_tls *tls = &neap_tls;

    if (!neap_real.ready)
        neap_life_begin();
    if (neap_real.off || tls->busy != NEAP_IDLE)
        return;
    /* Not as our own business: the loader frees on the way what it allocated before,
     * which was recorded. */
    neap_unwind_load();
    tls->busy = NEAP_INTERNAL;
    on_exit(at_exit, NULL);
    /* Even a program that never allocates is part of the recording. */
    if (neap_life_connect(tls)) {
        neap_life_settle(tls);
        if (neap_real.heap)
            neap_ownheap_flush(tls);
    }
    tls->busy = NEAP_IDLE;
}
