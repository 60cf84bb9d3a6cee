/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: host names. A name of the mesh is answered with its service's virtual address, and by
 * libc itself: it is asked for that address instead of the name, so that lists, buffers, hints and errors
 * are what it makes of any host with one IPv4 and one IPv6 address. What remains is to put the name back.
 * All other names are libc's business, asked for as the program did.
 *
 * glibc frees each node of a list by itself, and its canonical name apart: so lists can be joined and
 * names exchanged. Their memory is the program's heap, as of libc's own.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "shim/core/env.h"
#include "shim/route/egress.h"
#include "shim/route/names.h"
#include "shim/sym/sym.h"

/* True when the mesh answers, as *out says. errno stays. */
static bool
is_ours(const char *name, bool bind, struct mesh_named *out, enum mesh_err *e)
{
    int saved = errno;
    *e = MESH_OK;
    out->answer = MESH_NAME_FOREIGN;
    if (shim_env.on) {
        *e = shim_names_find(name, bind, out);
    }
    errno = saved;
    return *e != MESH_OK || out->answer != MESH_NAME_FOREIGN;
}

/* Without the dot that ends it: what a program shows and sends to servers. */
static size_t
length_of(const char *name)
{
    size_t n = strlen(name);
    return n - (n > 1 && name[n - 1] == '.');
}

static const char *
numeric(const struct mesh_vaddr *v, int af, char *text)
{
    return inet_ntop(af, af == AF_INET ? (const void *)v->v4 : (const void *)v->v6, text, INET6_ADDRSTRLEN);
}

/* ---- getaddrinfo ---- */

/* The list as if the name had been asked for with these flags. */
static int
put_name(struct addrinfo *list, const char *name, int flags)
{
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        a->ai_flags = flags;
    }
    if (list->ai_canonname) {
        char *copy = strndup(name, length_of(name));
        if (!copy) {
            return EAI_MEMORY;
        }
        free(list->ai_canonname);
        list->ai_canonname = copy;
    }
    return 0;
}

/* IPv4 comes first: it is what most programs and endpoints can do. AF_INET6 has IPv4 only where it says so
 * (AI_V4MAPPED with AI_ALL), and after its own. */
static int
ask_both(const struct mesh_vaddr *v, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
    bool six = hints->ai_family == AF_INET6, all = (~hints->ai_flags & (AI_V4MAPPED | AI_ALL)) == 0;
    struct addrinfo h = *hints, *first = NULL, *second = NULL;
    char text[INET6_ADDRSTRLEN];
    h.ai_flags |= AI_NUMERICHOST;
    int r = shim_real.getaddrinfo(numeric(v, six ? AF_INET6 : AF_INET, text), service, &h, &first);
    if (hints->ai_family == AF_INET || (six && !all) || r == EAI_MEMORY || r == EAI_SYSTEM) {
        *res = first;
        return r;
    }
    if (first && first->ai_family == AF_INET6 && !six && !all) {
        freeaddrinfo(first); /* AI_ADDRCONFIG: this host has IPv6 only, and for that there is an address */
        first = NULL;
    }
    h.ai_flags &= first ? ~AI_CANONNAME : ~0;
    int r2 = shim_real.getaddrinfo(numeric(v, six ? AF_INET : AF_INET6, text), service, &h, &second);
    if (!first) {
        *res = second;
        return r2 == 0 || r == 0 ? r2 : r;
    }
    struct addrinfo *last = first;
    while (last->ai_next) {
        last = last->ai_next;
    }
    last->ai_next = second;
    *res = first;
    return 0;
}

static int
answer(const struct mesh_named *who, const char *name, const char *service, const struct addrinfo *hints,
       struct addrinfo **res)
{
    /* What libc takes for none [getaddrinfo(3)]. */
    static const struct addrinfo none = {.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG, .ai_family = AF_UNSPEC};
    struct addrinfo *list = NULL;
    if (who->answer != MESH_NAME_FOUND) {
        return EAI_NONAME;
    }
    hints = hints ? hints : &none;
    int r = ask_both(&who->addr, service, hints, &list);
    if (r != 0) {
        return r;
    }
    r = put_name(list, name, hints->ai_flags);
    if (r != 0) {
        freeaddrinfo(list);
        return r;
    }
    *res = list;
    return 0;
}

SHIM_EXPORT int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
    struct mesh_named who;
    enum mesh_err e;
    int flags = hints ? hints->ai_flags : 0, saved = errno;
    if (flags & AI_NUMERICHOST || !is_ours(node, flags & AI_PASSIVE, &who, &e)) {
        int r = shim_real.getaddrinfo(node, service, hints, res);
        if (r == 0) {
            shim_egress_list(node, *res);
        }
        return r;
    }
    int r = e == MESH_OK ? answer(&who, node, service, hints, res) : EAI_AGAIN;
    if (r != EAI_SYSTEM) {
        errno = saved;
    }
    return r;
}

