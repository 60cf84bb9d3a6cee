/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_count: what counting costs a program for one request, that is, for one receive and one send: the same
 * additions to a statistics page that shim/flow/rx.c and tx.c make, by the same functions, from many connections in
 * turn. Prints nanoseconds: the tenth percentile of many short runs, for a machine that does other things too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "shim/core/stat.h"

enum { RUNS = 501, REQUESTS = 2000, CONNECTIONS = 50 };

static struct shim_slot slots[CONNECTIONS];

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

/* As rx.c: a record was opened, and the call gave so many bytes. */
static void
count_receive(const struct shim_slot *s, size_t n)
{
    shim_stat_add(MESH_STAT_RX_RECORDS, 1);
    struct mesh_page_conn *c = shim_stat_conn(s);
    shim_stat_add(MESH_STAT_RX_BYTES, n);
    if (c) {
        atomic_fetch_add_explicit(&c->rx_bytes, n, memory_order_relaxed);
    }
}

/* As tx.c. */
static void
count_send(const struct shim_slot *s, size_t n)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    shim_stat_add(MESH_STAT_TX_BYTES, n);
    shim_stat_add(MESH_STAT_TX_RECORDS, 1);
    if (c) {
        atomic_fetch_add_explicit(&c->tx_bytes, n, memory_order_relaxed);
    }
}

static double
run(void)
{
    double start = now_ns();
    for (unsigned i = 0; i < REQUESTS; i++) {
        count_receive(&slots[i % CONNECTIONS], 64);
        count_send(&slots[i % CONNECTIONS], 64);
    }
    return (now_ns() - start) / REQUESTS;
}

int
main(void)
{
    static double took[RUNS];
    struct mesh_page *page = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return 1;
    }
    shim_stat_page(page);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        atomic_store(&slots[i].cookie, i + 1);
        shim_stat_conn_new(&slots[i], "", 1);
        if (!shim_stat_conn(&slots[i])) {
            fputs("bench_count: a connection is not listed\n", stderr);
            return 1;
        }
    }
    for (unsigned i = 0; i < RUNS; i++) {
        took[i] = run();
    }
    qsort(took, RUNS, sizeof(took[0]), compare);
    if (atomic_load(&page->stat[MESH_STAT_RX_RECORDS]) != (uint64_t)RUNS * REQUESTS) {
        fputs("bench_count: not everything was counted\n", stderr);
        return 1;
    }
    printf("%.1f\n", took[RUNS / 10]);
    return 0;
}
