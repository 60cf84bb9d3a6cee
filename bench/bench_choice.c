/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_choice: what the choice of an endpoint costs, and a publication: 10,000 endpoints in 1,000 services,
 * each with an address. Prints the fastest of several rounds, for a machine that does other things too.
 * bench_choice [NAME...]: of these algorithms, or of all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/snap_cache.h"
#include "meshd/registry/pool.h"
#include "shim/core/rand.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/pick.h"
#include "tests/unit/snap_kit.h"

#define SERVICES  1000u
#define ENDPOINTS 10u /* each */
#define CHOICES   20000u
#define ROUNDS    20
#define AREA      (8u << 20)
#define SIZE      1021u /* of the tables of ring_hash and maglev: 16 MiB are there for all services */

static struct mesh_snap_cache cache; /* as shim/link/link.c has one */

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return 1;
}

const char *
shim_link_id(void)
{
    return "spiffe://mesh.local/ns/default/sa/client";
}

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct mesh_addr
address_of(uint32_t service)
{
    return (struct mesh_addr){
        .ip = {[10] = 0xff, [11] = 0xff, 10, 100, (uint8_t)(service >> 8), (uint8_t)service}, .port = 80};
}

static void
add_service(uint32_t k, enum mesh_lb lb)
{
    struct mesh_snap_service s = {.load_balancer = (uint8_t)lb, .max_attempts = 3, .connect_timeout_ms = 5000,
                                  .panic_threshold = 50, .hash = {.term = {MESH_HASH_SOURCE_IDENTITY + 1,
                                                                           MESH_HASH_DESTINATION_IP + 1}}};
    snprintf(s.name, sizeof(s.name), "service-%u", k);
    snprintf(s.id, sizeof(s.id), "spiffe://mesh.local/ns/default/sa/service-%u", k);
    (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &s);
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        struct mesh_snap_endpoint e = {.port = 80, .mode = MESH_MODE_STRICT, .service = k, .netns = 1,
                                       .id = k * ENDPOINTS + i + 1};
        memcpy(e.addr, address_of(k).ip, 16);
        e.addr[13] = (uint8_t)i;
        (void)meshd_snapfile_endpoint(&e);
    }
    struct mesh_addr a = address_of(k);
    struct mesh_snap_endpoint front = {.port = a.port, .flags = MESH_EP_SERVICE, .service = k};
    memcpy(front.addr, a.ip, 16);
    (void)meshd_snapfile_endpoint(&front);
    kit_group(k, 0, 0, &(struct kit_tier){.first = k * (ENDPOINTS + 1), .count = ENDPOINTS, .healthy = ENDPOINTS,
                                      .size = lb == MESH_LB_RING_HASH ? SIZE / ENDPOINTS : SIZE}, 1);
}

static double
publish(enum mesh_lb lb)
{
    struct mesh_snap_settings set;
    double from = now();
    mesh_snap_settings_default(&set);
    meshd_snapfile_begin();
    for (uint32_t k = 0; k < SERVICES; k++) {
        add_service(k, lb);
    }
    if (meshd_snapfile_commit(&set) != MESH_OK) {
        fprintf(stderr, "bench_choice: the snapshot does not fit\n");
        exit(1);
    }
    return now() - from;
}

static double
choose(const struct mesh_snap *snap)
{
    double from = now();
    for (uint32_t i = 0; i < CHOICES; i++) {
        struct shim_pick p = {.netns = 1, .family = AF_INET};
        struct shim_candidate c;
        struct mesh_snap_hit hit;
        struct mesh_addr to = address_of(i * 7 % SERVICES);
        if (shim_pick(&p, snap, &to, &hit, &c) != MESH_OK) {
            fprintf(stderr, "bench_choice: no endpoint\n");
            exit(1);
        }
    }
    return (now() - from) / CHOICES;
}

/* Of one service alone: its three endpoints are others each time. */
static double
make_table(enum mesh_lb lb)
{
    const struct meshd_table_rule how = {(uint8_t)lb, 1024, 1u << 20, 65537};
    double best = 1e18;
    for (uint8_t i = 0; i < ROUNDS; i++) {
        struct meshd_table_member m[3] = {{.weight = 1}, {.weight = 1}, {.weight = 1}};
        for (uint8_t k = 0; k < 3; k++) {
            m[k].addr = (struct mesh_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, i, k}, .port = 80};
        }
        double from = now();
        free(meshd_table_make(&how, m, 3));
        double took = now() - from;
        best = took < best ? took : best;
    }
    return best;
}

static void
measure(enum mesh_lb lb, const char *name)
{
    double best = 1e18, written = 1e18, first = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double w = publish(lb);
        struct mesh_snap snap = meshd_snapfile_view();
        snap.cache = &cache;
        double c = choose(&snap);
        first = i == 0 ? w : first;
        written = w < written ? w : written;
        best = c < best ? c : best;
    }
    printf("%-14s %u endpoints in %u services: %.0f ns a choice; published in %.1f ms", name, SERVICES * ENDPOINTS, SERVICES,
           best, written / 1e6);
    if (mesh_hash_is_used(lb)) {
        struct meshd_pool_info pool;
        meshd_pool_info(&pool);
        printf(", with all tables new in %.1f ms; %u tables, %.1f MiB; one of default size in %.2f ms", first / 1e6,
               pool.tables, (double)pool.used / (1 << 20), make_table(lb) / 1e6);
    }
    printf("\n");
}

static bool
is_asked(const char *name, char **names)
{
    bool all = !*names;
    while (*names && strcmp(*names, name) != 0) {
        names++;
    }
    return all || *names;
}

int
main(int argc, char **argv)
{
    static const char *const names[] = {"least_request", "round_robin", "random", "peak_ewma", "ring_hash", "maglev"};
    char dir[] = "/tmp/bench_choice.XXXXXX", path[64], copy[80];
    (void)argc;
    shim_real_init();
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    snprintf(copy, sizeof(copy), "%s.copy", path);
    if (meshd_snapfile_open(path, AREA) != MESH_OK) {
        return 1;
    }
    for (unsigned lb = 0; lb < MESH_LB_COUNT; lb++) {
        if (is_asked(names[lb], argv + 1)) {
            measure((enum mesh_lb)lb, names[lb]);
        }
    }
    meshd_snapfile_close();
    (void)unlink(path);
    (void)unlink(copy);
    return rmdir(dir) == 0 ? 0 : 1;
}
