/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_filter: the verdict of a program's filter on a call of ours is the kernel's. Each filter is run
 * by us and, in a child, by the kernel, over the same calls; so are thousands that are made up.
 */
#include <check.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/filter.h"
#include "shim/real.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MOST   64u

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define LD(off)             BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (off))
#define NR                  offsetof(struct seccomp_data, nr)
#define LOW(i)              (offsetof(struct seccomp_data, args) + 8 * (i))
#define HIGH(i)             (LOW(i) + 4)
#define IF(op, k, yes, no)  BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (yes), (no))
#define IF_X(op, yes, no)   BPF_JUMP(BPF_JMP | (op) | BPF_X, 0, (yes), (no))
#define ALU(op, k)          BPF_STMT(BPF_ALU | (op) | BPF_K, (k))
#define ALU_X(op)           BPF_STMT(BPF_ALU | (op) | BPF_X, 0)
#define DO(what)            BPF_STMT((what), 0)
#define A_IS(k)             BPF_STMT(BPF_LD | BPF_W | BPF_IMM, (k))
#define X_IS(k)             BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, (k))
#define TAX                 DO(BPF_MISC | BPF_TAX)
#define TXA                 DO(BPF_MISC | BPF_TXA)
#define RET_A               DO(BPF_RET | BPF_A)
#define RET(k)              BPF_STMT(BPF_RET | BPF_K, (k))
#define YES                 RET(SECCOMP_RET_ALLOW)
#define NO                  RET(SECCOMP_RET_ERRNO | EDOM)
/* All but the one call that is asked for is let through; then the accumulator has its number. */
#define BEGIN               LD(NR), IF(BPF_JEQ, SYS_getppid, 1, 0), YES

struct program {
    unsigned len;
    struct sock_filter insn[MOST];
};
#define PROGRAM(...)                                                                   \
    {                                                                                  \
        sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter), { __VA_ARGS__ } \
    }

