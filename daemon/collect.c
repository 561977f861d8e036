/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a collector: set up, say READY, turn the loop until CMD and every
 * process recorded beside it have ended, write the rest, go.
 *
 * A turn: clock word, a pass over all lanes, once a second the counters and a commit,
 * then a sleep as long as the pace says. A commit that fails never stops the reading:
 * what it could not write stays dirty, and the next one tries again.
 *
 * Two waits have an end: processes that started with our socket in their environment
 * but have said nothing yet, and, for the launcher's sake, processes that outlive CMD.
 */
#include "daemon/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include "daemon/adapt.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/paths.h"
#include "daemon/recording.h"
#include "daemon/session.h"
#include "daemon/source/ctl.h"
#include "daemon/source/procfs.h"
#include "schema/base/cleanup.h"

#define COMMIT_NS      900000000ull  /* between commits: a second with one's own time */
#define FIRST_NS       100000000ull  /* before the first */
#define GRACE_NS       2000000000ull /* for what goes on after CMD */
#define SEARCH_NS      50000000ull   /* between looks for processes not heard of yet */
#define SEARCH_LATE_NS 500000000ull  /* ... when they have been waited for that long */

struct collector {
    const struct neap_collect_config *config;
    struct neap_recording recording;
    struct neap_ctl *ctl;
    struct neap_loop *loop;
    struct neap_session *session;
    struct neap_listener *listener;
    struct neap_watch control; /* fd -1 = no launcher any more */
    struct neap_watch signals;
    struct neap_pace pace;
    char *environ_entry; /* NEAP_SOCKET=..., as targets have it */
    bool started;        /* CMD runs */
    bool aborted;        /* CMD could not be run */
    bool terminate;      /* somebody asked us to end */
    bool dirty;          /* since the last commit */
    bool told_failure;   /* of a commit */
    uint64_t commit_ns;  /* of the last commit */
    bool committed;      /* there was one */
    uint64_t ended_ns;   /* when CMD's end was noticed, 0 = not yet */
    uint64_t quiet_ns;   /* when the last process had ended, 0 = not now */
    uint64_t search_ns;  /* of the last look for unheard processes */
    unsigned silent;     /* forked ones then that have had nothing to say yet */
    struct neap_adapt adapt;
};

/* ---- the launcher ---- */

static void forget_launcher(struct collector *collector)
{
    int null;

    if (collector->control.fd < 0)
        return;
    neap_loop_remove(collector->loop, &collector->control);
    close(collector->control.fd);
    collector->control.fd = -1;
    neap_session_command_orphaned(collector->session);
    if (!collector->started)
        collector->aborted = true;
    /* Whoever reads that pipe must not have to wait for us. */
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDERR_FILENO);
        close(null);
    }
}

static void control_ready(void *context)
{
    struct collector *collector = context;
    struct neap_control_message message;
    struct neap_error *error;

    switch (neap_control_receive(collector->control.fd, false, &message)) {
    case NEAP_CONTROL_NOTHING:
        return;
    case NEAP_CONTROL_CLOSED:
        forget_launcher(collector);
        return;
    case NEAP_CONTROL_GOT:
        break;
    }
    if (message.kind == NEAP_CONTROL_STARTED) {
        collector->started = true;
        error = neap_session_command(collector->session, message.value);
        /* Without a pidfd the launcher's word is all there is. */
        neap_error_destroy(error);
        message.kind = NEAP_CONTROL_READY;
        neap_control_send(collector->control.fd, &message);
    } else if (message.kind == NEAP_CONTROL_ENDED) {
        neap_session_command_status(collector->session, message.value);
    } else if (message.kind == NEAP_CONTROL_ABORT) {
        collector->aborted = true;
    }
}

