/* SPDX-License-Identifier: Apache-2.0
 *
 * check: what a client sees, and then what meshd sees of itself and the host. The same form for both:
 * state, what, and what to do.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mesh/version.h"
#include "meshctl/ask.h"
#include "meshctl/meshctl.h"

enum { PROBE_OK = 0, PROBE_NOT_LOADED = 10, PROBE_NO_ENGINE = 11 };

struct report {
    char *text;
    size_t len;
    FILE *to;
    bool json, failed;
    unsigned lines;
};

static void
put_string(FILE *to, const char *s)
{
    fputc('"', to);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20) {
            fprintf(to, "\\u%04x", (unsigned char)*s);
        } else {
            fputc(*s, to);
        }
    }
    fputc('"', to);
}

/* A hint makes it a failure. */
static void __attribute__((format(printf, 4, 5)))
put(struct report *r, const char *name, const char *hint, const char *format, ...)
{
    char text[PATH_MAX + 256];
    const char *state = hint ? "fail" : "ok";
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    r->failed = r->failed || hint;
    if (!r->json) {
        fprintf(r->to, "%-6s%-20s%s\n", state, name, text);
        if (hint) {
            fprintf(r->to, "%-26s-> %s\n", "", hint);
        }
        return;
    }
    fprintf(r->to, "%s{\"check\":\"%s\",\"state\":\"%s\",\"text\":", r->lines++ ? "," : "", name, state);
    put_string(r->to, text);
    fputs(",\"hint\":", r->to);
    put_string(r->to, hint ? hint : "");
    fputc('}', r->to);
}

/* -- libmesh.so ----------------------------------------------------------------------------------- */

static bool
beside(const char *lib, const char *name, char *out, size_t cap)
{
    const char *slash = strrchr(lib, '/');
    int n = snprintf(out, cap, "%.*s%s", slash ? (int)(slash - lib + 1) : 0, lib, name);
    return n > 0 && (size_t)n < cap;
}

static bool
find_lib(char *out)
{
    char self[PATH_MAX] = "", here[PATH_MAX];
    const char *named = getenv("LIBMESH_LIB");
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *const places[] = {named && named[0] ? named : NULL,
                                  n > 0 && beside(self, "libmesh.so", here, sizeof(here)) ? here : NULL,
                                  MESH_LIBDIR "/libmesh.so"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (places[i] && access(places[i], R_OK) == 0) {
            return realpath(places[i], out) != NULL;
        }
    }
    return false;
}

static int
is_it(struct dl_phdr_info *info, size_t size, void *arg)
{
    char real[PATH_MAX];
    (void)size;
    return info->dlpi_name && realpath(info->dlpi_name, real) && strcmp(real, arg) == 0;
}

int
check_probe(const char *lib)
{
    char path[PATH_MAX], engine[PATH_MAX];
    snprintf(path, sizeof(path), "%s", lib);
    if (dl_iterate_phdr(is_it, path) == 0) {
        return PROBE_NOT_LOADED;
    }
    if (!beside(lib, "libmesh-engine.so", engine, sizeof(engine)) || !dlopen(engine, RTLD_NOW | RTLD_LOCAL)) {
        fprintf(stderr, "%s\n", dlerror());
        return PROBE_NO_ENGINE;
    }
    return PROBE_OK;
}

