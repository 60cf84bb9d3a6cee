/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd: one per host: certificates, endpoints and policy out, statistics in. Foreground, one thread,
 * one event loop. This file reads the command line, starts the modules in order, and ends them in
 * reverse; SIGTERM and SIGINT stop, SIGHUP reloads, SIGUSR1 opens the access log anew.
 */
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meshd/admin/admin.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/base/server.h"
#include "meshd/ctl/ctl.h"
#include "meshd/discovery/confwatch.h"
#include "meshd/discovery/dns.h"
#include "meshd/health/health.h"
#include "meshd/ident/ca.h"
#include "meshd/ident/handoff.h"
#include "meshd/policy/config.h"
#include "meshd/policy/schema.h"
#include "meshd/registry/lent.h"
#include "meshd/registry/registry.h"
#include "meshd/serve.h"
#include "meshd/stats/stats.h"

#define DNS_PATIENCE_MS 1000u

struct options {
    const char *file, *run_dir;
    bool test;
};

static struct options opt;
static char sock_path[PATH_MAX];

static void
usage(FILE *to)
{
    fprintf(to, "usage: meshd [-c FILE] [-t] [--run-dir DIR]\n"
                "  -c, --config FILE  configuration; without it the built-in defaults\n"
                "  -t, --test         check the configuration and exit\n"
                "  --run-dir DIR      sockets and shared files; default /run/meshd as root,\n"
                "                     else $XDG_RUNTIME_DIR/meshd\n"
                "  --dump-defaults    print a commented configuration of the defaults\n"
                "  --dump-reference   print the keys as they stand in meshd.conf(5)\n"
                "  -h, --help         this text\n");
}

/* An exit status, or -1 to go on. */
static int
parse_options(int argc, char **argv)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"test", no_argument, NULL, 't'},
        {"run-dir", required_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'},
        {"dump-defaults", no_argument, NULL, 'D'}, {"dump-reference", no_argument, NULL, 'R'}, {0},
    };
    for (int c; (c = getopt_long(argc, argv, "c:th", longs, NULL)) != -1;) {
        switch (c) {
        case 'c':
            opt.file = optarg;
            break;
        case 't':
            opt.test = true;
            break;
        case 'r':
            opt.run_dir = optarg;
            break;
        case 'D':
            meshd_schema_dump(stdout, MESHD_DUMP_CONF);
            return 0;
        case 'R':
            meshd_schema_dump(stdout, MESHD_DUMP_MAN);
            return 0;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (optind < argc) {
        usage(stderr);
        return 2;
    }
    return -1;
}

static void
on_stop(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    (void)arg;
    log_info("signal %d: stopping", (int)sig);
    meshd_loop_stop();
}

static enum mesh_err
follow_configuration(void)
{
    meshd_stats_reload();
    enum mesh_err e = meshd_dns_reload();
    return e == MESH_OK ? meshd_registry_publish() : e;
}

static void
reload(void)
{
    meshd_confwatch_note();
    enum mesh_err e = meshd_config_reload();
    if (e == MESH_OK) {
        e = follow_configuration();
        meshd_config_settle(e == MESH_OK);
        if (e != MESH_OK && follow_configuration() != MESH_OK) {
            log_error("the old configuration's endpoints could not all be listed again");
        }
    }
    if (e != MESH_OK) {
        log_error("reload failed, the old configuration stays: %s", mesh_err_text(e));
    } else {
        log_info("configuration reloaded");
    }
}

static void
on_reload(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    (void)arg;
    reload();
}

static void
on_reopen(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    (void)arg;
    meshd_access_reopen();
}

static enum mesh_err
catch_signals(void)
{
    static const struct {
        int sig;
        event_callback_fn fn;
    } table[] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGHUP, on_reload}, {SIGUSR1, on_reopen}};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGIO, SIG_IGN); /* leases [stats/page.c] */
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct event *ev = evsignal_new(meshd_loop(), table[i].sig, table[i].fn, NULL);
        if (!ev || event_add(ev, NULL) != 0) {
            return MESH_E_NO_MEMORY;
        }
    }
    return MESH_OK;
}