/* ---- getaddrinfo_a: libc asks itself, in threads of its own. What is ours is done before it begins ---- */

static bool
answer_item(struct gaicb *c)
{
    struct mesh_named who;
    enum mesh_err e;
    int flags = c->ar_request ? c->ar_request->ai_flags : 0;
    if (flags & AI_NUMERICHOST || !is_ours(c->ar_name, flags & AI_PASSIVE, &who, &e)) {
        return false;
    }
    c->ar_result = NULL;
    c->__return = e == MESH_OK ? answer(&who, c->ar_name, c->ar_service, c->ar_request, &c->ar_result)
                               : EAI_AGAIN;
    return true;
}

SHIM_EXPORT int
getaddrinfo_a(int mode, struct gaicb **list, int n, struct sigevent *event)
{
    bool valid = shim_env.on && (mode == GAI_WAIT || mode == GAI_NOWAIT) && list && n > 0;
    struct gaicb **rest = valid ? calloc((size_t)n, sizeof(*list)) : NULL;
    bool any = false;
    for (int i = 0; rest && i < n; i++) {
        bool ours = list[i] && answer_item(list[i]);
        rest[i] = ours ? NULL : list[i]; /* libc passes over NULL */
        any |= ours;
    }
    int r = shim_real.getaddrinfo_a(mode, any ? rest : list, n, event);
    for (int i = 0; r == 0 && valid && mode == GAI_WAIT && i < n; i++) {
        if (list[i]) {
            (void)gai_error(list[i]);
        }
    }
    free(rest);
    return r;
}

/* By this a program learns that an item is done. */
SHIM_EXPORT int
gai_error(struct gaicb *c)
{
    int r = shim_real.gai_error(c);
    if (r == 0) {
        shim_egress_list(c->ar_name, c->ar_result);
    }
    return r;
}

/* ---- gethostbyname and its kin ---- */

struct host_call {
    struct hostent *ret;
    char *buf;
    size_t len;
    struct hostent **result;
    int *h_err;
};

static int
host_failed(const struct host_call *c, int h_err, int r)
{
    *c->result = NULL;
    *c->h_err = h_errno = h_err; /* libc sets both */
    return r;
}

/* The name lies at the end of the buffer, what libc needs before it. */
static int
host_of(const struct mesh_vaddr *v, const char *name, int af, const struct host_call *c)
{
    char text[INET6_ADDRSTRLEN];
    size_t n = length_of(name);
    if (af != AF_INET && af != AF_INET6) {
        return shim_real.gethostbyname2_r(name, af, c->ret, c->buf, c->len, c->result, c->h_err);
    }
    if (c->len <= n) {
        errno = ERANGE;
        return host_failed(c, NETDB_INTERNAL, ERANGE);
    }
    size_t room = c->len - n - 1;
    int r = shim_real.gethostbyname2_r(numeric(v, af, text), af, c->ret, c->buf, room, c->result, c->h_err);
    if (r == 0 && *c->result) {
        char *at = c->buf + room;
        memcpy(at, name, n);
        at[n] = '\0';
        c->ret->h_name = at;
    }
    return r;
}

static int
host_answer(const struct mesh_named *who, enum mesh_err e, const char *name, int af, const struct host_call *c)
{
    if (e != MESH_OK) {
        return host_failed(c, TRY_AGAIN, EAGAIN);
    }
    return who->answer == MESH_NAME_FOUND ? host_of(&who->addr, name, af, c)
                                          : host_failed(c, HOST_NOT_FOUND, 0);
}

/* For those that return a pointer into memory of their own, which they may do once at a time. */
static struct hostent *
host_static(const struct mesh_named *who, enum mesh_err e, const char *name, int af)
{
    static struct hostent ret;
    static char buf[1024];
    struct hostent *result = NULL;
    int no = 0;
    const struct host_call c = {&ret, buf, sizeof(buf), &result, &no};
    (void)host_answer(who, e, name, af, &c);
    if (!result) {
        h_errno = no;
    }
    return result;
}

/* libc's own answer, which egress may have to know. */
static struct hostent *
host_foreign(const char *name, struct hostent *h)
{
    shim_egress_host(name, h);
    return h;
}

static int
host_foreign_r(const char *name, const struct host_call *c, int r)
{
    if (r == 0) {
        shim_egress_host(name, *c->result);
    }
    return r;
}

SHIM_EXPORT struct hostent *
gethostbyname(const char *name)
{
    struct mesh_named who;
    enum mesh_err e;
    return is_ours(name, false, &who, &e) ? host_static(&who, e, name, AF_INET)
                                          : host_foreign(name, shim_real.gethostbyname(name));
}

