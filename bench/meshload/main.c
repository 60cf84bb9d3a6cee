/* SPDX-License-Identifier: Apache-2.0
 *
 * meshload run|hold|serve: an open-loop load generator whose latencies count from when a request was due, and
 * the servers for it; see `usage` and load.h. It knows nothing of the mesh: it is meshed by LD_PRELOAD as any
 * other program. With --cert, --key and --ca it speaks mutual TLS itself, to compare with.
 *
 * The report is one JSON object, the last line of standard output.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/meshload/hold.h"
#include "bench/meshload/load.h"
#include "bench/meshload/serve.h"
#include "bench/meshload/stream.h"

static const char usage[] =
    "meshload run   --to ADDR:PORT [OPTION...]   measure\n"
    "meshload hold  --to ADDR:PORT [OPTION...]   open connections and keep them; see hold.h\n"
    "meshload serve --at ADDR:PORT [--protocol echo|sink|http] [--size N]\n"
    "\n"
    "  --protocol P      echo (default), sink, resp, http\n"
    "  --size N          bytes: of a request (echo, sink), of a value (resp); default 64\n"
    "  --command C       resp: get (default), set, ping\n"
    "  --keys N          resp: how many different ones; default 1000\n"
    "  --prefix P        resp: three letters with which keys begin; default key\n"
    "  --path P          http: default /\n"
    "  --connections N   default 1\n"
    "  --pipeline N      outstanding on a connection; default 1, at most 64\n"
    "  --rate R          requests a second, all together; default 1000\n"
    "  --max             no rate: closed loop, as fast as answers come\n"
    "  --arrival A       jitter (default: anywhere in its period), poisson, even\n"
    "  --fresh           a connection for each request\n"
    "  --chunk N         bytes in one write, at most\n"
    "  --warmup S, --window S, --drain S   seconds; default 0.5, 5, 5\n"
    "  --spin            never sleep: needs a processor of its own\n"
    "  --mark            say \"begin\" and \"end\" when the window does\n"
    "  --seed N          default 1\n"
    "  --cert F --key F --ca F             mutual TLS 1.3\n";

struct options {
    struct load_spec load;
    struct proto_spec proto;
    struct stream_tls tls;
    const char *address;
};

enum { OPT_MAX = 256, OPT_FRESH, OPT_SPIN, OPT_MARK };

static const struct option names[] = {
    {"to", required_argument, NULL, 'a'},       {"at", required_argument, NULL, 'a'},
    {"protocol", required_argument, NULL, 'p'}, {"size", required_argument, NULL, 's'},
    {"command", required_argument, NULL, 'o'},  {"keys", required_argument, NULL, 'y'},
    {"prefix", required_argument, NULL, 'x'},
    {"path", required_argument, NULL, 'u'},     {"connections", required_argument, NULL, 'c'},
    {"pipeline", required_argument, NULL, 'P'}, {"rate", required_argument, NULL, 'r'},
    {"arrival", required_argument, NULL, 'j'},  {"chunk", required_argument, NULL, 'b'},
    {"warmup", required_argument, NULL, 'w'},   {"window", required_argument, NULL, 'd'},
    {"drain", required_argument, NULL, 'D'},    {"seed", required_argument, NULL, 'S'},
    {"cert", required_argument, NULL, 'C'},     {"key", required_argument, NULL, 'K'},
    {"ca", required_argument, NULL, 'A'},       {"max", no_argument, NULL, OPT_MAX},
    {"fresh", no_argument, NULL, OPT_FRESH},    {"spin", no_argument, NULL, OPT_SPIN},
    {"mark", no_argument, NULL, OPT_MARK},      {NULL, 0, NULL, 0},
};

static void
mark(const char *what)
{
    puts(what);
    fflush(stdout);
}

static uint64_t
nanoseconds(const char *seconds)
{
    return (uint64_t)(strtod(seconds, NULL) * 1e9);
}

static bool
arrival(struct options *o, const char *name)
{
    static const char *const kinds[] = {[SCHED_EVEN] = "even", [SCHED_JITTER] = "jitter", [SCHED_POISSON] = "poisson"};
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i], name) == 0) {
            o->load.kind = (enum sched_kind)i;
            return true;
        }
    }
    return false;
}

static bool
number_option(struct options *o, int c, const char *v)
{
    switch (c) {
    case 's': o->proto.size = strtoull(v, NULL, 10); return true;
    case 'y': o->proto.keys = (unsigned)strtoul(v, NULL, 10); return true;
    case 'c': o->load.connections = (unsigned)strtoul(v, NULL, 10); return o->load.connections > 0;
    case 'P': o->load.pipeline = (unsigned)strtoul(v, NULL, 10); return true;
    case 'r': o->load.rate = strtod(v, NULL); return o->load.rate > 0;
    case 'b': o->load.chunk = strtoull(v, NULL, 10); return true;
    case 'w': o->load.warmup_ns = nanoseconds(v); return true;
    case 'd': o->load.window_ns = nanoseconds(v); return true;
    case 'D': o->load.drain_ns = nanoseconds(v); return true;
    case 'S': o->load.seed = strtoull(v, NULL, 10); return true;
    default: return false;
    }
}

static bool
option(struct options *o, int c, const char *v)
{
    switch (c) {
    case 'a': o->address = v; return true;
    case 'p': o->proto.name = v; return true;
    case 'o': o->proto.command = v; return true;
    case 'x': o->proto.prefix = v; return strlen(v) == 3;
    case 'u': o->proto.path = v; return true;
    case 'j': return arrival(o, v);
    case 'C': o->tls.cert = v; return true;
    case 'K': o->tls.key = v; return true;
    case 'A': o->tls.ca = v; return true;
    case OPT_MAX: o->load.kind = SCHED_MAX; return true;
    case OPT_FRESH: o->load.fresh = o->proto.close = true; return true;
    case OPT_SPIN: o->load.spin = true; return true;
    case OPT_MARK: o->load.mark = mark; return true;
    default: return number_option(o, c, v);
    }
}

/* ADDR:PORT, [ADDR]:PORT */
static bool
address_parse(const char *text, struct sockaddr_storage *to, socklen_t *len)
{
    char host[64];
    const char *colon = text != NULL ? strrchr(text, ':') : NULL;
    struct sockaddr_in *in = (struct sockaddr_in *)to;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host)) {
        return false;
    }
    bool six = text[0] == '[' && colon > text && colon[-1] == ']';
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text) - 2 * six, text + six);
    memset(to, 0, sizeof(*to));
    *len = six ? sizeof(*in6) : sizeof(*in);
    to->ss_family = six ? AF_INET6 : AF_INET;
    *(six ? &in6->sin6_port : &in->sin_port) = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    return inet_pton(to->ss_family, host, six ? (void *)&in6->sin6_addr : (void *)&in->sin_addr) == 1;
}

