/* SPDX-License-Identifier: Apache-2.0
 *
 * plainfd: what a read and a write on a descriptor that is no mesh socket cost, in nanoseconds a
 * call: the tenth percentile of many short runs over /dev/null and /dev/zero, where the kernel does
 * next to nothing. Run bare and under libmesh by bench/run.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 501, CALLS = 2000 };

static double
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nanoseconds a call for CALLS / 2 times write and read of one byte. */
static double
run(int in, int out)
{
    char c = 'x';
    double start = now_ns();
    for (int i = 0; i < CALLS / 2; i++) {
        if (write(out, &c, 1) != 1 || read(in, &c, 1) != 1) {
            exit(1);
        }
    }
    return (now_ns() - start) / CALLS;
}

int
main(void)
{
    static double took[RUNS];
    int in = open("/dev/zero", O_RDONLY), out = open("/dev/null", O_WRONLY);
    if (in < 0 || out < 0) {
        return 1;
    }
    for (int i = 0; i < RUNS; i++) {
        took[i] = run(in, out);
    }
    qsort(took, RUNS, sizeof(took[0]), compare);
    printf("%.1f\n", took[RUNS / 10]);
    return 0;
}
