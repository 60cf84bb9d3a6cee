/* SPDX-License-Identifier: Apache-2.0
 *
 * uring [AGAIN]: asks for io_uring by instruction, past every library, in this thread, in another one
 * and in an image that it executes; says what the kernel answers, and how many filters there are.
 */
#include "app.h"

static long
bare_setup(void)
{
#if defined(__x86_64__)
    long r;
    register long r10 __asm__("r10") = 0;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(425L), "D"(0L), "S"(0L), "d"(0L), "r"(r10)
                     : "rcx", "r11", "memory");
    return r;
#else
    register long x8 __asm__("x8") = 425;
    register long x0 __asm__("x0") = 0;
    register long x1 __asm__("x1") = 0;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
    return x0;
#endif
}

static void *
ask(void *arg)
{
    (void)arg;
    say("%s\n", strerrorname_np((int)-bare_setup()));
    return NULL;
}

static void
filters(void)
{
    char line[200];
    FILE *f = fopen("/proc/self/status", "r");
    MUST(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "Seccomp_filters:", 16) == 0 || strncmp(line, "NoNewPrivs:", 11) == 0)
            say("%.11s %d\n", line, atoi(strchr(line, ':') + 1));
    fclose(f);
}

int
main(int argc, char **argv)
{
    pthread_t t;
    ask(NULL);
    MUST(pthread_create(&t, NULL, ask, NULL) == 0);
    MUST(pthread_join(t, NULL) == 0);
    filters();
    fflush(stdout);
    if (argc == 1)
        execl(argv[0], argv[0], "again", NULL);
    return 0;
}
