/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a recording.
 *
 * The end of a process, in this order, whatever ended it: its pidfd says so (or its
 * next HELLO), its lanes are read to the end, the losses are reported, the ingest is
 * told, its slot is given back. Nothing is freed while a pass runs over the list: a
 * pidfd only marks, the next pass settles.
 *
 * CMD's own status may come later than its end, from the launcher that waits for it;
 * it is waited for, but not for long.
 */
#include "daemon/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/source/procfs.h"
#include "daemon/source/ring_source.h"
#include "schema/base/cleanup.h"
#include "schema/base/vec.h"

#define STATUS_PATIENCE_NS 1000000000ull

struct process {
    struct neap_session *session;
    struct neap_ingest_process *ingest;
    struct neap_ring_source *source;
    struct neap_watch watch; /* its pidfd */
    pid_t pid;
    uint32_t slot;
    bool gone;        /* the pidfd said so */
    uint64_t gone_ns; /* when that was noticed; 0 = not yet */
    bool said_exit;   /* it told its own status, for want of a better source */
    int32_t exit_code;
};

struct neap_session {
    struct neap_session_config config;
    struct neap_ring_scratch *scratch;
    NEAP_VEC(struct process *) processes;
    struct neap_watch command; /* CMD's pidfd; fd -1 = unknown or ended */
    pid_t command_pid;
    bool command_ended;
    bool command_seen; /* has said HELLO */
    bool has_status;
    bool orphaned;
    int status;
    bool changed;
};

struct neap_error *neap_session_create(const struct neap_session_config *config,
                                       struct neap_session **ret)
{
    neap_auto_free struct neap_session *session = calloc(1, sizeof(*session));
    struct neap_error *error;

    if (!session)
        return NEAP_NO_MEMORY;
    session->config = *config;
    session->command.fd = -1;
    error = neap_ring_scratch_create(&session->scratch);
    if (error)
        return error;
    *ret = neap_take(session);
    return NULL;
}

static void forget_command(struct neap_session *session)
{
    if (session->command.fd < 0)
        return;
    neap_loop_remove(session->config.loop, &session->command);
    close(session->command.fd);
    session->command.fd = -1;
}

/* Let go of everything but the ingest's part. */
static void process_destroy(struct process *process)
{
    struct neap_session *session = process->session;

    if (!process->gone)
        neap_loop_remove(session->config.loop, &process->watch);
    close(process->watch.fd);
    neap_ctl_give(session->config.ctl, process->slot,
                  neap_ring_source_lanes(process->source));
    neap_ring_source_destroy(process->source);
    free(process);
}

void neap_session_destroy(struct neap_session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < session->processes.count; i++)
        process_destroy(session->processes.data[i]);
    neap_vec_deinit(&session->processes);
    forget_command(session);
    neap_ring_scratch_destroy(session->scratch);
    free(session);
}

/* ---- CMD ---- */

static void command_gone(void *context)
{
    struct neap_session *session = context;

    session->command_ended = true;
    forget_command(session);
}

struct neap_error *neap_session_command(struct neap_session *session, pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0)
        return neap_error_os(errno, "cannot watch process %d (pidfd_open)", (int)pid);
    session->command_pid = pid;
    session->command = (struct neap_watch){
        .fd = fd,
        .ready = command_gone,
        .context = session,
    };
    return neap_loop_add(session->config.loop, &session->command);
}

void neap_session_command_status(struct neap_session *session, int status)
{
    session->has_status = true;
    session->status = status;
    session->command_ended = true;
    forget_command(session);
}

void neap_session_command_orphaned(struct neap_session *session)
{
    session->orphaned = true;
}

bool neap_session_command_ended(const struct neap_session *session)
{
    return session->command_ended;
}

/* ---- ends ---- */

static void process_gone(void *context)
{
    struct process *process = context;

    process->gone = true;
    neap_loop_remove(process->session->config.loop, &process->watch);
}

static struct neap_process_end end_of_status(int status)
{
    struct neap_process_end end = {.has_code = true};

    if (WIFSIGNALED(status)) {
        end.kind = NEAP_EXIT_SIGNALED;
        end.code = WTERMSIG(status);
    } else {
        end.kind = NEAP_EXIT_EXITED;
        end.code = WEXITSTATUS(status);
    }
    return end;
}

static void report_counters(struct process *process)
{
    struct neap_ring_counters ring;
    struct neap_process_counters counters;

    neap_ring_source_counters(process->source, &ring);
    counters = (struct neap_process_counters){
        .truncated_stacks = ring.stacks_truncated,
        .verified = ring.verified,
        .verify_differences = ring.verify_differences,
        .waits = ring.waits,
    };
    neap_ingest_counters(process->ingest, &counters);
}

