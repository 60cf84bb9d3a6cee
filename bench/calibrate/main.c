/* SPDX-License-Identifier: Apache-2.0
 *
 * calibrate [--json] [NAME...]: this machine's limits, all or those whose names begin so, as a table or as JSON:
 * nanoseconds, the median of several repeats,
 * the fastest one, and the spread (from the first to the third quartile, as a share of the median).
 */
#include "bench/calibrate/calibrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPEAT_NS 20e6

static bool json;
static unsigned printed;
static char **wanted; /* NULL ends it */

static double
now_ns(enum clock_kind clock)
{
    struct timespec t;
    clock_gettime(clock == CLOCK_CPU ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void
print(const char *name, const double *v)
{
    double median = v[REPEATS / 2], spread = (v[REPEATS * 3 / 4] - v[REPEATS / 4]) / median;
    if (json) {
        printf("%s\"%s\": {\"ns\": %.3f, \"least\": %.3f, \"spread\": %.4f}", printed++ > 0 ? ",\n " : "{", name, median,
               v[0], spread);
    } else {
        printf("%-28s %12.1f %12.1f %8.1f %%\n", name, median, v[0], spread * 100);
    }
    fflush(stdout);
}

static bool
is_wanted(const char *name)
{
    bool found = !*wanted;
    for (char **w = wanted; *w && !found; w++) {
        found = strncmp(name, *w, strlen(*w)) == 0;
    }
    return found;
}

void
measure(const char *name, enum clock_kind clock, double parts, measure_fn *fn, void *arg)
{
    double took[REPEATS];
    unsigned times = 1;
    if (!is_wanted(name)) {
        return;
    }
    for (double t = 0; t < REPEAT_NS / 2 && times < 1u << 30; times *= 2) {
        double from = now_ns(clock);
        if (!fn(arg, times)) {
            fprintf(stderr, "calibrate: %s: not here\n", name);
            return;
        }
        t = now_ns(clock) - from;
    }
    for (int i = 0; i < REPEATS; i++) {
        double from = now_ns(clock);
        (void)fn(arg, times);
        took[i] = (now_ns(clock) - from) / times / parts;
    }
    qsort(took, REPEATS, sizeof(took[0]), by_value);
    print(name, took);
}

int
main(int argc, char **argv)
{
    json = argc > 1 && strcmp(argv[1], "--json") == 0;
    wanted = argv + (json ? 2 : 1);
    if (*wanted && **wanted == '-') {
        fputs("usage: calibrate [--json] [NAME...]\n", stderr);
        return 2;
    }
    if (!json) {
        printf("%-28s %12s %12s %10s\n", "", "median ns", "least ns", "spread");
    }
    calibrate_kernel();
    calibrate_crypto();
    if (json) {
        puts(printed > 0 ? "}" : "{}");
    }
    return 0;
}
