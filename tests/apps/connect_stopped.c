/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_stopped: a client is stopped while it is in a blocking connect; the connection comes about without it, and
 * the server, which speaks first, does so long before the client goes on. It must find the server's words all the same.
 * The delay is the subject.
 */
#include "app_proc.h"

/* In the kernel's connect to our port, unanswered: state SYN_SENT [proc_net_tcp]. */
static int
is_connecting(void)
{
    char line[256];
    unsigned port, state, found = 0;
    FILE *f = fopen("/proc/self/net/tcp", "re");
    MUST(f);
    while (fgets(line, sizeof line, f))
        found |= sscanf(line, "%*s %*s %*[0-9A-F]:%x %x", &port, &state) == 2 && port == ntohs(app_addr.sin_port) && state == 2;
    fclose(f);
    return found != 0;
}

static void
client(int lfd)
{
    char b[16];
    close(lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    say("greeting of %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    app_put(fd, b, sizeof b);
    close(fd);
    exit(0);
}

int
main(void)
{
    char b[16];
    int lfd = app_listen_at(INADDR_LOOPBACK, 0, &app_addr), st;
    int first = app_connect(); /* the backlog is full */
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        client(lfd);
    while (!is_connecting())
        CK(poll(NULL, 0, 5));
    CK(kill(pid, SIGSTOP));
    CK(waitpid(pid, &st, WUNTRACED));
    int s1 = (int)CK(accept(lfd, NULL, NULL));
    MUST(app_poll(lfd, POLLIN, APP_WAIT) == POLLIN); /* the kernel has sent its SYN again */
    int s2 = (int)CK(accept(lfd, NULL, NULL));
    app_fill(b, sizeof b, 0);
    app_put(s2, b, sizeof b);
    CK(poll(NULL, 0, 800));
    CK(kill(pid, SIGCONT));
    say("answer of %zu\n", app_get(s2, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    say("end %zu\n", app_get(s2, b, 1));
    app_ended("client", pid);
    close(first);
    close(s1);
    return 0;
}