SHIM_EXPORT struct hostent *
gethostbyname2(const char *name, int af)
{
    struct mesh_named who;
    enum mesh_err e;
    return is_ours(name, false, &who, &e) ? host_static(&who, e, name, af)
                                          : host_foreign(name, shim_real.gethostbyname2(name, af));
}

SHIM_EXPORT int
gethostbyname_r(const char *name, struct hostent *ret, char *buf, size_t len, struct hostent **result,
                int *h_err)
{
    struct mesh_named who;
    enum mesh_err e;
    const struct host_call c = {ret, buf, len, result, h_err};
    return is_ours(name, false, &who, &e)
               ? host_answer(&who, e, name, AF_INET, &c)
               : host_foreign_r(name, &c, shim_real.gethostbyname_r(name, ret, buf, len, result, h_err));
}

SHIM_EXPORT int
gethostbyname2_r(const char *name, int af, struct hostent *ret, char *buf, size_t len,
                 struct hostent **result, int *h_err)
{
    struct mesh_named who;
    enum mesh_err e;
    const struct host_call c = {ret, buf, len, result, h_err};
    return is_ours(name, false, &who, &e)
               ? host_answer(&who, e, name, af, &c)
               : host_foreign_r(name, &c, shim_real.gethostbyname2_r(name, af, ret, buf, len, result, h_err));
}

/* ---- from an address to its name: never asked of DNS ---- */

/* True: a virtual address, and *who says whose. */
static bool
is_ours_by_addr(const void *addr, socklen_t len, int af, struct mesh_named *who, enum mesh_err *e)
{
    struct mesh_addr a = {.ip = {[10] = 0xff, [11] = 0xff}};
    int saved = errno;
    bool v4 = af == AF_INET && len == 4, v6 = af == AF_INET6 && len == 16;
    *e = MESH_OK;
    if (!shim_env.on || !addr || !(v4 || v6)) {
        return false;
    }
    memcpy(v4 ? a.ip + 12 : a.ip, addr, len);
    if (!mesh_vaddr_is(&a)) {
        return false;
    }
    *e = shim_names_of(&a, who);
    errno = saved;
    return *e != MESH_OK || who->answer != MESH_NAME_FOREIGN;
}

SHIM_EXPORT struct hostent *
gethostbyaddr(const void *addr, socklen_t len, int af)
{
    struct mesh_named who;
    enum mesh_err e;
    return is_ours_by_addr(addr, len, af, &who, &e) ? host_static(&who, e, who.text, af)
                                                    : shim_real.gethostbyaddr(addr, len, af);
}

SHIM_EXPORT int
gethostbyaddr_r(const void *addr, socklen_t len, int af, struct hostent *ret, char *buf, size_t room,
                struct hostent **result, int *h_err)
{
    struct mesh_named who;
    enum mesh_err e;
    const struct host_call c = {ret, buf, room, result, h_err};
    return is_ours_by_addr(addr, len, af, &who, &e)
               ? host_answer(&who, e, who.text, af, &c)
               : shim_real.gethostbyaddr_r(addr, len, af, ret, buf, room, result, h_err);
}

static bool
is_ours_by_sockaddr(const struct sockaddr *sa, socklen_t len, struct mesh_named *who, enum mesh_err *e)
{
    if (sa && len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        return is_ours_by_addr(&in.sin_addr, 4, AF_INET, who, e);
    }
    if (sa && len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        return is_ours_by_addr(&in6.sin6_addr, 16, AF_INET6, who, e);
    }
    return false;
}

SHIM_EXPORT int
getnameinfo(const struct sockaddr *sa, socklen_t len, char *host, socklen_t host_len, char *serv,
            socklen_t serv_len, int flags)
{
    struct mesh_named who;
    enum mesh_err e;
    if (flags & NI_NUMERICHOST || !host || host_len == 0 || !is_ours_by_sockaddr(sa, len, &who, &e)) {
        return shim_real.getnameinfo(sa, len, host, host_len, serv, serv_len, flags);
    }
    if (e != MESH_OK) {
        return EAI_AGAIN;
    }
    if (who.answer != MESH_NAME_FOUND && flags & NI_NAMEREQD) {
        return EAI_NONAME;
    }
    /* Numbers first: it checks the rest, and makes the port. */
    int r = shim_real.getnameinfo(sa, len, NULL, 0, serv, serv_len, flags & ~NI_NAMEREQD);
    if (serv && serv_len && r != 0) {
        return r;
    }
    if (who.answer != MESH_NAME_FOUND) {
        return shim_real.getnameinfo(sa, len, host, host_len, NULL, 0, flags | NI_NUMERICHOST);
    }
    size_t n = strlen(who.text);
    if (n >= host_len) {
        return EAI_OVERFLOW;
    }
    memcpy(host, who.text, n + 1);
    return 0;
}
