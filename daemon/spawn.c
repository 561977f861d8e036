/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and exec.
 *
 * The command's child waits for a byte before it execs, so that the collector has
 * heard of its pid before it can say HELLO. Whether the exec worked is told by a pipe
 * that exec closes: end of file is success, four bytes are its errno.
 */
#include "daemon/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schema/base/cleanup.h"
#include "schema/wire/hello.h"

#define SHELL       "/bin/sh"
#define ENV_PRELOAD "LD_PRELOAD"

static size_t count_words(char **words)
{
    size_t count = 0;

    while (words[count])
        count++;
    return count;
}

/* In the child: nothing of the person's but standard error, nothing of ours but
 * control. */
static void collector_exec(const char *self, char **argv, int control)
{
    sigset_t none;
    int null;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* It must not record itself if it was started by a recorded program. */
    unsetenv(NEAP_ENV_SOCKET);
    null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(control, NEAP_COLLECT_CONTROL_FD) < 0 || dup2(null, 0) < 0 ||
        dup2(null, 1) < 0)
        _exit(1);
    if (control == NEAP_COLLECT_CONTROL_FD)
        fcntl(control, F_SETFD, 0); /* dup2 onto itself keeps close-on-exec */
    close_range(NEAP_COLLECT_CONTROL_FD + 1, ~0u, 0);
    execv(self, argv);
    _exit(1);
}

struct neap_error *neap_spawn_collector(const char *self,
                                        const struct neap_collect_config *config,
                                        int control, pid_t *ret)
{
    size_t words = count_words(config->command);
    neap_auto_free char **argv =
        calloc(2 + NEAP_COLLECT_WORDS + words + 1, sizeof(*argv));
    char text[NEAP_COLLECT_TEXT];
    pid_t pid;

    if (!argv)
        return NEAP_NO_MEMORY;
    argv[0] = (char *)"neapd";
    argv[1] = (char *)NEAP_COLLECT_VERB;
    neap_collect_words(config, text, argv + 2);
    memcpy(argv + 2 + NEAP_COLLECT_WORDS, config->command, words * sizeof(*argv));
    pid = fork();
    if (pid < 0)
        return neap_error_os(errno, "cannot start the collector (fork)");
    if (pid == 0)
        collector_exec(self, argv, control);
    *ret = pid;
    return NULL;
}

/* As execvp: a file without a format that the kernel knows is a shell script. */
static void exec_as_script(const struct neap_spawn_command *command)
{
    size_t words = count_words(command->argv);
    char **argv = calloc(words + 2, sizeof(*argv));

    if (!argv)
        return;
    argv[0] = (char *)SHELL;
    argv[1] = (char *)command->path;
    memcpy(argv + 2, command->argv + 1, words * sizeof(*argv)); /* with the NULL */
    execve(SHELL, argv, command->envp);
    free(argv);
}

static void command_exec(const struct neap_spawn_command *command, int go, int failed)
{
    char byte;
    int errnum;

    /* An end of file here is a launcher that died: then nothing is to be run. */
    if (read(go, &byte, 1) != 1)
        _exit(1);
    if (command->ignore_child)
        signal(SIGCHLD, SIG_IGN);
    sigprocmask(SIG_SETMASK, command->mask, NULL);
    execve(command->path, command->argv, command->envp);
    if (errno == ENOEXEC)
        exec_as_script(command);
    errnum = errno;
    while (write(failed, &errnum, sizeof(errnum)) < 0 && errno == EINTR)
        ;
    _exit(1);
}

struct neap_error *neap_spawn_run(const struct neap_spawn_command *command, pid_t *ret,
                                  int *ret_errnum)
{
    int go[2], failed[2];
    ssize_t got;
    pid_t pid;

    if (pipe2(go, O_CLOEXEC))
        return neap_error_os(errno, "cannot make a pipe");
    if (pipe2(failed, O_CLOEXEC)) {
        int errnum = errno;

        close(go[0]);
        close(go[1]);
        return neap_error_os(errnum, "cannot make a pipe");
    }
    pid = fork();
    if (pid == 0) {
        close(go[1]);
        command_exec(command, go[0], failed[1]);
    }
    close(go[0]);
    close(failed[1]);
    *ret_errnum = 0;
    if (pid > 0) {
        command->announce(command->context, pid);
        if (write(go[1], "", 1) != 1)
            *ret_errnum = errno;
        do
            got = read(failed[0], ret_errnum, sizeof(*ret_errnum));
        while (got < 0 && errno == EINTR);
        if (*ret_errnum)
            waitpid(pid, NULL, 0);
    }
    close(go[1]);
    close(failed[0]);
    if (pid < 0)
        return neap_error_os(errno, "cannot start '%s' (fork)", command->path);
    *ret = pid;
    return NULL;
}

