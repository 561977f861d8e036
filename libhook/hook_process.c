/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec, posix_spawn, _exit: so that children are followed even when the program gives
 * them an environment of its own making, and so that an exit status is known. And the
 * handlers around fork, for the order of ours among them.
 *
 * The given environment is passed on untouched if it leads to us already. If not, a
 * copy of its vector with LD_PRELOAD and NEAP_SOCKET put in is made on the stack: a
 * vfork child must not allocate.
 */
#include <alloca.h>
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libhook/emit.h"
#include "libhook/guard.h"
#include "libhook/life.h"
#include "libhook/ownheap.h"
#include "libhook/real.h"
#include "libhook/sys.h"

#define ENV_WORDS_MAX 8192u /* more than that is passed on as it is */
#define PRELOAD_MAX   8192u

extern char **environ;

static const char preload_name[] = "LD_PRELOAD=";

/* Variables that lead children to us as this image was led. */
static const struct carried {
    const char *name; /* with its '=' */
    const char *value;
    bool needed; /* where it is missing the others do not help */
} carried[] = {
    {NEAP_ENV_SOCKET "=", neap_life_env.socket, true},
    {NEAP_ENV_ALLOCATOR "=", neap_life_env.allocator, false},
    {NEAP_ENV_CHECK "=", neap_life_env.check, false},
    {NEAP_ENV_ERROR "=", neap_life_env.error, false},
};
#define CARRIED NEAP_ARRAY_LEN(carried)

struct environment {
    unsigned words;
    const char *preload; /* the value, NULL if there is none */
    bool has[CARRIED];
};

static bool is_of(const char *word, const char *name)
{
    return strncmp(word, name, strlen(name)) == 0;
}

static struct environment inspect(char *const *env)
{
    struct environment found = {0};

    for (; env && env[found.words]; found.words++) {
        const char *word = env[found.words];

        if (is_of(word, preload_name))
            found.preload = word + sizeof(preload_name) - 1;
        for (unsigned i = 0; i < CARRIED; i++)
            found.has[i] |= is_of(word, carried[i].name);
    }
    return found;
}

/* An environment without a choice of allocator is one that was made anew. */
static bool leads_to_us(const struct environment *found)
{
    for (unsigned i = 0; i < CARRIED; i++) {
        if (!found->has[i] && (carried[i].needed || carried[i].value[0]))
            return false;
    }
    return found->preload && strstr(found->preload, neap_life_env.hook);
}

/* Bytes of stack that fill() needs, 0 if the environment stays as it is. */
static size_t room_for(char *const *env, struct environment *found)
{
    size_t bytes;

    if (!neap_real.ready)
        neap_life_begin();
    if (neap_real.off || !neap_life_env.active)
        return 0;
    *found = inspect(env);
    if (leads_to_us(found) || found->words > ENV_WORDS_MAX ||
        (found->preload && strlen(found->preload) > PRELOAD_MAX))
        return 0;
    bytes = (found->words + CARRIED + 2) * sizeof(char *) + sizeof(preload_name) +
            strlen(neap_life_env.hook) + 1 +
            (found->preload ? strlen(found->preload) : 0);
    for (unsigned i = 0; i < CARRIED; i++)
        bytes += strlen(carried[i].name) + strlen(carried[i].value) + 1;
    return bytes;
}

static char *append(char *at, const char *text)
{
    size_t length = strlen(text);

    memcpy(at, text, length + 1);
    return at + length;
}

/* Is it one of those that fill() writes itself? What the program says of an allocator
 * stays. */
static bool is_replaced(const char *word, const struct environment *found)
{
    for (unsigned i = 0; i < CARRIED; i++) {
        if (carried[i].needed && found->has[i] && is_of(word, carried[i].name))
            return true;
    }
    return is_of(word, preload_name);
}

/* The vector first, then the strings. */
static char *const *fill(void *room, char *const *env, const struct environment *found)
{
    char **vector = room;
    char *text = (char *)(vector + found->words + CARRIED + 2);
    unsigned n = 0;

    for (unsigned i = 0; i < found->words; i++)
        if (!is_replaced(env[i], found))
            vector[n++] = env[i];
    vector[n++] = text;
    text = append(append(text, preload_name), neap_life_env.hook);
    if (found->preload && !strstr(found->preload, neap_life_env.hook))
        text = append(append(text, ":"), found->preload);
    for (unsigned i = 0; i < CARRIED; i++) {
        if (!carried[i].needed && (found->has[i] || !carried[i].value[0]))
            continue;
        vector[n++] = ++text;
        text = append(append(text, carried[i].name), carried[i].value);
    }
    vector[n] = NULL;
    return vector;
}

/* Evaluates to the environment to pass on. alloca: it must live until the call. */
#define FOLLOWED(given)                                       \
    ({                                                        \
        static char *const none_[] = {NULL};                  \
        char *const *env_ = (given) ? (given) : none_;        \
        struct environment found_;                            \
        size_t room_ = room_for(env_, &found_);               \
                                                              \
        room_ ? fill(alloca(room_), env_, &found_) : (given); \
    })

/* The words of an execl-like call, with the NULL that ends them, as a vector on the
 * stack; `args` then stands behind that. */
