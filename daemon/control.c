/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of control.h, each one packet of one size. */
#include "daemon/control.h"

#include <errno.h>
#include <sys/socket.h>

bool neap_control_send(int fd, const struct neap_control_message *message)
{
    ssize_t sent;

    do
        sent = send(fd, message, sizeof(*message), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof(*message);
}

enum neap_control_result neap_control_receive(int fd, bool wait,
                                              struct neap_control_message *ret)
{
    ssize_t got;

    /*
     * A peer that ended with a message of ours unread gives ECONNRESET, once and
     * before its own last words, which are still there.
     */
    do
        got = recv(fd, ret, sizeof(*ret), wait ? 0 : MSG_DONTWAIT);
    while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return NEAP_CONTROL_NOTHING;
    if (got != (ssize_t)sizeof(*ret))
        return NEAP_CONTROL_CLOSED;
    ret->text[sizeof(ret->text) - 1] = 0;
    return NEAP_CONTROL_GOT;
}
