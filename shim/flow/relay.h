/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_relay: the last resort for connections that a program inherits which cannot be under libmesh
 * (static, other privileges, LIBMESH=off). The program gets socket pairs, and libmesh-relay, a
 * process of its own that outlives us and meshd, carries the bytes.
 *
 * What such a program notices: its descriptor is a Unix socket, so TCP options and names are not
 * those of the connection [socketpair(2)].
 *
 * What other holders of the connection notice: a program with it as its standard input is given what
 * comes, and what it leaves unread is lost to them; what it wrote last may leave after its end.
 */
#ifndef SHIM_FLOW_RELAY_H
#define SHIM_FLOW_RELAY_H

#define SHIM_RELAY_MAX 32u /* connections of one exec; more are ended */

/* What libmesh-relay asks of the library in it: getsockopt(conn, LEVEL, OTHERS, int) tells how many
 * descriptors of the connection other processes hold. Without libmesh: ENOPROTOOPT. */
#define SHIM_RELAY_LEVEL  0x6d657368
#define SHIM_RELAY_OTHERS 1

/* What is read for a program while others hold the connection, too. Its descriptors tell: */
enum shim_relay_use {
    SHIM_RELAY_READ,     /* standard input: whatever comes */
    SHIM_RELAY_OUTPUT,   /* standard output or error, but not input: nothing, it writes */
    SHIM_RELAY_ACCIDENT, /* above 2, so perhaps it knows nothing of it: nothing before it writes */
};

struct shim_relay {
    unsigned n;
    struct {
        int conn;   /* one of its descriptors */
        int stream; /* out: the program's end, close-on-exec */
        enum shim_relay_use use;
    } line[SHIM_RELAY_MAX];
};

/* Starts one relay for all; `region` is the variable of flow/carry.h. 0, or -errno: none was started,
 * no descriptor left open. */
int shim_relay_start(struct shim_relay *r, const char *region);

#endif