static const struct program programs[] = {
    PROGRAM(YES),
    PROGRAM(BEGIN, NO),
    /* what libseccomp makes: architecture, the other numbers of it, then a comparison in halves */
    PROGRAM(LD(4), IF(BPF_JEQ, ARCH, 0, 9), LD(NR), IF(BPF_JGE, 0x40000000, 0, 1), IF(BPF_JEQ, 0xffffffff, 0, 6),
            IF(BPF_JEQ, SYS_getppid, 0, 4), LD(HIGH(0)), IF(BPF_JEQ, 0, 0, 2), LD(LOW(0)), IF(BPF_JEQ, 1, 1, 0),
            YES, RET(SECCOMP_RET_KILL)),
    PROGRAM(LD(4), IF(BPF_JEQ, ARCH ^ 1, 0, 1), YES, BEGIN, RET(SECCOMP_RET_KILL_PROCESS)),
    PROGRAM(BEGIN, LD(HIGH(1)), IF(BPF_JGT, 0x7fffffff, 3, 0), IF(BPF_JEQ, 0x7fffffff, 0, 1), LD(LOW(1)),
            IF(BPF_JGE, 0x80000000, 0, 1), NO, YES),
    /* OpenSSH's: a list, one line a call, and a call with an argument that must be one */
    PROGRAM(LD(4), IF(BPF_JEQ, ARCH, 1, 0), RET(SECCOMP_RET_KILL), LD(NR), IF(BPF_JEQ, SYS_getppid, 1, 0), YES,
            IF(BPF_JEQ, SYS_read, 0, 1), YES, IF(BPF_JEQ, SYS_getppid, 0, 6), LD(LOW(2)), ALU(BPF_AND, 0xffffffff),
            IF(BPF_JEQ, 0x40, 0, 3), LD(HIGH(2)), IF(BPF_JEQ, 0, 0, 1), YES, LD(NR), RET(SECCOMP_RET_TRAP)),
    /* each argument, each half */
    PROGRAM(BEGIN, LD(LOW(0)), IF(BPF_JSET, 0x80000001, 4, 0), LD(HIGH(3)), IF(BPF_JSET, 0xffff0000, 2, 0), LD(LOW(3)),
            IF(BPF_JEQ, 0, 0, 1), YES, NO),
    PROGRAM(BEGIN, LD(60), IF(BPF_JEQ, 0, 1, 0), NO, YES), /* the last word there is */
    PROGRAM(BEGIN, DO(BPF_LD | BPF_W | BPF_LEN), IF(BPF_JEQ, 64, 1, 0), NO, YES),
    PROGRAM(BEGIN, DO(BPF_LDX | BPF_W | BPF_LEN), TXA, IF(BPF_JEQ, 64, 1, 0), YES, NO),
    /* to the last instruction */
    PROGRAM(BEGIN, BPF_STMT(BPF_JMP | BPF_JA, 2), YES, YES, NO),
    PROGRAM(BEGIN, IF(BPF_JEQ, SYS_getppid, 2, 0), YES, YES, NO),
    PROGRAM(BEGIN, IF(BPF_JGT, SYS_getppid, 0, 2), NO, NO, YES),
    /* arithmetic at its ends */
    PROGRAM(BEGIN, LD(LOW(0)), TAX, A_IS(7), ALU_X(BPF_DIV), YES), /* by nothing: the kernel kills */
    PROGRAM(BEGIN, LD(LOW(0)), TAX, A_IS(1), ALU_X(BPF_LSH), IF(BPF_JEQ, 2, 1, 0), NO, YES),
    PROGRAM(BEGIN, LD(LOW(0)), TAX, A_IS(0x80000000), ALU_X(BPF_RSH), IF(BPF_JGE, 0x40000000, 1, 0), NO, YES),
    PROGRAM(BEGIN, LD(LOW(1)), DO(BPF_ALU | BPF_NEG), IF(BPF_JEQ, 0xffffffff, 1, 0), YES, NO),
    PROGRAM(BEGIN, LD(LOW(0)), ALU(BPF_MUL, 0x10001), ALU(BPF_SUB, 1), ALU(BPF_XOR, 0x5555), ALU(BPF_OR, 2),
            ALU(BPF_ADD, 0xfffffff0), ALU(BPF_DIV, 3), IF(BPF_JSET, 4, 1, 0), NO, YES),
    PROGRAM(BEGIN, LD(LOW(0)), BPF_STMT(BPF_ST, 15), X_IS(9), BPF_STMT(BPF_STX, 0), BPF_STMT(BPF_LD | BPF_MEM, 0),
            BPF_STMT(BPF_LDX | BPF_MEM, 15), IF_X(BPF_JGT, 1, 0), NO, YES),
    /* what is returned is computed, and which actions let a call through */
    PROGRAM(BEGIN, LD(LOW(0)), ALU(BPF_OR, SECCOMP_RET_ERRNO), RET_A),
    PROGRAM(BEGIN, LD(LOW(0)), ALU(BPF_AND, 1), ALU(BPF_MUL, SECCOMP_RET_ALLOW), RET_A),
    PROGRAM(BEGIN, RET(SECCOMP_RET_ALLOW | 0xffff)),
    PROGRAM(BEGIN, RET(SECCOMP_RET_LOG)),
    PROGRAM(BEGIN, RET(SECCOMP_RET_TRACE | 1)),
    PROGRAM(BEGIN, RET(SECCOMP_RET_TRAP)),
    PROGRAM(BEGIN, RET(SECCOMP_RET_KILL_THREAD)),
    PROGRAM(BEGIN, RET(SECCOMP_RET_ERRNO)),
    PROGRAM(BEGIN, RET(0x7fff1234)),
    PROGRAM(BEGIN, RET(0x12345678)),
};

static const long calls[][4] = {
    {0, 0, 0, 0},
    {1, 2, 0x40, 0},
    {33, -1, 0x40, 1L << 40},
    {1L << 32, 1L << 31, (1L << 32) + 0x40, 0},
    {-1, 0x7fffffff80000000, -1, -1},
    {(1L << 32) + 1, 0x7fffffff7fffffff, 2, 1L << 63},
    {31, 0x7fffffff00000000, 64, 3},
};

/* ---- the two verdicts ---- */

enum verdict { UNKNOWN, MAY, MAY_NOT };

struct result {
    int refused; /* the kernel's errno for the program itself */
    enum verdict ours[LEN(calls)], kernels[LEN(calls)];
};

static struct result *result;

/* In a process of its own: what a filter forbids may end it. */
static void
ask_both(const struct program *p, size_t from)
{
    struct rlimit none = {0, 0};
    struct sock_fprog prog = {(unsigned short)p->len, (struct sock_filter *)(uintptr_t)p->insn};
    long parent = syscall(SYS_getppid);
    int id = shim_filter_add(&prog);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)alarm(20); /* we may not come to an end */
    for (size_t i = from; i < LEN(calls); i++) {
        const long *c = calls[i];
        result->ours[i] = shim_filter_forbids(id, SYS_getppid, c[0], c[1], c[2], c[3]) ? MAY_NOT : MAY;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) {
        result->refused = errno;
        _exit(0);
    }
    for (size_t i = from; i < LEN(calls); i++) {
        const long *c = calls[i];
        result->kernels[i] = MAY_NOT;
        if (syscall(SYS_getppid, c[0], c[1], c[2], c[3], 0L, 0L) == parent) {
            result->kernels[i] = MAY;
        }
    }
    _exit(0);
}

