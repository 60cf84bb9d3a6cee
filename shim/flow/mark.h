/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_mark: urgent data in the stream of records. In TCP the last byte of send(MSG_OOB) stays in the stream, and
 * the receiver's kernel takes it out when the program's reading gets there [tcp(7)]. A byte of a record cannot be
 * taken out. So that one byte travels in a record of its own, and a byte that belongs to no record is sent behind
 * it as urgent, the *mark*, always 0:
 *
 *   | record | record | 1 byte, type, 31 zeros | 0 |  record ...
 *                     `-- marked record ------'  `-- the mark, for the kernel
 *
 * To TLS the record is one with padding [RFC8446 5.4], and the kernel hides the mark, so a peer that is not under
 * libmesh sees one byte of data. In our receiver the kernel's truth about its mark is the program's: POLLPRI,
 * SIGURG, sockatmark, that reading stops there, that a second urgent byte takes the first one's place. Only the
 * marked record, which stands before the mark, must be out of the kernel then, or poll says POLLIN: whoever meets it
 * takes it out (shim_mark_settle), and the slot remembers its byte (SHIM_SF_MARK). Until the mark is passed nothing
 * behind it is taken: to receive would pass it. SO_OOBINLINE is the kernel's own, set or not.
 *
 * A mark that the kernel does not hide (another has taken its place, SO_OOBINLINE) comes as a byte 0 where a record
 * could begin, and the byte before it is one of the stream. No record begins so.
 *
 * All of it under rx_lock; none of it where no such record has come.
 */
#ifndef SHIM_FLOW_MARK_H
#define SHIM_FLOW_MARK_H

#include <stdbool.h>
#include <sys/types.h>

#include "shim/core/slot.h"
#include "shim/flow/iov.h"
#include "shim/tls/tls.h"

#define SHIM_MARK_PAD 31u /* an odd number: who pads makes lengths even, or multiples of something */
#define SHIM_MARK_LEN (SHIM_REC_OVERHEAD + 1u + SHIM_MARK_PAD)

static inline bool
shim_mark_is(uint8_t type, size_t len, size_t plain)
{
    return type == SHIM_REC_DATA && len == SHIM_MARK_LEN && plain == 1;
}

/* A marked record was opened and is out of the kernel, next[0, n) has come behind it; `first`: the program stood
 * right before it. True: its byte is the program's. False: it is not, and if n is 0, SHIM_SF_MARK. */
__attribute__((cold)) bool shim_mark_meet(int fd, struct shim_slot *s, uint8_t byte, const uint8_t *next, size_t n,
                                          bool first);
/* The program reads with SHIM_SF_MARK. `copied`: after other bytes in the same call; `fresh`: the mark was met in this
 * call. Bytes that went to room, 0 or 1, and the mark is passed; -EAGAIN: not to be passed now; -errno. */
__attribute__((cold)) ssize_t shim_mark_pass(int fd, struct shim_slot *s, struct shim_iov *room, bool copied,
                                             bool fresh);
/* If a marked record is the next one, it is taken out. True: SHIM_SF_MARK. */
bool shim_mark_settle(int fd, struct shim_slot *s);
/* The program stands at the kernel's mark. */
bool shim_mark_is_here(int fd, const struct shim_slot *s);
/* The byte that belongs to the kernel's mark; false: it is not here. */
bool shim_mark_byte(int fd, struct shim_slot *s, uint8_t *byte);
/* With SHIM_SF_MARK: what the kernel does not hide of it, and is data therefore, is what comes next. */
bool shim_mark_is_data(int fd, const struct shim_slot *s);

/* There is, or was, something urgent on the way to us. */
bool shim_mark_may_be(int fd, const struct shim_slot *s);

#endif
