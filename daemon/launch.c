/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher.
 *
 * Signals. All that a process can be sent are blocked and read from a signalfd. What
 * the terminal sends (SI_KERNEL) goes to the whole foreground group, the command
 * included, and is dropped here; what was meant for us is passed on. SIGALRM and its
 * like, from a timer set before we were started, are the command's as well. Stops and
 * SIGCONT act as always. Who ends a command may do so several times in a row, as
 * timeout(1) does, to it and to its group: only a signal that comes well after the
 * command's end says that somebody does not want to wait for the collector.
 *
 * Descriptors. Once the command runs, nothing that it may want to see closed stays
 * open here, but standard error, where the last words go.
 */
#include "daemon/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon/collect.h"
#include "daemon/control.h"
#include "daemon/log.h"
#include "daemon/paths.h"
#include "daemon/program.h"
#include "daemon/source/procfs.h"
#include "daemon/spawn.h"
#include "daemon/tally.h"
#include "schema/base/cleanup.h"

#define STOPPED_PATIENCE_MS 10000 /* for a collector that somebody stopped */
#define CHECK_MS            1000
#define ANSWER_MS           1000
#define IMPATIENT_NS        1000000000ull /* after CMD's end: a signal is for us */

struct launch {
    const struct neap_config *config;
    struct neap_paths paths;
    char *program; /* the command's file */
    sigset_t mask; /* as we were started with */
    bool ignore_child;
    int control; /* -1 = the collector is gone */
    int signals;
    pid_t collector;
    pid_t command;
    int status; /* of waitpid; valid if ended */
    bool ended;
    uint64_t ended_ns;
    bool answered; /* the tally has come */
    bool hurry;    /* the person wants us to go */
};

/* Descriptors 0 to 2 that are closed would be taken by the next files opened here. */
static void occupy_standard_fds(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR | O_CLOEXEC) != fd)
            return;
    }
}

/* ---- start ---- */

static int find_program(struct launch *launch)
{
    neap_auto_free char *note = NULL;
    int status = NEAP_STATUS_FAILED;
    struct neap_error *error =
        neap_program_find(launch->config->command[0], &launch->program, &status);

    if (!error)
        error = neap_program_inspect(launch->program, &note, &status);
    if (error) {
        neap_log_error(error);
        return status;
    }
    if (note && !launch->config->quiet)
        neap_log("%s", note);
    return 0;
}

/* Start the collector and wait until it is ready, or says why not. */
static int start_collector(struct launch *launch)
{
    const struct neap_config *config = launch->config;
    struct neap_collect_config collect = {
        .directory = launch->paths.directory,
        .output = launch->paths.output,
        .force = config->force,
        .follow = config->follow,
        .settings = config->settings,
        .command = config->command,
    };
    struct neap_control_message message;
    struct neap_error *error;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        neap_log_error(neap_error_os(errno, "cannot make a socket"));
        return NEAP_STATUS_FAILED;
    }
    launch->control = pair[0];
    error =
        neap_spawn_collector(launch->paths.self, &collect, pair[1], &launch->collector);
    close(pair[1]);
    if (error) {
        neap_log_error(error);
        return NEAP_STATUS_FAILED;
    }
    if (neap_control_receive(launch->control, true, &message) != NEAP_CONTROL_GOT) {
        neap_log("the collector did not start; the command was not run");
        return NEAP_STATUS_FAILED;
    }
    if (message.kind != NEAP_CONTROL_READY) {
        neap_log("%s", message.text);
        return NEAP_STATUS_FAILED;
    }
    return 0;
}

static void announce(void *context, pid_t pid)
{
    struct launch *launch = context;
    struct neap_control_message message = {.kind = NEAP_CONTROL_STARTED, .value = pid};
    struct pollfd pollfd = {.fd = launch->control, .events = POLLIN};

    /* A collector that does not answer must not keep the command from running. */
    if (neap_control_send(launch->control, &message) &&
        poll(&pollfd, 1, ANSWER_MS) == 1 && !(pollfd.revents & POLLHUP))
        neap_control_receive(launch->control, false, &message);
}

/* Keep standard error and our two sockets, whatever else was inherited. */
static void release_descriptors(const struct launch *launch)
{
    int low = launch->control < launch->signals ? launch->control : launch->signals;
    int high = launch->control < launch->signals ? launch->signals : launch->control;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
    }
    if (low > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)low - 1, 0);
    if (high > low + 1)
        close_range((unsigned)low + 1, (unsigned)high - 1, 0);
    close_range((unsigned)high + 1, ~0u, 0);
}

static int start_command(struct launch *launch, char **envp)
{
    struct neap_spawn_command command = {
        .path = launch->program,
        .argv = launch->config->command,
        .envp = envp,
        .mask = &launch->mask,
        .ignore_child = launch->ignore_child,
        .announce = announce,
        .context = launch,
    };
    struct neap_control_message abort = {.kind = NEAP_CONTROL_ABORT};
    struct neap_error *error;
    int errnum;

    error = neap_spawn_run(&command, &launch->command, &errnum);
    if (!error && !errnum) {
        release_descriptors(launch);
        return 0;
    }
    /* The recording file goes with the collector: wait for it. */
    neap_control_send(launch->control, &abort);
    waitpid(launch->collector, NULL, 0);
    if (error) {
        neap_log_error(error);
        return NEAP_STATUS_FAILED;
    }
    neap_log_error(neap_error_os(errnum, "cannot run '%s'", launch->program));
    return errnum == ENOENT ? NEAP_STATUS_NOT_FOUND : NEAP_STATUS_CANNOT;
}