/* Read the rest and end process number `index`. `end->end_ns` is filled in here. */
static void process_end(struct neap_session *session, size_t index,
                        struct neap_process_end *end)
{
    struct process *process = session->processes.data[index];

    end->end_ns = neap_ctl_tick(session->config.ctl);
    /* Twice: a pass that found no memory for all lanes leaves some for the next. */
    for (unsigned i = 0; i < NEAP_LANES_MAX; i++) {
        if (neap_ring_source_drain(process->source, session->scratch, end->end_ns,
                                   NEAP_DRAIN_FINAL) == NEAP_ACTIVITY_NONE)
            break;
    }
    if (end->kind == NEAP_EXIT_LOST && process->said_exit) {
        end->kind = NEAP_EXIT_EXITED;
        end->has_code = true;
        end->code = process->exit_code;
    }
    report_counters(process);
    neap_ingest_end(process->ingest, end);
    session->processes.data[index] =
        session->processes.data[--session->processes.count];
    session->changed = true;
    process_destroy(process);
}

/* How the process ended; false: it may yet be told. */
static bool find_end(struct neap_session *session, const struct process *process,
                     uint64_t now_ns, struct neap_process_end *ret)
{
    bool is_command = process->pid == session->command_pid;
    int status;

    if (is_command && session->has_status)
        *ret = end_of_status(session->status);
    else if (neap_procfs_wait_status(process->pid, process->watch.fd, &status))
        *ret = end_of_status(status);
    else if (is_command && !session->orphaned &&
             now_ns - process->gone_ns < STATUS_PATIENCE_NS)
        return false;
    else
        *ret = (struct neap_process_end){.kind = NEAP_EXIT_LOST};
    return true;
}

static void settle(struct neap_session *session, uint64_t now_ns)
{
    size_t index = 0;

    while (index < session->processes.count) {
        struct process *process = session->processes.data[index];
        struct neap_process_end end;

        if (process->gone && !process->gone_ns)
            process->gone_ns = now_ns;
        if (process->gone && find_end(session, process, now_ns, &end))
            process_end(session, index, &end);
        else
            index++;
    }
}

void neap_session_stop(struct neap_session *session)
{
    uint64_t now_ns = neap_ctl_tick(session->config.ctl);

    neap_session_command_orphaned(session);
    settle(session, now_ns);
    while (session->processes.count) {
        struct neap_process_end end = {.kind = NEAP_EXIT_RUNNING};

        process_end(session, 0, &end);
    }
}

/* ---- HELLO ---- */

static void sink_event(void *context, uint32_t lane, const struct neap_event *event)
{
    struct process *process = context;

    if (event->kind == NEAP_EV_EXIT) {
        process->said_exit = true;
        process->exit_code = (int32_t)event->exit->code & 0xff;
    }
    neap_ingest_event(process->ingest, lane, event);
}

static void sink_loss(void *context, const char *what, uint64_t count, uint64_t bytes)
{
    const struct process *process = context;

    neap_ingest_loss(process->session->config.ingest, process->ingest, what, count,
                     bytes);
}

static bool is_readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    return poll(&pollfd, 1, 0) == 1;
}

/* An image of this pid that we still have is over: replaced, or long gone. */
static void end_former(struct neap_session *session, pid_t pid)
{
    for (size_t i = 0; i < session->processes.count; i++) {
        struct process *process = session->processes.data[i];
        struct neap_process_end end = {.kind = NEAP_EXIT_EXEC};

        if (process->pid != pid)
            continue;
        if (process->gone || is_readable(process->watch.fd)) {
            /* The number went round: this is somebody else. */
            if (!process->gone)
                process_gone(process);
            process->gone_ns = process->gone_ns ? process->gone_ns : 1;
            if (!find_end(session, process, UINT64_MAX, &end))
                end = (struct neap_process_end){.kind = NEAP_EXIT_LOST};
        }
        process_end(session, i, &end);
        return;
    }
}

static struct neap_error *start_ingest(struct process *process,
                                       const struct neap_hello *hello)
{
    static const char *const unwinders[] = {"none", "cfi", "libunwind"};
    struct neap_session *session = process->session;
    struct neap_procfs_process facts = {0};
    char allocator[sizeof(hello->allocator) + 1] = {0};
    struct neap_process_info info;
    struct neap_error *error = neap_procfs_process_init(process->pid, &facts);

    if (error)
        return error;
    memcpy(allocator, hello->allocator, sizeof(hello->allocator));
    info = (struct neap_process_info){
        .pid = process->pid,
        .ppid = facts.ppid,
        .exe = facts.exe,
        .command = facts.command,
        .allocator = allocator,
        .unwinder = hello->unwinder < NEAP_ARRAY_LEN(unwinders)
                        ? unwinders[hello->unwinder]
                        : "none",
        .start_ns = neap_ctl_tick(session->config.ctl),
        .main = process->pid == session->command_pid && !session->command_seen,
    };
    error = neap_ingest_start(session->config.ingest, &info, &process->ingest);
    neap_procfs_process_deinit(&facts);
    return error;
}

