/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_beside: what recvmsg(2) tells beside the bytes of a TCP connection: when they came (SO_TIMESTAMP,
 * SO_TIMESTAMPNS, SO_TIMESTAMPING) and how many are left (TCP_INQ). The kernel knows the first; so whoever asks for
 * control messages has our receives made with its own buffer for them, and the last one stays there, as it would.
 */
#ifndef SHIM_FLOW_BESIDE_H
#define SHIM_FLOW_BESIDE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct shim_beside {
    void *control;
    size_t room, len; /* of control */
    int flags;        /* MSG_CTRUNC */
};

/* recv(2), not blocking. */
long shim_beside_recv(struct shim_beside *b, int fd, uint8_t *buf, size_t n, int flags);
/* What the next byte has beside it, which stays where it is. */
void shim_beside_look(struct shim_beside *b, int fd);
/* The end is told: close_notify, which nobody sees, had something beside it. */
void shim_beside_end(struct shim_beside *b, int fd);
#endif
