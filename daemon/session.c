/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a recording: who is welcome, who has ended, and how.
 *
 * Nothing is freed while a pass runs over the list: a pidfd only marks its target,
 * the end of the next pass settles it.
 *
 * CMD's own status may come later than its end, from the launcher that waits for it;
 * it is waited for, but not for long.
 */
#include "daemon/session.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/source/procfs.h"
#include "daemon/target.h"
#include "schema/base/cleanup.h"
#include "schema/base/vec.h"

#define STATUS_PATIENCE_NS 1000000000ull

struct neap_session {
    struct neap_session_config config;
    struct neap_target_context shared;
    struct neap_ring_scratch *scratch;
    NEAP_VEC(struct neap_target *) targets;
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
    session->shared = (struct neap_target_context){
        .ingest = config->ingest,
        .loop = config->loop,
        .ctl = config->ctl,
        .sampled = config->settings.interval > 0,
    };
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

void neap_session_destroy(struct neap_session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < session->targets.count; i++)
        neap_target_destroy(session->targets.data[i]);
    neap_vec_deinit(&session->targets);
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

/* How the process ended; false: it may yet be told. */
static bool find_end(struct neap_session *session, const struct neap_target *target,
                     uint64_t now_ns, struct neap_process_end *ret)
{
    bool is_command = target->pid == session->command_pid;
    int status;

    if (is_command && session->has_status)
        *ret = end_of_status(session->status);
    else if (neap_procfs_wait_status(target->pid, target->watch.fd, &status))
        *ret = end_of_status(status);
    else if (is_command && !session->orphaned &&
             now_ns - target->gone_ns < STATUS_PATIENCE_NS)
        return false;
    else
        *ret = (struct neap_process_end){.kind = NEAP_EXIT_LOST};
    return true;
}

/* End target number `index`, and fill its place with the last one. */
static void end_target(struct neap_session *session, size_t index,
                       const struct neap_process_end *end)
{
    struct neap_target *target = session->targets.data[index];

    neap_target_end(target, session->scratch, end);
    session->targets.data[index] = session->targets.data[--session->targets.count];
    session->changed = true;
    neap_target_destroy(target);
}

static void settle(struct neap_session *session, uint64_t now_ns)
{
    size_t index = 0;

    while (index < session->targets.count) {
        struct neap_target *target = session->targets.data[index];
        struct neap_process_end end;

        if (target->gone && !target->gone_ns)
            target->gone_ns = now_ns;
        if (target->gone && find_end(session, target, now_ns, &end))
            end_target(session, index, &end);
        else
            index++;
    }
}

void neap_session_stop(struct neap_session *session)
{
    uint64_t now_ns = neap_ctl_tick(session->config.ctl);

    neap_session_command_orphaned(session);
    settle(session, now_ns);
    while (session->targets.count) {
        struct neap_process_end end = {.kind = NEAP_EXIT_RUNNING};

        end_target(session, 0, &end);
    }
}

/* ---- HELLO ---- */

/* An image of this pid that we still have is over: replaced, or long gone. */
static void end_former(struct neap_session *session, pid_t pid)
{
    for (size_t i = 0; i < session->targets.count; i++) {
        struct neap_target *target = session->targets.data[i];
        struct neap_process_end end = {.kind = NEAP_EXIT_EXEC};

        if (target->pid != pid)
            continue;
        /* If it has ended the number went round: this is somebody else. */
        if (neap_target_poll(target) && !find_end(session, target, UINT64_MAX, &end))
            end = (struct neap_process_end){.kind = NEAP_EXIT_LOST};
        end_target(session, i, &end);
        return;
    }
}

/* Takes `*pidfd` over if it succeeds. */
static struct neap_error *start_target(struct neap_session *session, pid_t pid,
                                       int *pidfd, const struct neap_hello *hello,
                                       struct neap_target **ret)
{
    bool is_command = pid == session->command_pid;
    struct neap_error *error;

    if (!neap_vec_reserve(&session->targets, 1))
        return NEAP_NO_MEMORY;
    error = neap_target_create(&session->shared, pid, pidfd,
                               is_command && !session->command_seen, hello, ret);
    if (error)
        return error;
    session->targets.data[session->targets.count++] = *ret;
    session->command_seen |= is_command;
    session->changed = true;
    return NULL;
}

void neap_session_hello(struct neap_session *session, pid_t pid, int pidfd,
                        const struct neap_hello *hello, struct neap_welcome *ret,
                        int ret_fds[2])
{
    neap_auto_close int own_pidfd = pidfd;
    struct neap_target *target = NULL;
    struct neap_error *error;

    *ret = (struct neap_welcome){
        .magic = NEAP_HELLO_MAGIC,
        .version = NEAP_WIRE_VERSION,
        .status = NEAP_WELCOME_REFUSED,
        .policy = session->config.settings.policy,
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
    error = start_target(session, pid, &own_pidfd, hello, &target);
    if (error) {
        neap_error_destroy(error); /* counted, and shown beside every total */
        neap_session_lost_process(session);
        return;
    }
    ret->status = NEAP_WELCOME_OK;
    ret->slot = target->slot;
    ret->lanes_filled = neap_ring_source_filled(target->source);
    ret_fds[0] = session->config.ctl->fd;
    ret_fds[1] = neap_ring_source_fd(target->source);
}

static void set_mode(struct neap_session *session, enum neap_mode mode)
{
    struct neap_ctl *ctl = session->config.ctl;
    bool changes =
        atomic_load_explicit(&ctl->header->mode, memory_order_relaxed) != mode;

    neap_ctl_mode(ctl, mode, neap_ctl_interval(ctl));
    if (!changes)
        return;
    neap_ingest_switched(session->config.ingest, neap_ctl_tick(ctl),
                         neap_mode_name(mode));
    session->changed = true;
}

void neap_session_switch(struct neap_session *session, const struct neap_switch *wish,
                         struct neap_switched *ret)
{
    struct neap_ctl *ctl = session->config.ctl;
    uint64_t interval = neap_ctl_interval(ctl);

    if (wish->wish == NEAP_SWITCH_ON)
        set_mode(session, interval ? NEAP_MODE_SAMPLED : NEAP_MODE_EXACT);
    else if (wish->wish == NEAP_SWITCH_OFF)
        set_mode(session, NEAP_MODE_OFF);
    *ret = (struct neap_switched){
        .magic = NEAP_SWITCH_MAGIC,
        .version = NEAP_WIRE_VERSION,
        .mode = atomic_load_explicit(&ctl->header->mode, memory_order_relaxed),
        .processes = (uint32_t)session->targets.count,
        .interval = interval,
    };
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

    for (size_t i = 0; i < session->targets.count; i++) {
        enum neap_activity activity =
            neap_ring_source_drain(session->targets.data[i]->source, session->scratch,
                                   now_ns, NEAP_DRAIN_PASS);

        most = activity > most ? activity : most;
    }
    settle(session, now_ns);
    return most;
}

bool neap_session_waiting(const struct neap_session *session)
{
    for (size_t i = 0; i < session->targets.count; i++) {
        if (neap_ring_source_waiting(session->targets.data[i]->source))
            return true;
    }
    return false;
}

void neap_session_counters(struct neap_session *session)
{
    for (size_t i = 0; i < session->targets.count; i++)
        neap_target_counters(session->targets.data[i]);
}

size_t neap_session_alive(const struct neap_session *session)
{
    return session->targets.count;
}

bool neap_session_knows(const struct neap_session *session, pid_t pid)
{
    for (size_t i = 0; i < session->targets.count; i++) {
        if (session->targets.data[i]->pid == pid)
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