static void signals_ready(void *context)
{
    struct collector *collector = context;
    struct signalfd_siginfo info;

    while (read(collector->signals.fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        collector->terminate = true;
}

/* CMD's part is written: say so, and let the launcher go. */
static void send_tally(struct collector *collector)
{
    struct neap_control_message message = {.kind = NEAP_CONTROL_TALLY};

    neap_ingest_tally(collector->recording.ingest, &message.tally);
    message.tally.running += collector->silent;
    neap_control_send(collector->control.fd, &message);
    forget_launcher(collector);
}

/* ---- start ---- */

static struct neap_error *watch_others(struct collector *collector)
{
    struct neap_error *error;
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    collector->signals = (struct neap_watch){
        .fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK),
        .ready = signals_ready,
        .context = collector,
    };
    if (collector->signals.fd < 0)
        return neap_error_os(errno, "cannot wait for signals (signalfd)");
    error = neap_loop_add(collector->loop, &collector->signals);
    if (error)
        return error;
    collector->control.ready = control_ready;
    collector->control.context = collector;
    return neap_loop_add(collector->loop, &collector->control);
}

static struct neap_error *start(struct collector *collector)
{
    const struct neap_collect_config *config = collector->config;
    neap_auto_free char *path = NULL;
    struct neap_session_config session;
    struct neap_error *error;

    if (asprintf(&path, "%s/%s", config->directory, NEAP_COLLECT_SOCKET) < 0) {
        path = NULL;
        return NEAP_NO_MEMORY;
    }
    if (asprintf(&collector->environ_entry, "%s=%s", NEAP_ENV_SOCKET, path) < 0) {
        collector->environ_entry = NULL;
        return NEAP_NO_MEMORY;
    }
    error = neap_recording_init(&collector->recording, config, path);
    if (!error)
        error = neap_ctl_create(&collector->ctl);
    if (!error)
        neap_ctl_mode(collector->ctl, neap_settings_mode(&config->settings),
                      config->settings.interval);
    if (!error)
        error = neap_loop_create(&collector->loop);
    if (!error)
        error = neap_loop_bell_start(collector->loop, &collector->ctl->header->bell);
    if (error)
        return error;
    session = (struct neap_session_config){
        .ingest = collector->recording.ingest,
        .loop = collector->loop,
        .ctl = collector->ctl,
        .settings = config->settings,
        .follow = config->follow,
    };
    error = neap_session_create(&session, &collector->session);
    if (!error)
        error = watch_others(collector);
    if (!error)
        error = neap_listener_create(path, collector->loop, collector->session,
                                     &collector->listener);
    return error;
}

/* ---- turns ---- */

static void tick(void *context)
{
    neap_ctl_tick(context);
}

static void commit(struct collector *collector)
{
    struct neap_error *error;

    neap_session_counters(collector->session);
    neap_loop_busy(collector->loop, tick, collector->ctl);
    error =
        neap_ingest_commit(collector->recording.ingest, neap_ctl_tick(collector->ctl));
    /* Names that are still to come want a commit of their own. */
    collector->dirty =
        error != NULL || neap_ingest_unnamed(collector->recording.ingest);
    if (error && !collector->told_failure) {
        collector->told_failure = true;
        neap_log("cannot write to %s now: %s; the program goes on, and so do the tries",
                 collector->config->output, error->message);
    } else if (!error) {
        collector->told_failure = false;
    }
    neap_loop_busy(collector->loop, NULL, NULL);
    neap_error_destroy(error);
    collector->committed = true;
    collector->commit_ns = neap_ctl_tick(collector->ctl);
}

static bool knows(void *context, pid_t pid)
{
    struct collector *collector = context;

    return pid == getpid() || neap_session_knows(collector->session, pid);
}

/*
 * Whether a process of CMD's may still say HELLO. One that was started with our socket
 * and has not done so by the end of the wait is a process that nobody records: counted,
 * not forgotten. A forked one that has our page mapped (ring.h) will say it with the
 * first call that is to be recorded, however late that is: a daemon that sleeps, or one
 * that is dormant. It is waited for as long as it lives.
 */
static bool is_expecting(struct collector *collector, uint64_t now_ns)
{
    bool patient = now_ns - collector->quiet_ns <= GRACE_NS;
    unsigned unheard;

    if (neap_listener_pending(collector->listener))
        return true;
    if (!collector->config->follow)
        return false;
    if (collector->search_ns &&
        now_ns - collector->search_ns < (patient ? SEARCH_NS : SEARCH_LATE_NS))
        return true;
    collector->search_ns = now_ns;
    collector->silent = neap_procfs_count_mapping(collector->ctl->fd, knows, collector);
    unheard = neap_procfs_count_environ(collector->environ_entry, knows, collector);
    if (collector->silent || (unheard && patient))
        return true;
    while (unheard--)
        neap_session_lost_process(collector->session);
    return false;
}

/* True when there is nothing left to record. */
static bool is_over(struct collector *collector, uint64_t now_ns)
{
    if (collector->aborted || collector->terminate)
        return true;
    if (!neap_session_command_ended(collector->session))
        return false;
    if (!collector->ended_ns) {
        collector->ended_ns = now_ns;
        /* Asks for the names of CMD's frames: they are there when it is told of. */
        if (neap_session_alive(collector->session))
            commit(collector);
    }
    if (neap_session_alive(collector->session) == 0) {
        collector->quiet_ns = collector->quiet_ns ? collector->quiet_ns : now_ns;
        if (!is_expecting(collector, now_ns))
            return true;
    } else {
        collector->quiet_ns = collector->search_ns = 0;
        collector->silent = 0;
    }
    if (collector->control.fd >= 0 && now_ns - collector->ended_ns > GRACE_NS) {
        commit(collector);
        send_tally(collector);
    }
    return false;
}

/*
 * Sleep for as long as the pace says. Longer than a tick only after targets have been
 * told to ring, and after a last look: what they published before they could see that
 * is found by the look, and whoever publishes later rings.
 */
static void sleep_a_while(struct collector *collector, enum neap_activity activity)
{
    _Atomic uint32_t *asleep = &collector->ctl->header->asleep;
    uint64_t delay = neap_pace_next(&collector->pace, activity);

    if (delay > NEAP_PACE_TICK_NS) {
        /* Sequentially consistent; pairs with the target's publish, fence and load. */
        atomic_store(asleep, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (neap_session_waiting(collector->session)) {
            collector->pace.delay_ns = 0;
            delay = NEAP_PACE_TICK_NS;
        }
    }
    if (neap_loop_wait(collector->loop, delay))
        collector->pace.delay_ns = 0;
    atomic_store_explicit(asleep, 0, memory_order_relaxed);
}

static void turn_until_over(struct collector *collector)
{
    for (;;) {
        uint64_t now_ns = neap_ctl_tick(collector->ctl);
        enum neap_activity activity = neap_session_drain(collector->session, now_ns);

        collector->dirty |= activity != NEAP_ACTIVITY_NONE;
        collector->dirty |= neap_session_changed(collector->session);
        if (collector->dirty && now_ns - collector->commit_ns >
                                    (collector->committed ? COMMIT_NS : FIRST_NS))
            commit(collector);
        neap_listener_expire(collector->listener, now_ns);
        if (collector->config->settings.policy == NEAP_POLICY_ADAPT)
            neap_adapt(&collector->adapt, collector->ctl,
                       neap_ingest_samples(collector->recording.ingest), now_ns,
                       activity);
        if (is_over(collector, now_ns))
            return;
        sleep_a_while(collector, activity);
    }
}

/* ---- end ---- */

/* Everything is closed and written before the launcher hears of it. */
static void finish(struct collector *collector)
{
    bool whole = !collector->terminate;
    struct neap_control_message message = {.kind = NEAP_CONTROL_TALLY};
    struct neap_error *error;

    /* From here on nobody is answered: let nobody wait for it, or record for nobody. */
    atomic_store(&collector->ctl->header->closed, 1);
    neap_ctl_mode(collector->ctl, NEAP_MODE_OFF, neap_ctl_interval(collector->ctl));
    neap_listener_destroy(collector->listener);
    collector->listener = NULL;
    neap_session_stop(collector->session);
    error = neap_ingest_finish(collector->recording.ingest,
                               neap_ctl_tick(collector->ctl), whole);
    if (error)
        snprintf(message.text, sizeof(message.text), "%s", error->message);
    else if (collector->terminate)
        snprintf(message.text, sizeof(message.text),
                 "the collector was told to end (SIGTERM)");
    neap_error_destroy(error);
    neap_ingest_tally(collector->recording.ingest, &message.tally);
    message.tally.running = 0; /* whoever runs on is not recorded */
    neap_recording_deinit(&collector->recording);
    if (collector->control.fd >= 0)
        neap_control_send(collector->control.fd, &message);
}

static void deinit(struct collector *collector)
{
    neap_listener_destroy(collector->listener);
    neap_session_destroy(collector->session);
    neap_loop_destroy(collector->loop);
    neap_ctl_destroy(collector->ctl);
    neap_recording_deinit(&collector->recording);
    if (collector->signals.fd >= 0)
        close(collector->signals.fd);
    free(collector->environ_entry);
}

/* What was right for the person's shell is not for us. */
static void prepare_process(void)
{
    static const int ignored[] = {SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ, SIGTSTP};
    static const int raised[] = {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_CPU};

    for (size_t i = 0; i < NEAP_ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(raised); i++) {
        struct rlimit limit;

        if (getrlimit(raised[i], &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit(raised[i], &limit);
        }
    }
    prctl(PR_SET_NAME, "neapd");
}

int neap_collect_run(const struct neap_collect_config *config)
{
    struct collector collector = {
        .config = config,
        .control = {.fd = NEAP_COLLECT_CONTROL_FD},
        .signals = {.fd = -1},
    };
    struct neap_control_message ready = {.kind = NEAP_CONTROL_READY};
    struct neap_error *error;

    prepare_process();
    fcntl(NEAP_COLLECT_CONTROL_FD, F_SETFD, FD_CLOEXEC);
    error = start(&collector);
    if (error) {
        ready.kind = NEAP_CONTROL_ERROR;
        snprintf(ready.text, sizeof(ready.text), "%s", error->message);
        /* Only what we made ourselves is ours to remove. */
        if (collector.recording.db)
            collector.aborted = true;
        neap_error_destroy(error);
    } else {
        neap_control_send(collector.control.fd, &ready);
        turn_until_over(&collector);
        if (!collector.aborted)
            finish(&collector);
    }
    deinit(&collector);
    if (collector.aborted)
        neap_recording_remove(config->output);
    neap_paths_remove_directory(config->directory);
    if (ready.kind == NEAP_CONTROL_ERROR)
        neap_control_send(NEAP_COLLECT_CONTROL_FD, &ready);
    return ready.kind == NEAP_CONTROL_ERROR;
}
