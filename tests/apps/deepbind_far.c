/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_far: a library that LD_LIBRARY_PATH leads to is asked for by its name, with RTLD_DEEPBIND: what it defines
 * stands before all else. list: the list is long. small: the thread's stack is not. jit: the code that asks is of no
 * file. order: libc stands before a library's own functions. drops: another library goes meanwhile, and who calls the program's own function goes on to. threads: all of them
 * have it complete, and libc's functions from where the program has them. Sanitizers end a program that asks for RTLD_DEEPBIND.
 */
/* run: modes list small jit order drops threads */
/* run: nomesh */
/* run: notsan */
/* run: noasan */
/* cc: -ldl -rdynamic */
#include "app.h"

#include <dlfcn.h>
#include <sys/mman.h>

enum { LONG = 500, STACK = 24 << 10, THREADS = 3, ROUNDS = 300 };

static const char *const libraries[] = {"deepbind_now.so", "deepbind_text.so", "deepbind.so"};
static pthread_barrier_t together;

typedef void *opener(const char *file, int flags);

/* The program's own, whatever libc has. */
int
sockatmark(int fd)
{
    return 4400 + (fd < 0);
}

static void
again(char **argv)
{
    char own[PATH_MAX], list[LONG * 32 + PATH_MAX] = "";
    ssize_t n = CK(readlink("/proc/self/exe", own, sizeof own - 1));
    own[n] = 0;
    *strrchr(own, '/') = 0;
    for (int i = 0, all = strcmp(app_mode, "list") == 0 ? LONG : 1; i < all; i++)
        sprintf(list + strlen(list), "/no/such/folder/%d:", i);
    strcat(list, own);
    CK(setenv("LD_LIBRARY_PATH", list, 1));
    CK(execv("/proc/self/exe", argv));
}

/* Calls libc's dlopen, or who stands before it. */
static opener *
made(void)
{
    static const unsigned char code[] = {
#if defined(__x86_64__)
        0x48, 0x83, 0xec, 0x08,             /* sub $8, %rsp */
        0xff, 0x15, 0x0e, 0x00, 0x00, 0x00, /* call *address */
        0x48, 0x83, 0xc4, 0x08, 0xc3,       /* add $8, %rsp; ret */
#elif defined(__aarch64__)
        0xfd, 0x7b, 0xbf, 0xa9, /* stp x29, x30, [sp, #-16]! */
        0xa2, 0x00, 0x00, 0x58, /* ldr x2, address */
        0x40, 0x00, 0x3f, 0xd6, /* blr x2 */
        0xfd, 0x7b, 0xc1, 0xa8, /* ldp x29, x30, [sp], #16 */
        0xc0, 0x03, 0x5f, 0xd6, /* ret */
#endif
    };
    opener *to = dlopen;
    unsigned char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    memcpy(p, code, sizeof code);
    memcpy(p + 24, &to, sizeof to);
    CK(mprotect(p, 4096, PROT_READ | PROT_EXEC));
    __builtin___clear_cache((char *)p, (char *)p + 32);
    return (opener *)(uintptr_t)p;
}

static void *
load(void *with)
{
    opener *open = strcmp(app_mode, "jit") == 0 ? made() : dlopen;
    (void)with;
    return open("deepbind.so", RTLD_NOW | RTLD_DEEPBIND);
}

static void
drops(void)
{
    void *lib = dlopen("deepbind_calls.so", RTLD_LAZY), *deep = dlopen("deepbind_drops.so", RTLD_LAZY | RTLD_DEEPBIND);
    MUST(lib && deep);
    int (*ordinary)(int) = dlsym(lib, "calls"), (*apart)(int) = dlsym(deep, "calls");
    say("the program's: %d, libc's: %d\n", ordinary(-1), apart(-1));
}

/* As in the program that defines none by that name: this one asks for what is before libc's. */
static void
order(void)
{
    void *lib = dlopen("deepbind_order.so", RTLD_NOW | RTLD_DEEPBIND);
    MUST(lib);
    void *(*mine)(void) = dlsym(lib, "mine");
    say("others: %d\n", mine() != dlsym(RTLD_NEXT, "sockatmark"));
}

/* Every other round each thread loads another library. */
static void *
load_many(void *me)
{
    long others = 0;
    for (size_t i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&together);
        void *lib = dlopen(libraries[(i + i % 2 * (size_t)me) % THREADS], RTLD_NOW | RTLD_DEEPBIND);
        MUST(lib);
        void *const *deep = dlsym(lib, "deep");
        MUST(deep);
        others += deep[2] != (void *)read || deep[3] != (void *)write;
        pthread_barrier_wait(&together);
        dlclose(lib);
    }
    return (void *)others;
}

static void
threads(void)
{
    pthread_t t[THREADS];
    MUST(pthread_barrier_init(&together, NULL, THREADS) == 0);
    for (size_t i = 0; i < THREADS; i++)
        MUST(pthread_create(&t[i], NULL, load_many, (void *)i) == 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *others;
        MUST(pthread_join(t[i], &others) == 0);
        say("functions of others: %ld\n", (long)others);
    }
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    if (!getenv("LD_LIBRARY_PATH"))
        again(argv);
    if (strcmp(app_mode, "order") == 0) {
        order();
        return 0;
    }
    if (strcmp(app_mode, "drops") == 0) {
        drops();
        return 0;
    }
    if (strcmp(app_mode, "threads") == 0) {
        threads();
        return 0;
    }
    void *lib = NULL;
    if (strcmp(app_mode, "small") == 0) {
        pthread_t t;
        pthread_attr_t a;
        long least = CK(sysconf(_SC_THREAD_STACK_MIN));
        MUST(pthread_attr_init(&a) == 0);
        MUST(pthread_attr_setstacksize(&a, (size_t)(least > STACK ? least : STACK)) == 0);
        MUST(pthread_create(&t, &a, load, NULL) == 0 && pthread_join(t, &lib) == 0);
    } else {
        lib = load(NULL);
    }
    say("%s\n", lib ? "loaded" : dlerror());
    MUST(lib);
    int (*own)(int, void *, void *) = dlsym(lib, "getsockname");
    const struct { void *dial, *answer, *get, *put; int (*marks)(int), (*kinds)(int); } *deep = dlsym(lib, "deep");
    MUST(own && deep);
    say("its own: %d, by itself: %d\n", own(0, NULL, NULL), deep->kinds(0));
    return 0;
}