/* What the child says on standard error is the loader's word. */
static int
run_child(const char *lib, char *said, size_t cap)
{
    int pipes[2], status = -1;
    if (pipe(pipes) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        setenv("LD_PRELOAD", lib, 1);
        execl("/proc/self/exe", "meshctl", "--probe", lib, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    size_t len = 0;
    for (ssize_t n; len + 1 < cap && (n = read(pipes[0], said + len, cap - 1 - len)) > 0;) {
        len += (size_t)n;
    }
    said[len] = '\0';
    said[strcspn(said, "\n")] = '\0';
    close(pipes[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
check_lib(struct report *r)
{
    char lib[PATH_MAX], engine[PATH_MAX], said[512] = "";
    if (!find_lib(lib)) {
        put(r, "libmesh.so", "install it, or set LIBMESH_LIB to its path", "not found");
        return;
    }
    put(r, "libmesh.so", NULL, "%s", lib);
    if (!beside(lib, "libmesh-engine.so", engine, sizeof(engine)) || access(engine, R_OK) != 0) {
        put(r, "engine", "install libmesh-engine.so beside libmesh.so", "%s: %s", engine, strerror(errno));
    }
    switch (run_child(lib, said, sizeof(said))) {
    case PROBE_OK:
        put(r, "LD_PRELOAD", NULL, "a child has it, and can load the engine");
        break;
    case PROBE_NO_ENGINE:
        put(r, "LD_PRELOAD", "install the libmesh-engine.so that belongs to libmesh.so", "%s", said);
        break;
    case PROBE_NOT_LOADED:
        put(r, "LD_PRELOAD", "the loader refuses it: is it of this architecture, and readable?",
            "a child does not have it: %s", said);
        break;
    default:
        put(r, "LD_PRELOAD", "look at it with LD_DEBUG=libs", "a child with it ended badly: %s", said);
        break;
    }
}

/* -- meshd ---------------------------------------------------------------------------------------- */

static void
check_version(struct report *r, const struct view *v)
{
    char why[256], version[64] = "", *text = NULL;
    if (!ask(v->path, "status", true, v->timeout_s, &text, why, sizeof(why))) {
        return;
    }
    const char *at = strstr(text, "\"version\":\"");
    if (at) {
        at += strlen("\"version\":\"");
        snprintf(version, sizeof(version), "%.*s", (int)strcspn(at, "\""), at);
    }
    free(text);
    if (strcmp(version, MESH_VERSION) == 0) {
        put(r, "versions", NULL, "meshctl and meshd are both %s", MESH_VERSION);
    } else {
        put(r, "versions", "restart meshd after an update", "meshctl is %s, meshd is %s", MESH_VERSION, version);
    }
}

/* The state word in its colour. */
static void
print_line(const char *line, size_t n, bool color)
{
    static const struct {
        const char *word, *on;
    } colors[] = {{"ok ", "\033[32m"}, {"warn ", "\033[33m"}, {"fail ", "\033[31m"}};
    for (size_t i = 0; color && i < sizeof(colors) / sizeof(colors[0]); i++) {
        size_t w = strlen(colors[i].word);
        if (strncmp(line, colors[i].word, w) == 0) {
            printf("%s%.*s\033[0m", colors[i].on, (int)w, line);
            line += w;
            n -= w;
        }
    }
    printf("%.*s\n", (int)n, line);
}

static void
print_lines(const char *text, bool color, bool *failed)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        *failed = *failed || strncmp(text, "fail ", 5) == 0;
        print_line(text, n, color);
        text += n + (text[n] == '\n');
    }
}

/* meshd's list is put behind ours. */
static void
print_json(const struct report *r, const char *theirs)
{
    const char *list = theirs ? strstr(theirs, "\"checks\":[") : NULL;
    list = list ? list + strlen("\"checks\":[") : "]}\n";
    printf("{\"schema\":1,\"checks\":[%s%s%s", r->text, *list != ']' ? "," : "", list);
}

int
check(const struct view *v)
{
    char why[256] = "", *theirs = NULL;
    struct report r = {.json = v->json};
    r.to = open_memstream(&r.text, &r.len);
    if (!r.to) {
        return EXIT_ANSWER;
    }
    if (ask(v->path, "check", v->json, v->timeout_s, &theirs, why, sizeof(why))) {
        put(&r, "meshd", NULL, "answers at %s", v->path);
        check_version(&r, v);
    } else {
        put(&r, "meshd", "start it, or say --run-dir", "not reached at %s: %s", v->path, why);
    }
    check_lib(&r);
    bool failed = fclose(r.to) != 0 || r.failed;
    if (v->json) {
        failed = failed || (theirs && strstr(theirs, "\"state\":\"fail\""));
        print_json(&r, theirs);
    } else {
        print_lines(r.text, v->color, &failed);
        print_lines(theirs ? theirs : "", v->color, &failed);
    }
    free(r.text);
    free(theirs);
    return failed ? EXIT_ANSWER : EXIT_OK;
}