#define WORDS(first, args)                             \
    ({                                                 \
        size_t count_ = 0;                             \
        va_list copy_;                                 \
        char **argv_;                                  \
                                                       \
        va_copy(copy_, args);                          \
        for (const char *w_ = (first); w_; count_++)   \
            w_ = va_arg(copy_, char *);                \
        va_end(copy_);                                 \
        argv_ = alloca((count_ + 1) * sizeof(*argv_)); \
        argv_[0] = (char *)(first);                    \
        for (size_t w_ = 1; w_ <= count_; w_++)        \
            argv_[w_] = va_arg(args, char *);          \
        argv_;                                         \
    })

static int missing(void)
{
    errno = ENOSYS;
    return -1;
}

NEAP_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
    char *const *env = FOLLOWED(envp);

    return neap_real.execve ? neap_real.execve(path, argv, env) : missing();
}

NEAP_EXPORT int execv(const char *path, char *const argv[])
{
    char *const *env = FOLLOWED(environ);

    return neap_real.execve ? neap_real.execve(path, argv, env) : missing();
}

NEAP_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
    char *const *env = FOLLOWED(envp);

    return neap_real.execvpe ? neap_real.execvpe(file, argv, env) : missing();
}

NEAP_EXPORT int execvp(const char *file, char *const argv[])
{
    char *const *env = FOLLOWED(environ);

    return neap_real.execvpe ? neap_real.execvpe(file, argv, env) : missing();
}

NEAP_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
    char *const *env = FOLLOWED(envp);

    return neap_real.fexecve ? neap_real.fexecve(fd, argv, env) : missing();
}

NEAP_EXPORT int execl(const char *path, const char *word, ...)
{
    char *const *argv, *const *env = FOLLOWED(environ);
    va_list args;

    va_start(args, word);
    argv = WORDS(word, args);
    va_end(args);
    return neap_real.execve ? neap_real.execve(path, argv, env) : missing();
}

NEAP_EXPORT int execlp(const char *file, const char *word, ...)
{
    char *const *argv, *const *env = FOLLOWED(environ);
    va_list args;

    va_start(args, word);
    argv = WORDS(word, args);
    va_end(args);
    return neap_real.execvpe ? neap_real.execvpe(file, argv, env) : missing();
}

NEAP_EXPORT int execle(const char *path, const char *word, ...)
{
    char *const *argv, *const *given, *const *env;
    va_list args;

    va_start(args, word);
    argv = WORDS(word, args);
    given = va_arg(args, char *const *);
    va_end(args);
    env = FOLLOWED(given);
    return neap_real.execve ? neap_real.execve(path, argv, env) : missing();
}

NEAP_EXPORT int execveat(int fd, const char *path, char *const argv[],
                         char *const envp[], int flags)
{
    char *const *env = FOLLOWED(envp);

    return neap_real.execveat ? neap_real.execveat(fd, path, argv, env, flags)
                              : missing();
}

NEAP_EXPORT int posix_spawn(pid_t *pid, const char *path,
                            const posix_spawn_file_actions_t *actions,
                            const posix_spawnattr_t *attr, char *const argv[],
                            char *const envp[])
{
    char *const *env = FOLLOWED(envp);

    return neap_real.posix_spawn
               ? neap_real.posix_spawn(pid, path, actions, attr, argv, env)
               : ENOSYS;
}

NEAP_EXPORT int posix_spawnp(pid_t *pid, const char *file,
                             const posix_spawn_file_actions_t *actions,
                             const posix_spawnattr_t *attr, char *const argv[],
                             char *const envp[])
{
    char *const *env = FOLLOWED(envp);

    return neap_real.posix_spawnp
               ? neap_real.posix_spawnp(pid, file, actions, attr, argv, env)
               : ENOSYS;
}

static __attribute__((noreturn)) void leave(int status)
{
    struct neap_tls *tls = &neap_tls;

    if (neap_real.ready && !neap_real.off && tls->busy == NEAP_IDLE && neap_process &&
        atomic_load_explicit(&neap_process->phase, memory_order_relaxed) ==
            NEAP_PHASE_ON) {
        if (neap_real.heap)
            neap_ownheap_flush(tls);
        tls->busy = NEAP_RECORDING;
        neap_emit_exit(tls, status);
    }
    if (neap_real.exit_now)
        neap_real.exit_now(status);
    for (;;) /* also before libc is known */
        NEAP_SYS1(SYS_exit_group, status);
}

NEAP_EXPORT void _exit(int status)
{
    leave(status);
}

NEAP_EXPORT void _Exit(int status)
{
    leave(status);
}

/* ---- fork ---- */

/*
 * pthread_atfork, in the C library's words. Handlers run in the order of their
 * registration, backwards before the fork; ours take the heap's lock, which a handler
 * that ends a thread would wait for. So they are registered before the first of others:
 * a library's constructor may come here before anything has allocated.
 */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *object);

NEAP_EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void),
                                  void (*child)(void), void *object)
{
    if (!neap_real.ready && neap_tls.busy == NEAP_IDLE)
        neap_life_begin();
    return neap_real.register_atfork
               ? neap_real.register_atfork(prepare, parent, child, object)
               : ENOMEM;
}
