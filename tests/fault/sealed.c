/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed PORT LIBRARY: has a connection, then takes from itself the right to make memory writable again, and loads the
 * library with RTLD_DEEPBIND.
 */
/* cc: -ldl */
#include "app.h"

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>

int
main(int argc, char **argv)
{
    struct sock_filter no[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {sizeof no / sizeof *no, no};
    MUST(argc == 3);
    app_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = app_connect();
    CK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
    say("%s\n", dlopen(argv[2], RTLD_NOW | RTLD_DEEPBIND) ? "loaded" : dlerror());
    close(fd);
    return 0;
}
