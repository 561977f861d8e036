/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handshakes, each a small state machine: HELLO is awaited, WELCOME sent, then the
 * peer's close is awaited. The last tells whether WELCOME was read: a Unix socket
 * that is closed with something unread in it gives ECONNRESET to the other side. A
 * peer that gave up waiting is thereby counted as lost instead of forgotten.
 *
 * Who the peer is, is for the kernel to say: SO_PEERCRED, and a pidfd that is taken
 * while the peer still holds its end, or by SO_PEERPIDFD where there is such a thing.
 */
#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "schema/base/cleanup.h"
#include "schema/base/vec.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define BACKLOG         4096
#define PEER_TIMEOUT_NS (5ull * NEAP_HELLO_TIMEOUT_MS * 1000000)

struct peer {
    struct neap_listener *listener;
    struct neap_watch watch;
    struct ucred cred;
    bool welcomed;
    uint64_t since_ns; /* 0 = just accepted */
};

struct neap_listener {
    struct neap_loop *loop;
    struct neap_session *session;
    struct neap_watch watch;
    struct sockaddr_un address;
    int spare; /* given up to turn a peer away when there are no descriptors left */
    NEAP_VEC(struct peer *) peers;
};

static void peer_destroy(struct peer *peer)
{
    struct neap_listener *listener = peer->listener;

    for (size_t i = 0; i < listener->peers.count; i++) {
        if (listener->peers.data[i] == peer) {
            listener->peers.data[i] = listener->peers.data[--listener->peers.count];
            break;
        }
    }
    neap_loop_remove(listener->loop, &peer->watch);
    close(peer->watch.fd);
    free(peer);
}

/* A pidfd of the process at the other end, -1 if it is gone. */
static int peer_pidfd(const struct peer *peer)
{
    struct pollfd pollfd = {.fd = peer->watch.fd, .events = 0};
    int fd = -1;
    socklen_t length = sizeof(fd);

    if (getsockopt(peer->watch.fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0)
        return fd;
    fd = (int)syscall(SYS_pidfd_open, peer->cred.pid, 0);
    /* Still there after the opening: the number cannot have gone to another. */
    if (fd >= 0 && poll(&pollfd, 1, 0) > 0 && (pollfd.revents & POLLHUP)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool send_welcome(int fd, const struct neap_welcome *welcome, const int fds[2])
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)welcome, .iov_len = sizeof(*welcome)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fds[0] >= 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, 2 * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) ==
           (ssize_t)sizeof(*welcome);
}

/* False: this peer is done with. */
static bool peer_hello(struct peer *peer, const struct neap_hello *hello)
{
    struct neap_session *session = peer->listener->session;
    struct neap_welcome welcome;
    int fds[2];
    int pidfd;

    if (hello->magic != NEAP_HELLO_MAGIC || hello->origin < NEAP_ORIGIN_EXEC ||
        hello->origin > NEAP_ORIGIN_FORK)
        return false;
    if (peer->cred.uid != geteuid()) { /* root may switch, no more */
        neap_session_lost_process(session);
        return false;
    }
    pidfd = peer_pidfd(peer);
    if (pidfd < 0) {
        neap_session_lost_process(session);
        return false;
    }
    neap_session_hello(session, peer->cred.pid, pidfd, hello, &welcome, fds);
    if (!send_welcome(peer->watch.fd, &welcome, fds)) {
        if (welcome.status == NEAP_WELCOME_OK)
            neap_session_lost_process(session);
        return false;
    }
    peer->welcomed = true;
    return welcome.status == NEAP_WELCOME_OK;
}