static void
report(const struct options *o, const struct load_result *r)
{
    static const char *const errors[] = {
#define X(symbol, name) [LOAD_##symbol] = #name,
        LOAD_ERRORS(X)
#undef X
    };
    double window = (double)r->window_ns / 1e9;
    printf("{\"protocol\": \"%s\", \"open_loop\": %s, \"connections\": %u, \"pipeline\": %u, \"window_s\": %.3f, "
           "\"due\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"rate\": %.1f, \"busy\": %" PRIu64
           ", \"bytes_out\": %" PRIu64 ", \"bytes_in\": %" PRIu64 ", \"precision\": %.5f, \"errors\": {",
           o->proto.name, o->load.kind == SCHED_MAX ? "false" : "true", o->load.connections, o->load.pipeline, window,
           r->due, r->answered, (double)r->answered / window, r->busy, r->bytes_out, r->bytes_in,
           1.0 / (1 << HIST_BITS));
    for (unsigned i = LOAD_OK + 1; i < LOAD_ERR_COUNT; i++) {
        printf("%s\"%s\": %" PRIu64, i > 1 ? ", " : "", errors[i], r->errors[i]);
    }
    printf("}, \"latency_ns\": ");
    hist_write(&r->latency, stdout);
    printf(", \"late_ns\": ");
    hist_write(&r->late, stdout);
    printf(", \"connect_ns\": ");
    hist_write(&r->connect, stdout);
    puts("}");
}

static int
run(const struct options *o)
{
    static struct load_result r;
    if (!load_run(&o->load, &r)) {
        return 1;
    }
    report(o, &r);
    return 0;
}

static int
serve(const struct options *o)
{
    struct serve_spec v = {.at = o->load.to, .at_len = o->load.to_len, .tls = o->load.tls, .size = o->proto.size};
    v.kind = strcmp(o->proto.name, "http") == 0 ? SERVE_HTTP : strcmp(o->proto.name, "sink") == 0 ? SERVE_SINK : SERVE_ECHO;
    return serve_run(&v);
}

int
main(int argc, char **argv)
{
    static struct options o = {
        .load = {.kind = SCHED_JITTER, .rate = 1000, .connections = 1, .pipeline = 1, .warmup_ns = 500000000,
                 .window_ns = UINT64_C(5000000000), .drain_ns = UINT64_C(5000000000), .seed = 1},
        .proto = {.name = "echo", .command = "get", .path = "/", .size = 64, .keys = 1000, .prefix = "key"}};
    static struct proto proto;
    const char *verb = argc > 1 ? argv[1] : "";
    bool server = strcmp(verb, "serve") == 0, ok = server || strcmp(verb, "run") == 0 || strcmp(verb, "hold") == 0;
    optind = 2;
    for (int c; ok && (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        ok = option(&o, c, optarg);
    }
    if (!ok || optind != argc || !address_parse(o.address, &o.load.to, &o.load.to_len) || o.proto.size < 1 ||
        o.load.pipeline < 1 || o.load.pipeline > LOAD_PIPELINE_MAX || (o.load.fresh && o.load.pipeline > 1)) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (o.tls.cert != NULL && (o.load.tls = stream_tls_new(&o.tls, server)) == NULL) {
        return 1;
    }
    if (server) {
        return serve(&o);
    }
    if (!proto_init(&proto, &o.proto)) {
        return 1;
    }
    o.load.proto = &proto;
    /* As redis-benchmark does; a stream of bytes never pauses. */
    o.load.batch = o.load.kind == SCHED_MAX && strcmp(o.proto.name, "sink") != 0;
    int rc = strcmp(verb, "hold") == 0 ? hold_run(&o.load, 10) : run(&o);
    proto_fini(&proto);
    return rc;
}
