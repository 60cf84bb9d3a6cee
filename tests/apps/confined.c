/* SPDX-License-Identifier: Apache-2.0
 *
 * confined: a program with connections takes rights, files and room away from itself; what it has goes
 * on, and so do new connections to and from it, where its socket calls still work as ever. What needs
 * root is left out without it, bare and meshed.
 *
 * mlock: with MCL_FUTURE a mapping becomes resident as a whole; what a connection needs stays small.
 */
/* run: modes uid chroot dumpable fsize nofile as mlock netns pidns userns back */
#include "app_proc.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static int c, s, lfd;

static void
new_connection(void)
{
    int p[2] = {lfd, -1};
    pthread_t t;
    MUST(pthread_create(&t, NULL, app_pair_accept, p) == 0);
    int fd = app_connect();
    MUST(pthread_join(t, NULL) == 0);
    app_both_ways(fd, p[1]);
    RES(close(fd));
    RES(close(p[1]));
}

static void
limit(int what, rlim_t to)
{
    struct rlimit l = {to, to};
    CK(setrlimit(what, &l));
}

static long
status_kb(const char *what)
{
    char line[200];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    MUST(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, what, strlen(what)) == 0)
            kb = atol(line + strlen(what));
    fclose(f);
    return kb;
}

static void
of_a_child(void)
{
    int st = 0;
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        say("process %d\n", getpid());
        app_both_ways(c, s);
        new_connection();
        fflush(stdout);
        _exit(0);
    }
    CK(waitpid(pid, &st, 0));
    say("status %x\n", (unsigned)st);
}

static char image[PATH_MAX];

/* At the address of our listener, but in this namespace, is one that has nothing to do with it. */
static void
stranger(void)
{
    char port[12], ready[12], b[3000];
    int gate = app_gate(), st = 0;
    char *args[] = {image, "listen", port, ready, NULL};
    snprintf(port, sizeof port, "%d", ntohs(app_addr.sin_port));
    snprintf(ready, sizeof ready, "%d", gate);
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        execv(image, args);
        _exit(9);
    }
    app_pass(gate);
    int fd = app_connect();
    app_fill(b, sizeof b, 0);
    app_put(fd, b, sizeof b);
    size_t n = app_get(fd, b, sizeof b);
    say("stranger's answer %zu of %zu\n", app_match(b, n, 0), n);
    close(fd);
    CK(waitpid(pid, &st, 0));
    say("status %x\n", (unsigned)st);
    close(gate);
}

/* The socket of before stays where it was made; loopback is another one now, on which nobody listens
 * until we do. */
static void
other_network(int back)
{
    int old = (int)CK(open("/proc/self/ns/net", O_RDONLY));
    int before = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    RES(unshare(CLONE_NEWNET));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    app_loopback_up("lo", "127.0.0.1");
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    close(fd);
    stranger();
    RES(connect(before, (struct sockaddr *)&app_addr, sizeof app_addr));
    int peer = (int)CK(accept(lfd, NULL, NULL));
    app_both_ways(before, peer);
    close(before);
    close(peer);
    int there = lfd;
    struct sockaddr_in at = app_addr;
    lfd = app_listen();
    new_connection();
    if (back) {
        CK(setns(old, 0));
        close(lfd);
        lfd = there;
        app_addr = at;
        new_connection();
    }
}

static void
confine(void)
{
    if (strcmp(app_mode, "uid") == 0) {
        if (getuid() == 0) {
            CK(setgid(65534));
            CK(setuid(65534));
        }
    } else if (strcmp(app_mode, "chroot") == 0) {
        static const char dir[] = "/tmp"; /* nothing of /proc, /usr or the mesh is in it */
        if (getuid() == 0) {
            CK(unshare(CLONE_NEWNS));
            CK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
            CK(mount(dir, dir, NULL, MS_BIND, NULL));
            CK(mount(NULL, dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
            CK(chroot(dir));
            CK(chdir("/"));
        }
    } else if (strcmp(app_mode, "dumpable") == 0) {
        CK(prctl(PR_SET_DUMPABLE, 0));
    } else if (strcmp(app_mode, "fsize") == 0) {
        limit(RLIMIT_FSIZE, 4096);
    } else if (strcmp(app_mode, "nofile") == 0) {
        limit(RLIMIT_NOFILE, 16);
    } else if (strcmp(app_mode, "as") == 0) {
        limit(RLIMIT_AS, (rlim_t)status_kb("VmSize:") * 1024 + (600 << 20));
    } else if (strcmp(app_mode, "pidns") == 0) {
        if (getuid() == 0) {
            CK(unshare(CLONE_NEWPID));
            of_a_child();
        }
    } else if (strcmp(app_mode, "userns") == 0) {
        RES(unshare(CLONE_NEWUSER));
    } else if (getuid() == 0) {
        other_network(strcmp(app_mode, "back") == 0);
    }
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_image(image, "static_image");
    if (strcmp(app_mode, "fsize") == 0)
        confine(); /* before the first connection, too */
    if (strcmp(app_mode, "mlock") == 0) {
        limit(RLIMIT_CORE, 0);
        CK(mlockall(MCL_CURRENT | MCL_FUTURE));
        long before = status_kb("VmRSS:");
        app_pair(&c, &s);
        app_both_ways(c, s);
        say("stays small %d\n", status_kb("VmRSS:") - before < 60000);
        return 0;
    }
    app_pair(&c, &s);
    lfd = app_listen();
    app_both_ways(c, s);
    confine();
    app_both_ways(c, s);
    if (strcmp(app_mode, "pidns") != 0) { /* no more threads after that */
        new_connection();
        new_connection();
    }
    RES(close(c));
    app_drain(s, 0);
    RES(close(s));
    return 0;
}