/* A person's wish to switch the recording on or off. */
static void peer_switch(const struct peer *peer, const struct neap_switch *wish)
{
    struct neap_switched answer;

    neap_session_switch(peer->listener->session, wish, &answer);
    /* Whoever does not read it asks again. */
    (void)!send(peer->watch.fd, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The first packet. False: this peer is done with. */
static bool peer_first(struct peer *peer)
{
    union {
        struct neap_hello hello;
        struct neap_switch wish;
    } packet;
    /* MSG_TRUNC: the real length, so that a longer packet is not taken for ours. */
    ssize_t got =
        recv(peer->watch.fd, &packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got == (ssize_t)sizeof(packet.wish) && packet.wish.magic == NEAP_SWITCH_MAGIC) {
        peer_switch(peer, &packet.wish);
        return false;
    }
    if (got != (ssize_t)sizeof(packet.hello))
        return false;
    return peer_hello(peer, &packet.hello);
}

/*
 * After WELCOME: an end of file is thanks, a reset means that it was not read, a
 * packet that it was of no use.
 */
static bool peer_bye(struct peer *peer)
{
    char byte;
    ssize_t got = recv(peer->watch.fd, &byte, 1, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got > 0 || (got < 0 && errno == ECONNRESET))
        neap_session_lost_process(peer->listener->session);
    return false;
}

static void peer_ready(void *context)
{
    struct peer *peer = context;

    if (!(peer->welcomed ? peer_bye(peer) : peer_first(peer)))
        peer_destroy(peer);
}

/* Takes the descriptor over. */
static void peer_create(struct neap_listener *listener, int fd)
{
    neap_auto_close int own_fd = fd;
    neap_auto_free struct peer *peer = calloc(1, sizeof(*peer));
    socklen_t length = sizeof(peer->cred);
    struct neap_error *error;

    if (!peer || !neap_vec_reserve(&listener->peers, 1) ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer->cred, &length) ||
        peer->cred.pid <= 0 || (peer->cred.uid != geteuid() && peer->cred.uid != 0)) {
        neap_session_lost_process(listener->session);
        return;
    }
    peer->listener = listener;
    peer->watch = (struct neap_watch){.fd = fd, .ready = peer_ready, .context = peer};
    error = neap_loop_add(listener->loop, &peer->watch);
    if (error) {
        neap_error_destroy(error);
        neap_session_lost_process(listener->session);
        return;
    }
    own_fd = -1;
    listener->peers.data[listener->peers.count++] = neap_take(peer);
}

/* No descriptor for the next peer: it is let in for as long as it takes to go. */
static void turn_away(struct neap_listener *listener)
{
    int fd;

    close(listener->spare);
    fd = accept4(listener->watch.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        neap_session_lost_process(listener->session);
    }
    listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void listener_ready(void *context)
{
    struct neap_listener *listener = context;

    for (;;) {
        int fd = accept4(listener->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            peer_create(listener, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE)
            turn_away(listener);
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

struct neap_error *neap_listener_create(const char *path, struct neap_loop *loop,
                                        struct neap_session *session,
                                        struct neap_listener **ret)
{
    neap_auto_free struct neap_listener *listener = calloc(1, sizeof(*listener));
    neap_auto_close int fd =
        socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct neap_error *error;

    if (!listener)
        return NEAP_NO_MEMORY;
    if (fd < 0)
        return neap_error_os(errno, "cannot make a socket");
    if (strlen(path) >= sizeof(listener->address.sun_path))
        return neap_error_create(NEAP_ERROR_OS,
                                 "the path of the socket is too long: %s", path);
    listener->address.sun_family = AF_UNIX;
    memcpy(listener->address.sun_path, path, strlen(path) + 1);
    if (bind(fd, (const struct sockaddr *)&listener->address,
             sizeof(listener->address)) ||
        listen(fd, BACKLOG))
        return neap_error_os(errno, "cannot listen at %s", path);
    listener->loop = loop;
    listener->session = session;
    listener->watch =
        (struct neap_watch){.fd = fd, .ready = listener_ready, .context = listener};
    error = neap_loop_add(loop, &listener->watch);
    if (error)
        return error;
    listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fd = -1;
    *ret = neap_take(listener);
    return NULL;
}

void neap_listener_destroy(struct neap_listener *listener)
{
    if (!listener)
        return;
    while (listener->peers.count)
        peer_destroy(listener->peers.data[0]);
    neap_vec_deinit(&listener->peers);
    neap_loop_remove(listener->loop, &listener->watch);
    close(listener->watch.fd);
    if (listener->spare >= 0)
        close(listener->spare);
    unlink(listener->address.sun_path);
    free(listener);
}

void neap_listener_expire(struct neap_listener *listener, uint64_t now_ns)
{
    size_t index = 0;

    while (index < listener->peers.count) {
        struct peer *peer = listener->peers.data[index];

        if (!peer->since_ns)
            peer->since_ns = now_ns;
        if (now_ns - peer->since_ns > PEER_TIMEOUT_NS)
            peer_destroy(peer);
        else
            index++;
    }
}

size_t neap_listener_pending(const struct neap_listener *listener)
{
    return listener->peers.count;
}
