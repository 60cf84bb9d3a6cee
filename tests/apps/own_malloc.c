/* SPDX-License-Identifier: Apache-2.0
 *
 * own_malloc: a program with a malloc of its own, which counts. After the first connection no call on
 * sockets allocates or frees: these calls may come from a signal handler above malloc, and a program's
 * heap is its own. Both ends are in this process, each with its own count. keys: the program has used up
 * the thread-specific keys whose values need no memory [pthread_setspecific(3)].
 */
/* run: modes plain keys */
/* run: notsan (the sanitizer needs its own malloc) */
/* cc: -fno-builtin */
#include "app.h"

#define ROUNDS 20

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t a, size_t n);
void __libc_free(void *p);

/* Volatile: libc declares of most calls that they never come back into this file. */
static __thread const char *volatile doing; /* NULL: nobody counts */
static __thread volatile int calls;

static void
count(void)
{
    calls += doing != NULL;
}

void *
malloc(size_t n)
{
    count();
    return __libc_malloc(n);
}

void *
calloc(size_t n, size_t m)
{
    count();
    return __libc_calloc(n, m);
}

void *
realloc(void *p, size_t n)
{
    count();
    return __libc_realloc(p, n);
}

void *
aligned_alloc(size_t a, size_t n)
{
    count();
    return __libc_memalign(a, n);
}

int
posix_memalign(void **p, size_t a, size_t n)
{
    count();
    *p = __libc_memalign(a, n);
    return *p ? 0 : ENOMEM;
}

void
free(void *p)
{
    count();
    __libc_free(p);
}

/* The value of a call, and one line if it allocated. */
#define QUIET(call)                                                                                \
    ({                                                                                             \
        doing = #call;                                                                             \
        long q_r_ = (long)(call);                                                                  \
        doing = NULL;                                                                              \
        if (calls)                                                                                 \
            say("%s: allocates\n", #call);                                                         \
        calls = 0;                                                                                 \
        CK(q_r_);                                                                                  \
    })

static int lfd;

static void
talk(int fd, int first)
{
    static __thread char big[40000];
    char b[3] = "abc";
    struct pollfd p = {fd, POLLIN, 0};
    if (first)
        QUIET(send(fd, b, sizeof b, 0));
    QUIET(poll(&p, 1, APP_WAIT));
    MUST(QUIET(recv(fd, b, sizeof b, MSG_WAITALL)) == 3);
    if (!first)
        QUIET(write(fd, b, sizeof b));
    if (first)
        MUST(QUIET(send(fd, big, sizeof big, 0)) == sizeof big);
    else
        MUST(QUIET(recv(fd, big, sizeof big, MSG_WAITALL)) == sizeof big);
    QUIET(shutdown(fd, SHUT_WR));
    MUST(QUIET(read(fd, b, 1)) == 0);
    QUIET(close(fd));
}

static void *
server(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct sockaddr_in sa;
        socklen_t len = sizeof sa;
        int fd = (int)QUIET(accept(lfd, (struct sockaddr *)&sa, &len));
        QUIET(getpeername(fd, (struct sockaddr *)&sa, &len));
        talk(fd, 0);
    }
    return arg;
}

/* The first and last calls of a listener, on all interfaces too. */
static void
listener(uint32_t at)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(at)};
    int fd = (int)QUIET(socket(AF_INET, SOCK_STREAM, 0));
    QUIET(bind(fd, (struct sockaddr *)&sa, sizeof sa));
    QUIET(listen(fd, 5));
    QUIET(close(fd));
}

int
main(int argc, char **argv)
{
    pthread_t t;
    int a, b;
    app_main(argc, argv);
    for (int i = 0; strcmp(app_mode, "keys") == 0 && i < 40; i++) {
        pthread_key_t k;
        MUST(pthread_key_create(&k, NULL) == 0);
    }
    app_pair(&a, &b);
    lfd = app_listen();
    MUST(pthread_create(&t, NULL, server, NULL) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)QUIET(socket(AF_INET, SOCK_STREAM, 0));
        if (i % 2) {
            QUIET(fcntl(fd, F_SETFL, O_NONBLOCK));
            MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
            struct pollfd p = {fd, POLLOUT, 0};
            QUIET(poll(&p, 1, APP_WAIT));
            QUIET(fcntl(fd, F_SETFL, 0));
        } else {
            QUIET(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
        }
        talk(fd, 1);
    }
    MUST(pthread_join(t, NULL) == 0);
    listener(INADDR_LOOPBACK);
    listener(INADDR_ANY);
    say("counted: %s\n", (doing = "", free(malloc(1)), doing = NULL, calls) == 2 ? "yes" : "no");
    return 0;
}