/* Keys live in this process: no core dump, no ptrace by others of our uid; and a thousand clients
 * need descriptors. */
static void
set_limits(void)
{
    struct rlimit files, none = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0) {
        log_warn("core dumps cannot be switched off: %s", strerror(errno));
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
            log_warn("descriptor limit: %s", strerror(errno));
        }
    }
}

static void
on_process_gone(pid_t pid, uint64_t starttime)
{
    meshd_registry_gone(pid, starttime);
    meshd_stats_gone(pid, starttime);
}

static enum mesh_err
start_base(void)
{
    const char *run_dir = meshd_config_current()->run_dir;
    enum mesh_err e = meshd_dir_make(run_dir, 0755);
    if (e == MESH_OK) {
        e = meshd_dir_lock(run_dir);
    }
    if (e == MESH_OK) {
        e = meshd_loop_init();
    }
    if (e == MESH_OK) {
        e = catch_signals();
    }
    return e == MESH_OK ? meshd_proc_init(on_process_gone) : e;
}

/* The kernel loads its TLS on demand, but only for the privileged: so that programs find it there. The
 * socket is not connected; all that is wanted is the question. */
static void
ask_for_kernel_tls(void)
{
    int fd = meshd_config_current()->kernel_tls != MESH_KTLS_OFF
                 ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)
                 : -1;
    if (fd >= 0) {
        bool there = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4) != 0 && errno == ENOTCONN;
        log_debug("kernel TLS: %s", there ? "offered" : "not there");
        close(fd);
    }
}

static enum mesh_err
start_modules(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    enum mesh_err e = meshd_confwatch_init(reload);
    if (e == MESH_OK) {
        e = meshd_ca_init(cfg->state_dir, cfg->trust_domain);
    }
    ask_for_kernel_tls();
    if (e == MESH_OK) {
        e = meshd_stats_init(cfg->run_dir);
    }
    if (e == MESH_OK) {
        e = meshd_registry_init(cfg->run_dir);
    }
    if (e == MESH_OK) {
        e = meshd_health_init();
    }
    return e == MESH_OK ? meshd_dns_init() : e;
}

/* Last of all: whoever can connect finds everything ready. */
static enum mesh_err
start_sockets(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    if (!meshd_path(sock_path, sizeof(sock_path), cfg->run_dir, "meshd.sock")) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_ctl_init(cfg->run_dir);
    meshd_admin_init(cfg->admin_listen);
    return e == MESH_OK ? meshd_server_init(sock_path, meshd_serve) : e;
}

static void
stop_all(void)
{
    unlink(sock_path);
    meshd_server_fini();
    meshd_admin_fini();
    meshd_ctl_fini();
    meshd_handoff_fini();
    meshd_lent_fini();
    meshd_dns_fini();
    meshd_confwatch_fini();
    meshd_health_fini();
    meshd_registry_fini();
    meshd_stats_fini();
    meshd_ca_fini();
    meshd_proc_fini();
}

int
main(int argc, char **argv)
{
    int status = parse_options(argc, argv);
    if (status >= 0) {
        return status;
    }
    if (opt.test) {
        return meshd_config_test(opt.file, opt.run_dir) == MESH_OK ? 0 : 1;
    }
    set_limits();
    enum mesh_err e = meshd_config_load(opt.file, opt.run_dir);
    if (e == MESH_OK) {
        e = start_base();
    }
    if (e == MESH_OK) {
        e = start_modules();
    }
    bool go_on = e == MESH_OK && meshd_dns_await(DNS_PATIENCE_MS);
    if (go_on) {
        e = start_sockets();
    }
    if (e != MESH_OK) {
        log_error("cannot start: %s", mesh_err_text(e));
        return 1;
    }
    if (go_on) {
        log_info("ready: %s, trust domain %s", sock_path, meshd_config_current()->trust_domain);
        meshd_loop_run();
    }
    stop_all();
    return 0;
}