static void
run(const struct program *p)
{
    if (!result) {
        result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(result, MAP_FAILED);
    }
    memset(result, 0, sizeof(*result));
    size_t next = 0;
    while (next < LEN(calls) && !result->refused) {
        pid_t pid = fork();
        if (pid == 0) {
            ask_both(p, next);
        }
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        ck_assert_msg(result->ours[next] != UNKNOWN, "ours did not come to an end");
        while (next < LEN(calls) && result->kernels[next] != UNKNOWN) {
            next++;
        }
    }
}

static void
compare(const char *what, unsigned nth)
{
    for (size_t i = 0; i < LEN(calls); i++) {
        ck_assert_msg(result->ours[i] == result->kernels[i], "%s %u, call %zu: ours %d, the kernel's %d", what, nth, i,
                      result->ours[i], result->kernels[i]);
    }
}

START_TEST(a_filter_says_what_it_says_to_the_kernel)
{
    run(&programs[_i]);
    ck_assert_int_eq(result->refused, 0);
    compare("filter", (unsigned)_i);
}
END_TEST

static unsigned
any(unsigned n)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 20) % n;
}

static uint32_t
constant(void)
{
    static const uint32_t known[] = {0, 1, 2, 31, 33, 64, 0x7fffffff, 0x80000000, 0xffffffff};
    return any(2) ? known[any(LEN(known))] : any(1u << 20);
}

/* An instruction that the kernel takes if what it loads was stored; not the place where the call is made,
 * which is another one for us. */
static struct sock_filter
make_up(unsigned left)
{
    static const uint16_t alu[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG};
    static const uint16_t jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    static const uint32_t results[] = {SECCOMP_RET_ALLOW, SECCOMP_RET_LOG, SECCOMP_RET_ERRNO | EDOM, SECCOMP_RET_KILL};
    static const uint32_t words[] = {0, 4, 16, 20, 24, 28, 32, 36, 40, 44, 60};
    uint16_t src = any(2) ? BPF_X : BPF_K, op = alu[any(LEN(alu))];
    switch (any(10)) {
    case 0: return (struct sock_filter)A_IS(constant());
    case 1: return (struct sock_filter)X_IS(constant());
    case 2: return (struct sock_filter)BPF_STMT(any(2) ? BPF_ST : BPF_STX, any(BPF_MEMWORDS));
    case 3: return (struct sock_filter)BPF_STMT((any(2) ? BPF_LD : BPF_LDX) | BPF_MEM, any(BPF_MEMWORDS));
    case 4: return any(2) ? (struct sock_filter)TAX : (struct sock_filter)TXA;
    case 5: return (struct sock_filter)BPF_STMT(BPF_ALU | op | src, src == BPF_K && op >= BPF_LSH ? any(32) : constant());
    case 6:
    case 7: return (struct sock_filter)BPF_JUMP(BPF_JMP | jumps[any(LEN(jumps))] | src, constant(),
                                                (uint8_t)any(left), (uint8_t)any(left));
    case 8: return (struct sock_filter)RET(results[any(LEN(results))]);
    default: return (struct sock_filter)LD(words[any(LEN(words))]);
    }
}

/* Each word of the memory is stored to first, so that it may be loaded from anywhere. */
static struct program
make_up_program(void)
{
    struct program p = {0, {LD(NR), IF(BPF_JEQ, SYS_getppid, 1, 0), YES}};
    unsigned body = 4 + any(20);
    p.len = 3;
    for (unsigned i = 0; i < BPF_MEMWORDS; i++) {
        p.insn[p.len++] = (struct sock_filter)BPF_STMT(BPF_ST, i);
    }
    for (unsigned left = body; left > 0; left--) {
        p.insn[p.len++] = make_up(left);
    }
    p.insn[p.len++] = any(2) ? (struct sock_filter)YES : any(2) ? (struct sock_filter)RET_A : (struct sock_filter)NO;
    return p;
}

START_TEST(made_up_filters_too)
{
    unsigned taken = 0, both = 0;
    for (unsigned i = 0; i < 600; i++) {
        struct program p = make_up_program();
        run(&p);
        if (!result->refused) {
            taken++;
            both += result->kernels[0] == MAY;
            compare("made-up filter", i);
        }
    }
    ck_assert_uint_gt(taken, 200); /* else there is nothing that was compared */
    ck_assert(both > taken / 10 && both < taken - taken / 10);
}
END_TEST