/* The parts of a process; what was made is undone by the caller on error. */
static struct neap_error *process_fill(struct process *process,
                                       const struct neap_hello *hello)
{
    struct neap_session *session = process->session;
    struct neap_sink sink = {
        .event = sink_event, .loss = sink_loss, .context = process};
    struct neap_error *error = neap_ring_source_create(
        neap_ctl_tails(session->config.ctl, process->slot), &sink, &process->source);

    if (error)
        return error;
    error = neap_loop_add(session->config.loop, &process->watch);
    if (error)
        return error;
    error = start_ingest(process, hello);
    if (error)
        neap_loop_remove(session->config.loop, &process->watch);
    return error;
}

/* Takes `*pidfd` over if it succeeds. */
static struct neap_error *process_start(struct neap_session *session, pid_t pid,
                                        int *pidfd, const struct neap_hello *hello,
                                        struct process **ret)
{
    neap_auto_free struct process *process = calloc(1, sizeof(*process));
    struct neap_error *error;

    if (!process || !neap_vec_reserve(&session->processes, 1))
        return NEAP_NO_MEMORY;
    process->session = session;
    process->pid = pid;
    process->watch =
        (struct neap_watch){.fd = *pidfd, .ready = process_gone, .context = process};
    if (!neap_ctl_take(session->config.ctl, &process->slot))
        return neap_error_create(NEAP_ERROR_OS, "too many processes at once");
    error = process_fill(process, hello);
    if (error) {
        neap_ctl_give(session->config.ctl, process->slot, 0);
        neap_ring_source_destroy(process->source);
        return error;
    }
    *pidfd = -1;
    session->processes.data[session->processes.count++] = process;
    session->command_seen |= pid == session->command_pid;
    session->changed = true;
    *ret = neap_take(process);
    return NULL;
}

void neap_session_hello(struct neap_session *session, pid_t pid, int pidfd,
                        const struct neap_hello *hello, struct neap_welcome *ret,
                        int ret_fds[2])
{
    neap_auto_close int own_pidfd = pidfd;
    struct process *process = NULL;
    struct neap_error *error;

    *ret = (struct neap_welcome){
        .magic = NEAP_HELLO_MAGIC,
        .version = NEAP_WIRE_VERSION,
        .status = NEAP_WELCOME_REFUSED,
        .policy = session->config.policy,
    };
    ret_fds[0] = ret_fds[1] = -1;
    if (!session->config.follow && pid != session->command_pid)
        return;
    if (hello->version != NEAP_WIRE_VERSION) {
        ret->status = NEAP_WELCOME_VERSION;
        neap_session_lost_process(session);
        return;
    }
    end_former(session, pid);
    error = process_start(session, pid, &own_pidfd, hello, &process);
    if (error) {
        neap_error_destroy(error); /* counted, and shown beside every total */
        neap_session_lost_process(session);
        return;
    }
    ret->status = NEAP_WELCOME_OK;
    ret->slot = process->slot;
    ret->lanes_filled = neap_ring_source_filled(process->source);
    ret_fds[0] = session->config.ctl->fd;
    ret_fds[1] = neap_ring_source_fd(process->source);
}

void neap_session_lost_process(struct neap_session *session)
{
    neap_ingest_loss(session->config.ingest, NULL, "process", 1, 0);
    session->changed = true;
}

/* ---- passes ---- */

enum neap_activity neap_session_drain(struct neap_session *session, uint64_t now_ns)
{
    enum neap_activity most = NEAP_ACTIVITY_NONE;

    for (size_t i = 0; i < session->processes.count; i++) {
        enum neap_activity activity =
            neap_ring_source_drain(session->processes.data[i]->source, session->scratch,
                                   now_ns, NEAP_DRAIN_PASS);

        most = activity > most ? activity : most;
    }
    settle(session, now_ns);
    return most;
}

bool neap_session_waiting(const struct neap_session *session)
{
    for (size_t i = 0; i < session->processes.count; i++) {
        if (neap_ring_source_waiting(session->processes.data[i]->source))
            return true;
    }
    return false;
}

void neap_session_counters(struct neap_session *session)
{
    for (size_t i = 0; i < session->processes.count; i++)
        report_counters(session->processes.data[i]);
}

size_t neap_session_alive(const struct neap_session *session)
{
    return session->processes.count;
}

bool neap_session_knows(const struct neap_session *session, pid_t pid)
{
    for (size_t i = 0; i < session->processes.count; i++) {
        if (session->processes.data[i]->pid == pid)
            return true;
    }
    return false;
}

bool neap_session_changed(struct neap_session *session)
{
    bool changed = session->changed;

    session->changed = false;
    return changed;
}
