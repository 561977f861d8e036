/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket where targets say HELLO (schema/wire/hello.h).
 *
 * It lies in a directory of mode 0700, and peers of another uid are turned away. A
 * peer can neither block the collector nor make it remember anything for longer than
 * a handshake may take.
 */
#ifndef NEAP_DAEMON_LISTEN_H
#define NEAP_DAEMON_LISTEN_H

#include <stdint.h>

#include "daemon/loop.h"
#include "daemon/session.h"
#include "schema/base/error.h"

struct neap_listener;

/* `path` must not exist. `loop` and `session` outlive the listener. */
struct neap_error *neap_listener_create(const char *path, struct neap_loop *loop,
                                        struct neap_session *session,
                                        struct neap_listener **ret) NEAP_MUST_CHECK;
/* Removes the socket. Takes NULL. */
void neap_listener_destroy(struct neap_listener *listener);

/* Turn away peers that have said nothing for too long. */
void neap_listener_expire(struct neap_listener *listener, uint64_t now_ns);
/* Peers in the middle of a handshake. */
size_t neap_listener_pending(const struct neap_listener *listener);

#endif