static void block_signals(struct launch *launch)
{
    static const int left[] = {SIGTSTP, SIGTTIN, SIGTTOU, SIGSEGV,
                               SIGBUS,  SIGFPE,  SIGILL,  SIGABRT};
    struct sigaction action;
    sigset_t ours;

    /* An ignored SIGCHLD would take the statuses away; the command gets it back. */
    if (sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN) {
        launch->ignore_child = true;
        signal(SIGCHLD, SIG_DFL);
    }
    sigfillset(&ours);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(left); i++)
        sigdelset(&ours, left[i]);
    sigprocmask(SIG_BLOCK, &ours, &launch->mask);
    launch->signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- while the command runs ---- */

static void collector_lost(struct launch *launch)
{
    close(launch->control);
    launch->control = -1;
    if (launch->answered)
        return;
    neap_log("the collector died; what it had written until then is kept in %s",
             launch->paths.output);
    neap_paths_remove_directory(launch->paths.directory);
}

static void control_ready(struct launch *launch)
{
    struct neap_control_message message;

    switch (neap_control_receive(launch->control, false, &message)) {
    case NEAP_CONTROL_NOTHING:
        return;
    case NEAP_CONTROL_CLOSED:
        collector_lost(launch);
        return;
    case NEAP_CONTROL_GOT:
        break;
    }
    if (message.kind != NEAP_CONTROL_TALLY)
        return;
    launch->answered = true;
    if (message.text[0])
        neap_log("the recording is not complete: %s", message.text);
    if (!launch->config->quiet)
        neap_tally_say(&message.tally, launch->paths.output,
                       launch->config->settings.dormant);
}

static uint64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void reap(struct launch *launch)
{
    struct neap_control_message message = {.kind = NEAP_CONTROL_ENDED};
    int status;

    if (!launch->ended &&
        waitpid(launch->command, &status, WNOHANG) == launch->command) {
        launch->ended = true;
        launch->ended_ns = clock_now();
        launch->status = status;
        message.value = status;
        if (launch->control >= 0)
            neap_control_send(launch->control, &message);
    }
}

static void pass_on(struct launch *launch, const struct signalfd_siginfo *info)
{
    int number = (int)info->ssi_signo;
    bool of_terminal = info->ssi_code == SI_KERNEL &&
                       (number == SIGINT || number == SIGQUIT || number == SIGHUP);

    if (number == SIGCHLD || number == SIGWINCH || number == SIGPIPE ||
        number == SIGURG)
        return;
    if (launch->ended) {
        launch->hurry |= (number == SIGINT || number == SIGTERM || number == SIGQUIT ||
                          number == SIGHUP) &&
                         clock_now() - launch->ended_ns > IMPATIENT_NS;
        return;
    }
    if (!of_terminal)
        kill(launch->command, number);
}

static void signals_ready(struct launch *launch)
{
    struct signalfd_siginfo info;

    while (read(launch->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        pass_on(launch, &info);
    reap(launch);
}

/* Until the command has ended and the collector has said what there is to say. */
static void wait_for_both(struct launch *launch)
{
    int stopped_ms = 0;

    while (!launch->ended || (launch->control >= 0 && !launch->answered)) {
        struct pollfd fds[] = {{.fd = launch->signals, .events = POLLIN},
                               {.fd = launch->control, .events = POLLIN}};
        int ready = poll(fds, 2, launch->ended ? CHECK_MS : -1);

        if (ready == 0 && neap_procfs_is_stopped(launch->collector))
            stopped_ms += CHECK_MS;
        if (fds[0].revents)
            signals_ready(launch);
        if (launch->control >= 0 && fds[1].revents)
            control_ready(launch);
        if (launch->ended && !launch->answered && launch->control >= 0 &&
            (launch->hurry || stopped_ms >= STOPPED_PATIENCE_MS)) {
            neap_log("not waiting for the collector, process %d; it finishes %s by "
                     "itself",
                     (int)launch->collector, launch->paths.output);
            return;
        }
    }
}

static int exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void say_start(const struct launch *launch)
{
    const char *output = launch->paths.output;

    if (launch->config->settings.dormant)
        neap_log("recording to %s, switched off; start it with: neap switch %s on",
                 output, output);
    else
        neap_log("recording to %s", output);
}

static int run(struct launch *launch)
{
    struct neap_spawn_wishes wishes = {.follow = launch->config->follow,
                                       .allocator = launch->config->allocator};
    struct neap_error *error;
    char **envp;
    int status = find_program(launch);

    if (status)
        return status;
    error = neap_paths_init(&launch->paths, launch->config);
    wishes.hook = launch->paths.hook;
    wishes.socket = launch->paths.socket;
    if (!error)
        error = neap_spawn_environment(environ, &wishes, &envp);
    if (error) {
        neap_log_error(error);
        return NEAP_STATUS_FAILED;
    }
    status = start_collector(launch);
    if (!status) {
        if (!launch->config->quiet)
            say_start(launch);
        block_signals(launch);
        status = start_command(launch, envp);
    } else {
        neap_paths_remove_directory(launch->paths.directory);
    }
    free(envp);
    if (status)
        return status;
    wait_for_both(launch);
    return exit_status(launch->status);
}

int neap_launch_run(const struct neap_config *config)
{
    struct launch launch = {.config = config, .control = -1, .signals = -1};
    int status;

    occupy_standard_fds();
    /* So that "neapd" is the collector and nothing else. */
    prctl(PR_SET_NAME, "neap");
    status = run(&launch);
    neap_paths_deinit(&launch.paths);
    free(launch.program);
    return status;
}
