/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_filter: see filter.h. The machine is that of the kernel's BPF_PROG_TYPE_SECCOMP in its
 * classic form [seccomp(2), bpf(4)]: two registers, 16 words, forward jumps only.
 */
#include "shim/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/real.h"

#define FILTERS 16 /* more than that: as if everything was forbidden */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

static struct filter {
    _Atomic bool on;
    unsigned len;
    const struct sock_filter *insn;
} filters[FILTERS];
static _Atomic int added;
_Atomic int shim_filter_count;

/* SECCOMP_MODE_STRICT: read, write, exit, and the return from a signal handler. */
static const struct sock_filter strict[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

struct machine {
    uint32_t a, x, mem[BPF_MEMWORDS];
};

static uint32_t
alu(const struct machine *m, uint16_t code, uint32_t k)
{
    uint32_t v = BPF_SRC(code) == BPF_X ? m->x : k;
    switch (BPF_OP(code)) {
    case BPF_ADD: return m->a + v;
    case BPF_SUB: return m->a - v;
    case BPF_MUL: return m->a * v;
    case BPF_DIV: return v ? m->a / v : 0;
    case BPF_AND: return m->a & v;
    case BPF_OR: return m->a | v;
    case BPF_XOR: return m->a ^ v;
    case BPF_LSH: return m->a << (v & 31);
    case BPF_RSH: return m->a >> (v & 31);
    default: return -m->a; /* BPF_NEG: the kernel takes no other */
    }
}

/* How many instructions are skipped. */
static uint32_t
jump(const struct machine *m, const struct sock_filter *i)
{
    uint32_t v = BPF_SRC(i->code) == BPF_X ? m->x : i->k;
    switch (BPF_OP(i->code)) {
    case BPF_JEQ: return m->a == v ? i->jt : i->jf;
    case BPF_JGT: return m->a > v ? i->jt : i->jf;
    case BPF_JGE: return m->a >= v ? i->jt : i->jf;
    case BPF_JSET: return m->a & v ? i->jt : i->jf;
    default: return i->k; /* BPF_JA */
    }
}

static uint32_t
load(const struct machine *m, const struct sock_filter *i, const struct seccomp_data *d)
{
    uint32_t v = 0;
    switch (BPF_MODE(i->code)) {
    case BPF_IMM: return i->k;
    case BPF_LEN: return sizeof(*d);
    case BPF_MEM: return i->k < BPF_MEMWORDS ? m->mem[i->k] : 0;
    default: /* BPF_ABS */
        if (i->k <= sizeof(*d) - sizeof(v)) {
            memcpy(&v, (const char *)d + i->k, sizeof(v));
        }
        return v;
    }
}

static uint32_t
run(const struct filter *f, const struct seccomp_data *d)
{
    struct machine m = {0};
    for (uint64_t pc = 0; pc < f->len; pc++) { /* forward only, also where the kernel would refuse it */
        const struct sock_filter *i = &f->insn[pc];
        if (i->code == (BPF_ALU | BPF_DIV | BPF_X) && m.x == 0) {
            return 0; /* the program ends, and kills [net/core/filter.c] */
        }
        switch (BPF_CLASS(i->code)) {
        case BPF_LD: m.a = load(&m, i, d); break;
        case BPF_LDX: m.x = load(&m, i, d); break;
        case BPF_ST: m.mem[i->k % BPF_MEMWORDS] = m.a; break;
        case BPF_STX: m.mem[i->k % BPF_MEMWORDS] = m.x; break;
        case BPF_ALU: m.a = alu(&m, i->code, i->k); break;
        case BPF_JMP: pc += jump(&m, i); break;
        case BPF_RET: return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
        default: /* BPF_MISC */
            m.a = BPF_MISCOP(i->code) == BPF_TXA ? m.x : m.a;
            m.x = BPF_MISCOP(i->code) == BPF_TAX ? m.a : m.x;
        }
    }
    return SECCOMP_RET_KILL;
}

/* 0: the call may be made. */
static long
verdict(const struct filter *f, const struct seccomp_data *d)
{
    uint32_t action = run(f, d) & SECCOMP_RET_ACTION_FULL;
    return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG ? 0 : -EPERM;
}

static long
verdict_of_all(long nr, long a, long b, long c, long d, long e, long f)
{
    struct seccomp_data data = {(int)nr, ARCH, 0,
                                {(uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d, (uint64_t)e, (uint64_t)f}};
    long r = 0;
    int n = atomic_load(&added);
    for (int i = 0; i < n && i < FILTERS && r == 0; i++) {
        r = atomic_load(&filters[i].on) ? verdict(&filters[i], &data) : 0;
    }
    return r;
}

int
shim_filter_add(const struct sock_fprog *prog)
{
    const struct sock_filter *from = prog ? prog->filter : strict;
    unsigned len = prog ? prog->len : sizeof(strict) / sizeof(strict[0]);
    size_t bytes = len * sizeof(*from);
    if (!from || len == 0) {
        return -1;
    }
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int id = atomic_fetch_add(&added, 1);
    if (id >= FILTERS || copy == MAP_FAILED) { /* better too little than a call that kills */
        id = id < FILTERS ? id : FILTERS - 1;
        filters[id].insn = strict;
        filters[id].len = sizeof(strict) / sizeof(strict[0]);
        return id;
    }
    memcpy(copy, from, bytes);
    filters[id].insn = copy;
    filters[id].len = len;
    return id;
}

void
shim_filter_use(int id, bool on)
{
    if (id >= 0 && atomic_exchange(&filters[id].on, on) != on) {
        atomic_fetch_add(&shim_filter_count, on ? 1 : -1);
    }
}

bool
shim_filter_forbids(int id, long nr, long a, long b, long c, long d)
{
    struct seccomp_data data = {(int)nr, ARCH, 0,
                                {(uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d, 0, 0}};
    return id >= 0 && verdict(&filters[id], &data) != 0;
}

long
shim_filter_call(long nr, long a, long b, long c, long d, long e, long f)
{
    long r = verdict_of_all(nr, a, b, c, d, e, f);
    return r ? r : sys_raw6(nr, a, b, c, d, e, f);
}

static bool
may(long nr, long a, long b, long c, long d)
{
    return verdict_of_all(nr, a, b, c, d, 0, 0) == 0;
}

long
shim_filter_poll(struct pollfd *p, nfds_t n, int ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    long to = ms < 0 ? 0 : (long)&ts;
    if (may(SYS_ppoll, (long)p, (long)n, to, 0)) {
        return sys_raw6(SYS_ppoll, (long)p, (long)n, to, 0, 8, 0);
    }
#ifdef SYS_poll
    return shim_filter_call(SYS_poll, (long)p, (long)n, ms, 0, 0, 0);
#else
    return -EPERM;
#endif
}

bool
shim_filter_blind(void)
{
    struct pollfd p = {-1, 0, 0};
    return shim_filter_any() && shim_filter_poll(&p, 1, 0) < 0; /* EINVAL: RLIMIT_NOFILE is 0 */
}

/* read(2) and write(2) in their place: what they would wait for is asked before. */
long
shim_filter_recv(int fd, void *buf, size_t n, int flags)
{
    struct pollfd p = {fd, POLLIN, 0};
    if (may(SYS_recvfrom, fd, (long)buf, (long)n, flags)) {
        return shim_filter_call(SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0);
    }
    if (flags & MSG_PEEK) {
        return -EPERM;
    }
    if (flags & MSG_DONTWAIT && shim_filter_poll(&p, 1, 0) == 0) {
        return -EAGAIN;
    }
    return shim_filter_call(SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
}

/* A connection that is shut down gives no signal here: whoever wrote decides about that. */
long
shim_filter_send(int fd, const void *buf, size_t n, int flags)
{
    struct pollfd p = {fd, POLLOUT, 0};
    if (may(SYS_sendto, fd, (long)buf, (long)n, flags)) {
        return shim_filter_call(SYS_sendto, fd, (long)buf, (long)n, flags, 0, 0);
    }
    long r = shim_filter_poll(&p, 1, 0);
    if (r == 0 && flags & MSG_DONTWAIT) {
        return -EAGAIN;
    }
    if (r > 0 && p.revents & POLLHUP && p.revents & POLLERR) {
        return -EPIPE;
    }
    return shim_filter_call(SYS_write, fd, (long)buf, (long)n, 0, 0, 0);
}