/* The kernel refuses these after we had a look at them: that look ends, and reads nothing beyond. */
START_TEST(what_is_no_filter_ends)
{
    static const struct program bad[] = {
        PROGRAM(BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), YES),
        PROGRAM(BPF_STMT(BPF_JMP | BPF_JA, 1000000), YES),
        PROGRAM(BEGIN, IF(BPF_JEQ, 0, 255, 255), YES),
        PROGRAM(LD(64), IF(BPF_JEQ, 0, 0, 0), YES),
        PROGRAM(LD(0xfffffffe), YES),
        PROGRAM(BPF_STMT(BPF_ST, 16), BPF_STMT(BPF_STX, 0xffffffff), BPF_STMT(BPF_LD | BPF_MEM, 16), RET_A),
        PROGRAM(ALU(BPF_DIV, 0), YES),
        PROGRAM(ALU(BPF_LSH, 40), YES),
        PROGRAM(ALU(BPF_MOD, 3), YES),
        PROGRAM(BPF_STMT(BPF_LD | BPF_B | BPF_IND, 3), YES),
        PROGRAM(LD(NR)),
        PROGRAM({0xffff, 255, 255, 0xffffffff}, YES),
    };
    run(&bad[_i]);
    ck_assert_int_eq(result->refused, EINVAL);
}
END_TEST

/* ---- several ---- */

static int
add(const struct program *p)
{
    struct sock_fprog prog = {(unsigned short)p->len, (struct sock_filter *)(uintptr_t)p->insn};
    return shim_filter_add(&prog);
}

START_TEST(the_strictest_wins)
{
    static const struct program yes = PROGRAM(YES), no = PROGRAM(BEGIN, NO),
                                odd = PROGRAM(BEGIN, LD(LOW(0)), IF(BPF_JSET, 1, 1, 0), YES, NO);
    int first = add(&yes), second = add(&odd), third = add(&yes), last = add(&no);
    long parent = getppid();
    ck_assert(!shim_filter_any());
    shim_filter_use(first, true);
    shim_filter_use(third, true);
    ck_assert(shim_filter_any());
    ck_assert_int_eq(sys_call(SYS_getppid, 1, 0, 0, 0), parent);
    shim_filter_use(second, true);
    ck_assert_int_eq(sys_call(SYS_getppid, 1, 0, 0, 0), -EPERM);
    ck_assert_int_eq(sys_call(SYS_getppid, 2, 0, 0, 0), parent);
    shim_filter_use(last, true);
    ck_assert_int_eq(sys_call(SYS_getppid, 2, 0, 0, 0), -EPERM);
    ck_assert_int_eq(sys_call(SYS_getpid, 0, 0, 0, 0), getpid());
    shim_filter_use(last, false);
    shim_filter_use(second, false);
    ck_assert_int_eq(sys_call(SYS_getppid, 1, 0, 0, 0), parent);
    shim_filter_use(first, false);
    shim_filter_use(third, false);
    ck_assert(!shim_filter_any());
}
END_TEST

START_TEST(too_many_forbid_all_but_the_least)
{
    static const struct program yes = PROGRAM(YES);
    for (int i = 0; i < 16; i++) {
        shim_filter_use(add(&yes), true);
    }
    ck_assert_int_eq(sys_call(SYS_getppid, 0, 0, 0, 0), getppid());
    int id = add(&yes);
    ck_assert_int_ge(id, 0);
    shim_filter_use(id, true);
    ck_assert_int_eq(sys_call(SYS_getppid, 0, 0, 0, 0), -EPERM);
    ck_assert(!shim_filter_forbids(id, SYS_read, 0, 0, 0, 0));
    ck_assert(shim_filter_forbids(id, SYS_close, 0, 0, 0, 0));
}
END_TEST

START_TEST(what_cannot_be_read_is_not_kept)
{
    struct sock_fprog none = {0, NULL}, empty = {0, (struct sock_filter *)(uintptr_t)programs[0].insn};
    ck_assert_int_eq(shim_filter_add(&none), -1);
    ck_assert_int_eq(shim_filter_add(&empty), -1);
    ck_assert(!shim_filter_forbids(-1, SYS_read, 0, 0, 0, 0));
    shim_filter_use(-1, true);
    ck_assert(!shim_filter_any());
    int strict = shim_filter_add(NULL);
    ck_assert(!shim_filter_forbids(strict, SYS_write, 0, 0, 0, 0));
    ck_assert(shim_filter_forbids(strict, SYS_sendto, 0, 0, 0, 0));
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim filter");
    TCase *t = tcase_create("filter");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_filter_says_what_it_says_to_the_kernel, 0, LEN(programs));
    tcase_add_test(t, made_up_filters_too);
    tcase_add_loop_test(t, what_is_no_filter_ends, 0, 12);
    tcase_add_test(t, the_strictest_wins);
    tcase_add_test(t, too_many_forbid_all_but_the_least);
    tcase_add_test(t, what_cannot_be_read_is_not_kept);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