/* ---- environment ---- */

static const char *find_value(char **envp, const char *name)
{
    size_t length = strlen(name);

    for (; *envp; envp++) {
        if (strncmp(*envp, name, length) == 0 && (*envp)[length] == '=')
            return *envp + length + 1;
    }
    return NULL;
}

/* Whether the words of `list` (spaces or colons between) begin with `word`. */
static bool begins_with(const char *list, const char *word)
{
    size_t length = strlen(word);

    return strncmp(list, word, length) == 0 &&
           (list[length] == 0 || list[length] == ':' || list[length] == ' ');
}

static bool is_entry_of(const char *entry, const char *name)
{
    size_t length = strlen(name);

    return strncmp(entry, name, length) == 0 && entry[length] == '=';
}

/* A variable of ours: where `value` is NULL, as it is in the environment. */
struct variable {
    const char *name, *value, *more; /* "name=value:more" */
};

static bool is_said(const struct variable *variables, size_t count, const char *entry)
{
    for (size_t i = 0; i < count; i++) {
        if (variables[i].value && is_entry_of(entry, variables[i].name))
            return true;
    }
    return false;
}

static struct neap_error *make_block(char **envp, const struct variable *variables,
                                     size_t count, char ***ret)
{
    size_t words = count_words(envp) + count + 1, bytes = words * sizeof(**ret), n = 0;
    char **block;
    char *at;

    for (size_t i = 0; i < count; i++) {
        const struct variable *variable = &variables[i];

        bytes += strlen(variable->name) + sizeof("=:") +
                 (variable->value ? strlen(variable->value) : 0) +
                 (variable->more ? strlen(variable->more) : 0);
    }
    block = malloc(bytes);
    if (!block)
        return NEAP_NO_MEMORY;
    at = (char *)(block + words);
    for (char **entry = envp; *entry; entry++) {
        if (!is_said(variables, count, *entry))
            block[n++] = *entry;
    }
    for (size_t i = 0; i < count; i++) {
        const struct variable *variable = &variables[i];

        if (!variable->value)
            continue;
        block[n++] = at;
        at = stpcpy(stpcpy(stpcpy(at, variable->name), "="), variable->value);
        if (variable->more)
            at = stpcpy(stpcpy(at, ":"), variable->more);
        at++; /* the NUL */
    }
    block[n] = NULL;
    *ret = block;
    return NULL;
}

struct neap_error *
neap_spawn_environment(char **envp, const struct neap_spawn_wishes *wishes, char ***ret)
{
    const struct neap_allocator *allocator = &wishes->allocator;
    const char *preload = find_value(envp, ENV_PRELOAD);
    bool first = preload && begins_with(preload, wishes->hook);
    bool say_follow = !wishes->follow || find_value(envp, NEAP_ENV_FOLLOW);
    bool say_allocator = allocator->neap || find_value(envp, NEAP_ENV_ALLOCATOR);
    struct variable variables[] = {
        {ENV_PRELOAD, first ? preload : wishes->hook,
         !first && preload && *preload ? preload : NULL},
        {NEAP_ENV_SOCKET, wishes->socket, NULL},
        {NEAP_ENV_FOLLOW, say_follow ? (wishes->follow ? "1" : "0") : NULL, NULL},
        {NEAP_ENV_ALLOCATOR, say_allocator ? (allocator->neap ? "neap" : "app") : NULL,
         NULL},
        {NEAP_ENV_CHECK, allocator->check, NULL},
        {NEAP_ENV_ERROR, allocator->error, NULL},
    };

    return make_block(envp, variables, NEAP_ARRAY_LEN(variables), ret);
}
