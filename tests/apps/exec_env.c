/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_env: a program executes another with an environment of its own, or with none; that one
 * connects back. It belongs to the mesh as its parent does, whatever way it was started.
 */
/* run: modes execve execle execvpe fexecve execveat number numberat spawn spawnp system popen */
#include "app.h"
#include <spawn.h>

static char self[4096], port[12];

static void
become(void)
{
    char *args[] = {self, "client", port, NULL}, *none[] = {NULL}, *own[] = {"A=1", "B=2", NULL};
    if (strcmp(app_mode, "execve") == 0)
        execve(self, args, none);
    else if (strcmp(app_mode, "execle") == 0)
        execle(self, self, "client", port, (char *)NULL, own);
    else if (strcmp(app_mode, "execvpe") == 0)
        execvpe(self, args, own);
    else if (strcmp(app_mode, "fexecve") == 0)
        fexecve(open(self, O_RDONLY | O_CLOEXEC), args, own);
    else if (strcmp(app_mode, "number") == 0)
        syscall(SYS_execve, self, args, own);
    else if (strcmp(app_mode, "numberat") == 0)
        syscall(SYS_execveat, AT_FDCWD, self, args, own, 0);
    else
        execveat(AT_FDCWD, self, args, own, 0);
    _exit(9);
}

static int
start(void)
{
    char *args[] = {self, "client", port, NULL}, *own[] = {"A=1", NULL}, command[5000];
    int st = 0;
    pid_t pid = 0;
    snprintf(command, sizeof command, "exec %s client %s", self, port);
    if (strcmp(app_mode, "system") == 0)
        return system(command);
    if (strcmp(app_mode, "popen") == 0) {
        FILE *f = popen(command, "w");
        MUST(f != NULL);
        return pclose(f);
    }
    if (strcmp(app_mode, "spawn") == 0)
        MUST(posix_spawn(&pid, self, NULL, NULL, args, own) == 0);
    else if (strcmp(app_mode, "spawnp") == 0)
        MUST(posix_spawnp(&pid, self, NULL, NULL, args, own) == 0);
    else if ((pid = (pid_t)CK(fork())) == 0)
        become();
    CK(waitpid(pid, &st, 0));
    return st;
}

static int
client(const char *to)
{
    char b[100] = "";
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = (in_port_t)atoi(to),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || write(fd, "hello", 5) != 5)
        return 1;
    shutdown(fd, SHUT_WR);
    return read(fd, b, sizeof b) == 5 && memcmp(b, "hello", 5) == 0 ? 0 : 2;
}

static void
server(int lfd)
{
    char b[100];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("got %zu\n", app_get(fd, b, 5));
    app_put(fd, b, 5);
    say("end %zd\n", read(fd, b, 1));
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    if (argc > 2)
        return client(argv[2]);
    app_main(argc, argv);
    MUST(realpath(argv[0], self) != NULL);
    int lfd = app_listen();
    snprintf(port, sizeof port, "%d", app_addr.sin_port);
    clearenv();
    app_start_thread(&t, server, lfd);
    say("ended with %d\n", start());
    app_join(&t, "server");
    return 0;
}
