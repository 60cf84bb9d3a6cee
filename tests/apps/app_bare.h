/* SPDX-License-Identifier: Apache-2.0
 *
 * app_bare: a client that libmesh is not in: it connects by instruction.
 */
#ifndef APP_BARE_H
#define APP_BARE_H

#include "app.h"

/* connect() to app_addr. */
APP_FN long
app_bare_connect(int fd)
{
    const void *sa = &app_addr;
    long len = sizeof app_addr;
#if defined(__x86_64__)
    long r;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(SYS_connect), "D"(fd), "S"(sa), "d"(len)
                     : "rcx", "r11", "memory");
    return r;
#else
    register long x8 __asm__("x8") = SYS_connect;
    register long x0 __asm__("x0") = fd;
    register long x1 __asm__("x1") = (long)sa;
    register long x2 __asm__("x2") = len;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#endif
}

APP_FN int
app_bare_client(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(app_bare_connect(fd));
    return fd;
}

#endif
