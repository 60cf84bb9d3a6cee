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

enum { EXIT_OK = 0, EXIT_ANSWER = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

#define TIMEOUT_S 5.0

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
    {"help", "this text"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

struct options {
    const char *socket, *run_dir, *command;
    bool json, no_color;
    double timeout_s;
};

static int
usage(FILE *to, int status)
{
    fprintf(to, "usage: meshctl [OPTIONS] [COMMAND]\n");
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
                "  --version, -h, --help\n"
                "exit code: 0 answered, 1 meshd answered with an error, 2 usage, 3 meshd not reached\n",
            TIMEOUT_S);
    return status;
}

static bool
parse_timeout(const char *text, double *out)
{
    char *end = NULL;
    double v = strtod(text, &end);
    if (end == text || *end || !(v > 0 && v <= 3600)) {
        fprintf(stderr, "meshctl: --timeout: '%s' is no number of seconds up to 3600\n", text);
        return false;
    }
    *out = v;
    return true;
}

static int
parse_command(int argc, char **argv, struct options *o)
{
    const char *names[COMMANDS];
    o->command = optind < argc ? argv[optind] : "status";
    if (optind + 1 < argc) {
        fprintf(stderr, "meshctl: one command at a time, not also '%s'\n", argv[optind + 1]);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(o->command, names[i]) == 0) {
            return -1;
        }
    }
    const char *near = mesh_suggest(o->command, names, COMMANDS);
    fprintf(stderr, "meshctl: unknown command '%s'%s%s%s\n", o->command,
            near ? "; did you mean '" : "; see meshctl --help", near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

/* An exit status, or -1 to go on. */
static int
parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'},  {"run-dir", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},          {"no-color", no_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 't'}, {"version", no_argument, NULL, 'V'},
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
            if (!parse_timeout(optarg, &o->timeout_s)) {
                return EXIT_USAGE;
            }
            break;
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
main(int argc, char **argv)
{
    struct options o = {.timeout_s = TIMEOUT_S};
    char path[PATH_MAX], why[256], *text = NULL;
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
    if (!ask(path, o.command, o.json, o.timeout_s, &text, why, sizeof(why))) {
        fprintf(stderr, "meshctl: meshd not reached at %s: %s; is it running, is --run-dir right?\n",
                path, why);
        return EXIT_UNREACHABLE;
    }
    bool error = is_error(text, o.json);
    if (error && !o.json) {
        fprintf(stderr, "meshctl: %s", text);
    } else {
        print(text, isatty(STDOUT_FILENO) && !o.no_color && !o.json && !variable("NO_COLOR"));
    }
    free(text);
    if (fflush(stdout) != 0) {
        fprintf(stderr, "meshctl: standard output: %s\n", strerror(errno));
        return EXIT_ANSWER;
    }
    return error ? EXIT_ANSWER : EXIT_OK;
}
