/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl: asks meshd's status socket and prints the answer. What is asked and how it looks is meshd's
 * business; this is the command line, the exit code, and the bold header.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/suggest.h"
#include "mesh/version.h"
#include "meshctl/ask.h"
#include "meshctl/meshctl.h"

#define TIMEOUT_S  5.0
#define INTERVAL_S 2.0

static const struct {
    const char *name, *text;
} commands[] = {
    {"status", "is all well: the overview (default)"},
    {"services", "services, their mode and traffic"},
    {"endpoints", "listeners in the mesh"},
    {"workloads", "processes attached"},
    {"connections", "connections, open and recently closed"},
    {"certs", "certificates and when they expire"},
    {"stats", "every counter"},
    {"stat", "[SERVICE]: traffic, failures and handshake times"},
    {"top", "the busiest services, again and again"},
    {"edges", "who talks to whom, and is it secured"},
    {"check", "is everything as it should be, and what to do"},
    {"drain", "SERVICE|ADDR:PORT: no new connections for it"},
    {"undrain", "SERVICE|ADDR:PORT: takes it back"},
    {"draining", "[SERVICE|ADDR:PORT]: what is draining, and what is left"},
    {"why", "FROM TO[:PORT]: where a connection would go, and why"},
    {"help", "this text"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

struct options {
    const char *socket, *run_dir, *command;
    char question[256]; /* the command with its argument */
    bool json, no_color, wait, once;
    double timeout_s, wait_s, interval_s;
};

static int
usage(FILE *to, int status)
{
    fprintf(to, "usage: meshctl [OPTIONS] [COMMAND [ARGUMENT]]\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        fprintf(to, "  %-14s%s\n", commands[i].name, commands[i].text);
    }
    fprintf(to, "options:\n"
                "  --run-dir DIR  meshd's run directory; default $LIBMESH_RUN_DIR, else\n"
                "                 /run/meshd as root, else $XDG_RUNTIME_DIR/meshd\n"
                "  --socket PATH  the status socket itself\n"
                "  --json         one line of JSON\n"
                "  --no-color     no bold header (also: NO_COLOR set)\n"
                "  --timeout S    seconds to wait for the answer; default %.0f\n"
                "  --wait[=S]     drain: until no connection is left (at most S seconds)\n"
                "  --interval S   top: seconds between two views; default %.0f\n"
                "  --once         top: one view\n"
                "  --version, -h, --help\n"
                "exit code: 0 answered, 1 meshd answered with an error, a check failed or --wait took too\n"
                "long, 2 usage, 3 meshd not reached\n",
            TIMEOUT_S, INTERVAL_S);
    return status;
}

static bool
parse_seconds(const char *option, const char *text, double most, double *out)
{
    char *end = NULL;
    double v = strtod(text, &end);
    if (end == text || *end || !(v > 0 && v <= most)) {
        fprintf(stderr, "meshctl: --%s: '%s' is no number of seconds up to %.0f\n", option, text, most);
        return false;
    }
    *out = v;
    return true;
}

static int
unknown(const char *word)
{
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
    }
    const char *near = mesh_suggest(word, names, COMMANDS);
    fprintf(stderr, "meshctl: unknown command '%s'%s%s%s\n", word,
            near ? "; did you mean '" : "; see meshctl --help", near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

/* How many words follow the command, at least and at most: its text begins with them. */
static void
arguments(const char *text, size_t *least, size_t *most)
{
    *least = strncmp(text, "FROM TO", 7) == 0 ? 2 : strncmp(text, "SERVICE", 7) == 0;
    *most = *least ? *least : text[0] == '[';
}

static int
parse_command(int argc, char **argv, struct options *o)
{
    size_t i = 0, least, most, n = 0, len;
    o->command = optind < argc ? argv[optind++] : "status";
    while (i < COMMANDS && strcmp(o->command, commands[i].name) != 0) {
        i++;
    }
    if (i == COMMANDS) {
        return unknown(o->command);
    }
    arguments(commands[i].text, &least, &most);
    len = (size_t)snprintf(o->question, sizeof(o->question), "%s", o->command);
    for (; n < most && optind < argc; n++) {
        const char *arg = argv[optind++];
        if (arg[0] == '\0' || strpbrk(arg, " \t\r\n") || strlen(arg) > 80) {
            fprintf(stderr, "meshctl: '%s' is no service and no address\n", arg);
            return EXIT_USAGE;
        }
        len += (size_t)snprintf(o->question + len, sizeof(o->question) - len, " %s", arg);
    }
    if (n < least) {
        fprintf(stderr, least == 1 ? "meshctl: %s needs a SERVICE or ADDR:PORT\n"
                                   : "meshctl: %s needs FROM, a client's service, and TO, a service or ADDR:PORT\n",
                o->command);
        return EXIT_USAGE;
    }
    if (optind < argc) {
        fprintf(stderr, "meshctl: one command at a time, not also '%s'\n", argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}

/* An exit status, or -1 to go on. */
static int
parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'},  {"run-dir", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},          {"no-color", no_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 't'}, {"version", no_argument, NULL, 'V'},
        {"wait", optional_argument, NULL, 'w'},    {"interval", required_argument, NULL, 'i'},
        {"once", no_argument, NULL, 'o'},          {"probe", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        switch (c) {
        case 's':
            o->socket = optarg;
            break;
        case 'r':
            o->run_dir = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'n':
            o->no_color = true;
            break;
        case 't':
            if (!parse_seconds("timeout", optarg, 3600, &o->timeout_s)) {
                return EXIT_USAGE;
            }
            break;
        case 'w':
            o->wait = true;
            if (optarg && !parse_seconds("wait", optarg, 1e6, &o->wait_s)) {
                return EXIT_USAGE;
            }
            break;
        case 'i':
            if (!parse_seconds("interval", optarg, 3600, &o->interval_s)) {
                return EXIT_USAGE;
            }
            break;
        case 'o':
            o->once = true;
            break;
        case 'p':
            return check_probe(optarg); /* for ourselves: what a child under libmesh finds */
        case 'V':
            printf("meshctl %s\n", MESH_VERSION);
            return EXIT_OK;
        case 'h':
            return usage(stdout, EXIT_OK);
        default:
            return usage(stderr, EXIT_USAGE);
        }
    }
    return parse_command(argc, argv, o);
}

/* "" counts as not set. */
static const char *
variable(const char *name)
{
    const char *v = getenv(name);
    return v && v[0] ? v : NULL;
}

static bool
find_socket(const struct options *o, char *out, size_t cap)
{
    const char *dir = o->run_dir ? o->run_dir : variable("LIBMESH_RUN_DIR");
    const char *xdg = variable("XDG_RUNTIME_DIR");
    int n;
    if (o->socket) {
        n = snprintf(out, cap, "%s", o->socket);
    } else if (dir) {
        n = snprintf(out, cap, "%s/status.sock", dir);
    } else if (geteuid() == 0) {
        n = snprintf(out, cap, "/run/meshd/status.sock");
    } else {
        n = snprintf(out, cap, "%s/meshd/status.sock", xdg ? xdg : "/tmp");
    }
    return n > 0 && (size_t)n < cap;
}

static bool
is_error(const char *text, bool json)
{
    static const char head[] = "{\"schema\":1,\"error\":";
    return strncmp(text, json ? head : "error: ", json ? sizeof(head) - 1 : 7) == 0;
}

static void
print(const char *text, bool bold)
{
    int first = (int)strcspn(text, "\n");
    if (bold) {
        printf("\033[1m%.*s\033[0m%s", first, text, text + first);
    } else {
        fputs(text, stdout);
    }
}

int
show_answer(const struct view *v, const char *text)
{
    bool error = is_error(text, v->json);
    if (error && !v->json) {
        fprintf(stderr, "meshctl: %s", text);
    } else {
        print(text, v->color);
    }
    if (fflush(stdout) != 0) {
        fprintf(stderr, "meshctl: standard output: %s\n", strerror(errno));
        return EXIT_ANSWER;
    }
    return error ? EXIT_ANSWER : EXIT_OK;
}

int
show(const struct view *v, const char *question)
{
    char why[256], *text = NULL;
    if (!ask(v->path, question, v->json, v->timeout_s, &text, why, sizeof(why))) {
        fprintf(stderr, "meshctl: meshd not reached at %s: %s; is it running, is --run-dir right?\n",
                v->path, why);
        return EXIT_UNREACHABLE;
    }
    int status = show_answer(v, text);
    free(text);
    return status;
}

int
main(int argc, char **argv)
{
    struct options o = {.timeout_s = TIMEOUT_S, .interval_s = INTERVAL_S};
    char path[PATH_MAX];
    int status = parse_options(argc, argv, &o);
    if (status >= 0) {
        return status;
    }
    if (strcmp(o.command, "help") == 0 && !o.json) {
        return usage(stdout, EXIT_OK);
    }
    if (!find_socket(&o, path, sizeof(path))) {
        fprintf(stderr, "meshctl: the socket's path is too long\n");
        return EXIT_USAGE;
    }
    bool terminal = isatty(STDOUT_FILENO) != 0;
    const struct view v = {.path = path, .json = o.json, .timeout_s = o.timeout_s, .terminal = terminal,
                           .color = terminal && !o.no_color && !o.json && !variable("NO_COLOR")};
    if (strcmp(o.command, "top") == 0) {
        return top(&v, o.interval_s, o.once);
    }
    if (strcmp(o.command, "check") == 0) {
        return check(&v);
    }
    if (o.wait && strcmp(o.command, "drain") == 0) {
        return drain_wait(&v, o.question, o.wait_s);
    }
    return show(&v, o.question);
}
