/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "libhook/sys.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define GROUP_0_BYTES NEAP_LANE_OFFSET(NEAP_LANE_GROUP)

static void close_fd(int fd)
{
    if (fd >= 0)
        NEAP_SYS1(SYS_close, fd);
}

/* Wait until the socket can do `events`, as long as the handshake may take. */
static bool wait_for(int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    struct timespec limit = {.tv_sec = NEAP_HELLO_TIMEOUT_MS / 1000,
                             .tv_nsec = NEAP_HELLO_TIMEOUT_MS % 1000 * 1000000L};

    for (;;) {
        /* The kernel writes the time that is left into `limit`. */
        long ready = NEAP_SYS(SYS_ppoll, &pollfd, 1, &limit, NULL, 0, 0);

        if (ready > 0)
            return (pollfd.revents & events) != 0;
        if (ready != -EINTR)
            return false;
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    long fd, result;

    if (length >= sizeof(address.sun_path))
        return -1;
    memcpy(address.sun_path, path, length);
    fd = NEAP_SYS3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                   0);
    if (neap_sys_failed(fd))
        return -1;
    /* EAGAIN: the backlog is full, because the collector is busy or stopped. */
    for (int tries = 0;; tries++) {
        result = NEAP_SYS3(SYS_connect, fd, &address, sizeof(address));
        if (result != -EAGAIN || tries == NEAP_HELLO_TIMEOUT_MS / 10)
            break;
        neap_sys_sleep_ns(10 * 1000000L);
    }
    if (neap_sys_failed(result)) {
        close_fd((int)fd);
        return -1;
    }
    return (int)fd;
}

/* Receive WELCOME and the descriptors of ctl and data. */
static bool receive(int fd, struct neap_welcome *ret, int ret_fds[2])
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = ret, .iov_len = sizeof(*ret)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    long length;

    if (!wait_for(fd, POLLIN))
        return false;
    length = NEAP_SYS3(SYS_recvmsg, fd, &message, MSG_CMSG_CLOEXEC);
    /* A program at its limit of descriptors may get only the first: to be closed. */
    if (message.msg_controllen >= CMSG_LEN(sizeof(int)) &&
        control.header.cmsg_type == SCM_RIGHTS &&
        control.header.cmsg_level == SOL_SOCKET &&
        control.header.cmsg_len >= CMSG_LEN(sizeof(int)) &&
        control.header.cmsg_len <= CMSG_LEN(2 * sizeof(int)))
        memcpy(ret_fds, CMSG_DATA(&control.header),
               control.header.cmsg_len - CMSG_LEN(0));
    return length == sizeof(*ret) && ret->magic == NEAP_HELLO_MAGIC &&
           ret->version == NEAP_WIRE_VERSION && ret->status == NEAP_WELCOME_OK &&
           ret->slot < NEAP_CTL_SLOTS_MAX && ret_fds[0] >= 0 && ret_fds[1] >= 0;
}

/* A mapping that must not shrink under us (SIGBUS), in `place`'s stead if given. */
static void *map_shared(int fd, void *place, uint64_t offset, uint64_t bytes,
                        uint64_t file_bytes, int prot)
{
    struct stat st;
    long seals = NEAP_SYS2(SYS_fcntl, fd, F_GET_SEALS), address;

    if (neap_sys_failed(seals) || (seals & F_SEAL_SHRINK) == 0 ||
        neap_sys_failed(NEAP_SYS2(SYS_fstat, fd, &st)) ||
        (uint64_t)st.st_size < file_bytes)
        return NULL;
    address = NEAP_SYS(SYS_mmap, place, bytes, prot,
                       MAP_SHARED | (place ? MAP_FIXED : 0), fd, offset);
    return neap_sys_failed(address) ? NULL : (void *)address;
}

/* ... and that does not reach a forked child. */
static void *map_own(int fd, uint64_t offset, uint64_t bytes, uint64_t file_bytes,
                     int prot)
{
    void *address = map_shared(fd, NULL, offset, bytes, file_bytes, prot);

    if (address)
        NEAP_SYS3(SYS_madvise, address, bytes, MADV_DONTFORK);
    return address;
}

/*
 * ctl's first page is the recording's, not the process's, and the gate of a forked
 * child looks at it before anything else: it stays. When the child connects it maps the
 * page in the same place, at one stroke, as another of its threads may look at it.
 */
