/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_race: threads that connect the same socket at the same time, to a service (meshd.conf) and to the address of
 * its endpoint. Whoever is first begins the connection and the others find it begun, as the kernel counts: none
 * of them takes it away again, and what is sent then is answered.
 */
/* run: modes service endpoint */
/* run: timeout 60 */
#include "app.h"

#define ADDRESS  21060
#define ENDPOINT 21061
#define ROUNDS   150
#define THREADS  3

static pthread_barrier_t start, end;
static struct sockaddr_in to;
static int fd;
static int result[THREADS]; /* errno */

static struct sockaddr_in
at(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(0x7f480001)};
}

static int
listen_at(int port)
{
    struct sockaddr_in sa = at(port);
    int one = 1, lfd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    CK(bind(lfd, (struct sockaddr *)&sa, sizeof sa));
    CK(listen(lfd, 64));
    return lfd;
}

static void
serve(int gate)
{
    struct pollfd p[2] = {{listen_at(ADDRESS), POLLIN, 0}, {listen_at(ENDPOINT), POLLIN, 0}};
    app_open(gate);
    while (CK(poll(p, 2, -1)) > 0) {
        for (int i = 0; i < 2; i++) {
            char b[20];
            int c = p[i].revents ? (int)CK(accept(p[i].fd, NULL, NULL)) : -1;
            if (c >= 0 && recv(c, b, sizeof b, MSG_WAITALL) == (ssize_t)sizeof b)
                app_put(c, b, sizeof b);
            if (c >= 0)
                close(c);
        }
    }
}

static void *
connects(void *arg)
{
    int *r = arg;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        pthread_barrier_wait(&start);
        *r = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? 0 : errno;
        pthread_barrier_wait(&end);
    }
    return NULL;
}

/* Blocking: who waited for it has it; who came afterwards is told that it is there. Or else one begins it, and the
 * others find it under way, or there. */
static int
count_odd(int type)
{
    int odd = 0, first = 0;
    for (int i = 0; i < THREADS; i++) {
        int r = result[i];
        first += r == (type ? EINPROGRESS : 0);
        if (r != 0 && r != EISCONN && (!type || (r != EINPROGRESS && r != EALREADY))) {
            printf("connect: %s\n", strerrorname_np(r));
            odd++;
        }
    }
    return odd + (type ? first != 1 : first == 0);
}

static int
is_answered(void)
{
    char b[20];
    app_nonblock(fd, 0);
    app_fill(b, sizeof b, 0);
    return send(fd, b, sizeof b, MSG_NOSIGNAL) == (ssize_t)sizeof b &&
           recv(fd, b, sizeof b, MSG_WAITALL) == (ssize_t)sizeof b && app_match(b, sizeof b, 0) == sizeof b;
}

static void
race(const char *what, int type)
{
    int odd = 0, answered = 0;
    for (int i = 0; i < ROUNDS; i++) {
        fd = (int)CK(socket(AF_INET, SOCK_STREAM | type, 0));
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&end);
        odd += count_odd(type);
        app_poll(fd, POLLOUT, APP_WAIT);
        answered += is_answered();
        CK(close(fd));
    }
    say("%s: %d odd results, %d of %d answered\n", what, odd, answered, ROUNDS);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int gate = app_gate();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        serve(gate);
    app_pass(gate);
    to = at(strcmp(app_mode, "service") == 0 ? ADDRESS : ENDPOINT);
    pthread_barrier_init(&start, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_create(&t[i], NULL, connects, &result[i]) == 0);
    race("blocking", 0);
    race("non-blocking", SOCK_NONBLOCK);
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_join(t[i], NULL) == 0);
    CK(kill(pid, SIGKILL));
    CK(waitpid(pid, NULL, 0));
    return 0;
}