static void *ctl_page;

static bool map_all(const struct neap_welcome *welcome, const int fds[2],
                    struct neap_process *process)
{
    uint8_t *ctl =
        map_shared(fds[0], ctl_page, 0, NEAP_PAGE, NEAP_CTL_BYTES, PROT_READ);
    uint8_t *tails = map_own(fds[0], NEAP_CTL_SLOT_OFFSET(welcome->slot),
                             NEAP_CTL_SLOT_BYTES, NEAP_CTL_BYTES, PROT_READ);
    uint8_t *data =
        map_own(fds[1], 0, GROUP_0_BYTES, NEAP_DATA_BYTES, PROT_READ | PROT_WRITE);

    if (ctl)
        ctl_page = ctl;
    process->ctl = (const struct neap_ctl_header *)(void *)ctl;
    process->tails = (const _Atomic uint64_t *)(void *)tails;
    process->data = (struct neap_data_header *)(void *)data;
    process->policy = welcome->policy;
    if (!ctl || !tails || !data || process->ctl->magic != NEAP_CTL_MAGIC ||
        process->data->magic != NEAP_DATA_MAGIC) {
        if (tails)
            NEAP_SYS2(SYS_munmap, tails, NEAP_CTL_SLOT_BYTES);
        if (data)
            NEAP_SYS2(SYS_munmap, data, GROUP_0_BYTES);
        return false;
    }
    /* Where samples may be asked for; otherwise, or if there is no room for it now, it
     * is mapped when it is needed. */
    if (atomic_load_explicit(&process->ctl->interval, memory_order_relaxed) != 0)
        atomic_store_explicit(&process->table,
                              map_own(fds[1], NEAP_TABLE_OFFSET, NEAP_TABLE_BYTES,
                                      NEAP_DATA_BYTES, PROT_READ | PROT_WRITE),
                              memory_order_release);
    /* Map the pages that exist: 0.3 us each now, a fault of 1 us each later. */
    if (welcome->lanes_filled > 0)
        NEAP_SYS3(SYS_madvise, data, NEAP_LANE_OFFSET(1), MADV_POPULATE_WRITE);
    atomic_store_explicit(&process->groups[0], data + NEAP_LANE_OFFSET(0),
                          memory_order_release);
    return true;
}

bool neap_link_connect(const char *socket_path, const struct neap_hello *hello,
                       struct neap_process *process)
{
    struct neap_welcome welcome = {0};
    int fds[2] = {-1, -1};
    int fd = connect_to(socket_path);
    bool welcomed;

    if (fd < 0)
        return false;
    welcomed = NEAP_SYS(SYS_sendto, fd, hello, sizeof(*hello), MSG_NOSIGNAL, NULL, 0) ==
                   sizeof(*hello) &&
               receive(fd, &welcome, fds) && map_all(&welcome, fds, process);
    if (!welcomed) /* so that it is counted: see hello.h */
        NEAP_SYS(SYS_sendto, fd, "", 1, MSG_NOSIGNAL, NULL, 0);
    close_fd(fds[0]);
    close_fd(fds[1]);
    close_fd(fd);
    return welcomed;
}

/*
 * A part of data, from `front` to `all`. The descriptor is closed long since. mremap of
 * a shared mapping with an old size of 0 maps the same file once more, as far as we
 * like; the front is not needed a second time.
 */
static uint8_t *map_more(const struct neap_process *process, uint64_t front,
                         uint64_t all)
{
    long address = NEAP_SYS4(SYS_mremap, process->data, 0, all, MREMAP_MAYMOVE);

    if (neap_sys_failed(address))
        return NULL;
    NEAP_SYS2(SYS_munmap, address, front);
    NEAP_SYS3(SYS_madvise, address + (long)front, all - front, MADV_DONTFORK);
    return (uint8_t *)address + front;
}

uint8_t *neap_link_lanes(struct neap_process *process, unsigned group)
{
    return map_more(process, NEAP_LANE_OFFSET((uint64_t)group * NEAP_LANE_GROUP),
                    NEAP_LANE_OFFSET((uint64_t)(group + 1) * NEAP_LANE_GROUP));
}

struct neap_table *neap_link_table(struct neap_process *process)
{
    return (struct neap_table *)(void *)map_more(process, NEAP_TABLE_OFFSET,
                                                 NEAP_DATA_BYTES);
}
