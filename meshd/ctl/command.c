/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_command: see command.h. Every command is one line of the table.
 *
 * An answer that was expensive to make is kept for a while and given again, ten times as long as it
 * took: however many clients ask, meshd spends little of its time on them. Of a command that takes a word one
 * answer is kept, and whoever asks for another one meanwhile is told to wait; root and meshd's own user are not.
 */
#include "meshd/ctl/command.h"

#include <event2/buffer.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/suggest.h"
#include "meshd/attest/attest.h"
#include "meshd/base/loop.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/table.h"

#define WORDS_MAX   5u
#define WORD_MAX    80u /* as far as a wrong word is repeated to whoever sent it */
#define KEEP_FROM   UINT64_C(5000000) /* nanoseconds: a cheaper answer is not kept */
#define KEEP_FACTOR 10u
#define DUMP_FLAGS  (JSON_COMPACT | JSON_REAL_PRECISION(14))
#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))

static const struct meshd_column service_columns[] = {
    {"SERVICE", "name", MESHD_CELL_TEXT},
    {"MODE", "mode", MESHD_CELL_TEXT},
    {"LISTENERS", "endpoints", MESHD_CELL_TEXT},
    {"DRAINING", "draining", MESHD_CELL_TEXT},
    {"BALANCER", "load_balancer", MESHD_CELL_TEXT},
    {"ACTIVE", "connections_active", MESHD_CELL_TEXT},
    {"OUT", "opened_out", MESHD_CELL_TEXT},
    {"IN", "opened_in", MESHD_CELL_TEXT},
    {"PLAINTEXT-IN", "plaintext_in", MESHD_CELL_TEXT},
    {"FAILURES", "failures", MESHD_CELL_TEXT},
    {"SENT", "sent_bytes", MESHD_CELL_BYTES},
    {"RECEIVED", "received_bytes", MESHD_CELL_BYTES},
    {"ADDRESSES", "addresses", MESHD_CELL_TEXT},
    {"VIRTUAL", "virtual", MESHD_CELL_TEXT},
    {"HOSTS", "hosts", MESHD_CELL_TEXT},
    {"ID", "id", MESHD_CELL_TEXT},
};

static const struct meshd_column endpoint_columns[] = {
    {"SERVICE", "service", MESHD_CELL_TEXT}, {"ADDRESS", "addr", MESHD_CELL_TEXT},
    {"MODE", "mode", MESHD_CELL_TEXT},       {"PID", "pid", MESHD_CELL_TEXT},
    {"UID", "uid", MESHD_CELL_TEXT},         {"AGE", "since", MESHD_CELL_AGE},
    {"WEIGHT", "weight", MESHD_CELL_TEXT},   {"ZONE", "zone", MESHD_CELL_TEXT},
    {"HEALTH", "health", MESHD_CELL_TEXT},   {"LAST-FAILURE", "health_reason", MESHD_CELL_TEXT},
    {"ACTIVE", "connections_active", MESHD_CELL_TEXT},
    {"EJECTED", "ejected", MESHD_CELL_TEXT}, {"FOR", "ejected_for", MESHD_CELL_SPAN},
    {"TIMES", "ejections", MESHD_CELL_TEXT},
    {"PRIORITY", "priority", MESHD_CELL_TEXT}, {"SOURCE", "source", MESHD_CELL_TEXT},
    {"DRAINING", "draining", MESHD_CELL_TEXT},
};

static const struct meshd_column draining_columns[] = {
    {"TARGET", "target", MESHD_CELL_TEXT},           {"FOR", "since", MESHD_CELL_AGE},
    {"ENDPOINTS", "endpoints", MESHD_CELL_TEXT},     {"PROCESSES", "processes", MESHD_CELL_TEXT},
    {"UNACKNOWLEDGED", "unacknowledged", MESHD_CELL_TEXT},
    {"CONNECTIONS", "connections", MESHD_CELL_TEXT}, {"DRAINED", "drained", MESHD_CELL_TEXT},
};

static const struct meshd_column workload_columns[] = {
    {"SERVICE", "service", MESHD_CELL_TEXT},
    {"PID", "pid", MESHD_CELL_TEXT},
    {"PROCESSES", "processes", MESHD_CELL_TEXT},
    {"UID", "uid", MESHD_CELL_TEXT},
    {"ACTIVE", "connections_active", MESHD_CELL_TEXT},
    {"PLAINTEXT-IN", "plaintext_in", MESHD_CELL_TEXT},
    {"FAILURES", "failures", MESHD_CELL_TEXT},
    {"SENT", "sent_bytes", MESHD_CELL_BYTES},
    {"RECEIVED", "received_bytes", MESHD_CELL_BYTES},
    {"AGE", "attached", MESHD_CELL_AGE},
    {"ID", "id", MESHD_CELL_TEXT},
    {"PROGRAM", "exe", MESHD_CELL_TEXT},
    {"UNIT", "unit", MESHD_CELL_TEXT},
};

static const struct meshd_column connection_columns[] = {
    {"DIRECTION", "direction", MESHD_CELL_TEXT},
    {"STATE", "state", MESHD_CELL_TEXT},
    {"LOCAL", "local_addr", MESHD_CELL_TEXT},
    {"PEER", "peer_addr", MESHD_CELL_TEXT},
    {"SECURITY", "security", MESHD_CELL_TEXT},
    {"TLS", "tls_version", MESHD_CELL_TEXT},
    {"CIPHER", "cipher", MESHD_CELL_TEXT},
    {"SENT", "sent_bytes", MESHD_CELL_BYTES},
    {"RECEIVED", "received_bytes", MESHD_CELL_BYTES},
    {"TIME", "duration", MESHD_CELL_SPAN},
    {"PID", "pid", MESHD_CELL_TEXT},
    {"FLAGS", "response_flags", MESHD_CELL_TEXT},
    {"REASON", "reason", MESHD_CELL_TEXT},
    {"LOCAL-ID", "local_id", MESHD_CELL_TEXT},
    {"PEER-ID", "peer_id", MESHD_CELL_TEXT},
};

static const struct meshd_column cert_columns[] = {
    {"KIND", "kind", MESHD_CELL_TEXT},
    {"SERVICE", "service", MESHD_CELL_TEXT},
    {"PID", "pid", MESHD_CELL_TEXT},
    {"NOT-BEFORE", "not_before", MESHD_CELL_TIME},
    {"NOT-AFTER", "not_after", MESHD_CELL_TIME},
    {"LEFT", "not_after", MESHD_CELL_AGE},
    {"SERIAL", "serial", MESHD_CELL_TEXT},
    {"ID", "id", MESHD_CELL_TEXT},
};

static const struct meshd_column edge_columns[] = {
    {"SOURCE", "source", MESHD_CELL_TEXT},       {"DESTINATION", "destination", MESHD_CELL_TEXT},
    {"SECURITY", "security", MESHD_CELL_TEXT},   {"ACTIVE", "active", MESHD_CELL_TEXT},
    {"CLOSED", "closed", MESHD_CELL_TEXT},       {"FAILED", "failed", MESHD_CELL_TEXT},
    {"SENT", "sent_bytes", MESHD_CELL_BYTES},    {"RECEIVED", "received_bytes", MESHD_CELL_BYTES},
    {"SOURCE-ID", "source_id", MESHD_CELL_TEXT}, {"DESTINATION-ID", "destination_id", MESHD_CELL_TEXT},
};

static const struct meshd_column top_columns[] = {
    {"SERVICE", "service", MESHD_CELL_TEXT},
    {"ACTIVE", "active", MESHD_CELL_TEXT},
    {"OUT/S", "opened_out_per_second", MESHD_CELL_RATE},
    {"IN/S", "opened_in_per_second", MESHD_CELL_RATE},
    {"FAILED/S", "failed_per_second", MESHD_CELL_RATE},
    {"RETRIES/S", "retries_per_second", MESHD_CELL_RATE},
    {"SENT/S", "sent_bytes_per_second", MESHD_CELL_BYTES},
    {"RECEIVED/S", "received_bytes_per_second", MESHD_CELL_BYTES},
    {"P50", "handshake_p50", MESHD_CELL_SHORT},
    {"P99", "handshake_p99", MESHD_CELL_SHORT},
};

static meshd_show_fn show_help;
static void help_text(struct evbuffer *out, const json_t *answer);

/* A command is shown as text by its function, or as the table of the list under its own name. One with
 * `ask` takes a word, which it says as `takes`. */
static const struct command {
    const char *name, *text;
    meshd_show_fn *show;
    void (*write)(struct evbuffer *out, const json_t *answer);
    const struct meshd_column *columns;
    size_t count;
    meshd_answer_fn *ask;
    const char *takes;
} commands[] = {
    {"status", "is all well: the overview", meshd_show_status, meshd_show_status_text, NULL, 0, NULL,
     NULL},
    {"services", "services, their mode and traffic", meshd_show_services, NULL, service_columns,
     COUNT(service_columns), NULL, NULL},
    {"endpoints", "endpoints in the mesh, and which are ejected", meshd_show_endpoints, NULL, endpoint_columns,
     COUNT(endpoint_columns), NULL, NULL},
    {"workloads", "processes attached", meshd_show_workloads, NULL, workload_columns,
     COUNT(workload_columns), NULL, NULL},
    {"connections", "connections, open and recently closed", meshd_show_connections, NULL,
     connection_columns, COUNT(connection_columns), NULL, NULL},
    {"certs", "certificates and when they expire", meshd_show_certs, NULL, cert_columns,
     COUNT(cert_columns), NULL, NULL},
    {"stats", "every counter", meshd_show_stats, meshd_show_stats_text, NULL, 0, NULL, NULL},
    {"stat", "traffic, failures and handshake times of services and endpoints", NULL,
     meshd_show_stat_text, NULL, 0, meshd_show_stat, "[SERVICE]"},
    {"top", "the busiest services since the last look", NULL, NULL, top_columns, COUNT(top_columns),
     meshd_show_top, ""},
    {"edges", "who talks to whom, and is it secured", meshd_show_edges, NULL, edge_columns,
     COUNT(edge_columns), NULL, NULL},
    {"check", "is everything as it should be, and what to do", meshd_show_check,
     meshd_show_check_text, NULL, 0, NULL, NULL},
    {"drain", "gives a service or endpoint no new connections", NULL, meshd_order_drain_text, NULL, 0,
     meshd_order_drain, "SERVICE|ADDR:PORT"},
    {"undrain", "takes it back", NULL, meshd_order_undrain_text, NULL, 0, meshd_order_undrain,
     "SERVICE|ADDR:PORT"},
    {"draining", "what is draining, and what is left", NULL, NULL, draining_columns,
     COUNT(draining_columns), meshd_order_draining, "[SERVICE|ADDR:PORT]"},
    {"why", "where a connection would go, and why", NULL, meshd_show_why_text, NULL, 0, meshd_show_why,
     "FROM TO[:PORT]"},
    {"help", "this list", show_help, help_text, NULL, 0, NULL, NULL},
    {"quit", "hang up", NULL, NULL, NULL, 0, NULL, NULL},
};

static struct kept {
    char *text;
    size_t len;
    uint64_t until_ns;
} kept[COUNT(commands)][2];

/* Of a command that takes a word. */
static struct asked {
    char arg[WORD_MAX + 1], arg2[WORD_MAX + 1];
    bool json;
    char *text;
    size_t len;
    uint64_t until_ns;
} asked[COUNT(commands)];

static json_t *
show_help(void)
{
    json_t *all = json_array();
    for (size_t i = 0; i < COUNT(commands); i++) {
        json_array_append_new(all, json_pack("{s:s, s:s, s:s}", "command", commands[i].name, "takes",
                                             commands[i].takes ? commands[i].takes : "", "text",
                                             commands[i].text));
    }
    return json_pack("{s:i, s:o}", "schema", MESHD_SCHEMA, "commands", all);
}

static void
help_text(struct evbuffer *out, const json_t *answer)
{
    static const struct meshd_column columns[] = {{"COMMAND", "command", MESHD_CELL_TEXT},
                                                  {"TAKES", "takes", MESHD_CELL_TEXT},
                                                  {"SHOWS", "text", MESHD_CELL_TEXT}};
    meshd_table_write(out, json_object_get(answer, "commands"), columns, COUNT(columns));
    evbuffer_add_printf(out, "COMMAND json      the same as one line of JSON\n");
}

void
meshd_command_error(struct evbuffer *out, const char *text)
{
    evbuffer_add_printf(out, "error: %s\n\n", text);
}

static void
fail(struct evbuffer *out, bool json, const char *text)
{
    if (!json) {
        meshd_command_error(out, text);
        return;
    }
    json_t *o = json_pack("{s:i, s:s}", "schema", MESHD_SCHEMA, "error", text);
    char *dump = o ? json_dumps(o, DUMP_FLAGS) : NULL;
    evbuffer_add_printf(out, "%s\n", dump ? dump : "{}");
    free(dump);
    json_decref(o);
}

static void
fail_word(struct evbuffer *out, bool json, const char *what, const char *word,
          const char *suggestion)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "unknown %s '%s'", what, word);
    if (suggestion && n > 0) {
        snprintf(text + n, sizeof(text) - (size_t)n, "; did you mean '%s'?", suggestion);
    } else if (n > 0) {
        snprintf(text + n, sizeof(text) - (size_t)n, "; see 'help'");
    }
    fail(out, json, text);
}

static void
unknown_command(struct evbuffer *out, bool json, const char *word)
{
    const char *names[COUNT(commands)];
    for (size_t i = 0; i < COUNT(commands); i++) {
        names[i] = commands[i].name;
    }
    fail_word(out, json, "command", word, mesh_suggest(word, names, COUNT(names)));
}

/* As text or JSON, malloc'ed; takes the reference. NULL when out of memory. */
static char *
make(const struct command *c, bool json, json_t *answer, size_t *len)
{
    char *text = NULL;
    struct evbuffer *buf = answer && !json ? evbuffer_new() : NULL;
    if (answer && json) {
        text = json_dumps(answer, DUMP_FLAGS);
        *len = text ? strlen(text) : 0;
    } else if (buf) {
        if (c->write) {
            c->write(buf, answer);
        } else {
            meshd_table_write(buf, json_object_get(answer, c->name), c->columns, c->count);
        }
        *len = evbuffer_get_length(buf);
        text = malloc(*len + 1);
        if (text) {
            evbuffer_remove(buf, text, *len);
        }
    }
    if (buf) {
        evbuffer_free(buf);
    }
    json_decref(answer);
    return text;
}

/* One that takes a word, and may change something: each answer is made for who asks. */
static void
answer_order(const struct command *c, const struct meshd_question *q, bool json, struct evbuffer *out)
{
    char why[256] = "";
    size_t len = 0;
    json_t *answer = c->ask(q, why, sizeof(why));
    char *text = answer ? make(c, json, answer, &len) : NULL;
    if (!text || evbuffer_add(out, text, len) != 0 || evbuffer_add(out, "\n", 1) != 0) {
        fail(out, json, why[0] ? why : "out of memory");
    }
    free(text);
}

static bool
is_trusted(int sock)
{
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    return meshd_attest_cred(sock, &pid, &uid, &gid) == MESH_OK && (uid == 0 || uid == geteuid());
}

/* The answer in `from`, which is moved to `out`, is kept if it took long. */
static void
keep_order(struct asked *k, const struct meshd_question *q, bool json, struct evbuffer *from, uint64_t took_ns)
{
    free(k->text);
    *k = (struct asked){.until_ns = 0};
    if (took_ns < KEEP_FROM) {
        return;
    }
    snprintf(k->arg, sizeof(k->arg), "%s", q->arg);
    snprintf(k->arg2, sizeof(k->arg2), "%s", q->arg2);
    k->json = json;
    k->len = evbuffer_get_length(from);
    k->text = malloc(k->len + 1);
    if (k->text && evbuffer_copyout(from, k->text, k->len) != (ev_ssize_t)k->len) {
        free(k->text);
        k->text = NULL;
    }
    k->until_ns = meshd_now_ns() + took_ns * KEEP_FACTOR;
}

static void
run_order(const struct command *c, const struct meshd_question *q, bool json, struct evbuffer *out)
{
    struct asked *k = &asked[c - commands];
    uint64_t start = meshd_now_ns();
    if (is_trusted(q->sock)) {
        answer_order(c, q, json, out);
        return;
    }
    if (k->until_ns > start) {
        bool same = k->text && k->json == json && strcmp(k->arg, q->arg) == 0 && strcmp(k->arg2, q->arg2) == 0;
        if (!same || evbuffer_add(out, k->text, k->len) != 0) {
            fail(out, json, "busy with another question; ask again in a moment");
        }
        return;
    }
    struct evbuffer *own = evbuffer_new();
    if (!own) {
        fail(out, json, "out of memory");
        return;
    }
    answer_order(c, q, json, own);
    keep_order(k, q, json, own, meshd_now_ns() - start);
    evbuffer_add_buffer(out, own);
    evbuffer_free(own);
}

static bool
run(const struct command *c, bool json, struct evbuffer *out)
{
    struct kept *k = &kept[c - commands][json];
    uint64_t start = meshd_now_ns();
    if (!k->text || k->until_ns <= start) {
        free(k->text);
        k->text = make(c, json, c->show(), &k->len);
        k->until_ns = start + (meshd_now_ns() - start) * (KEEP_FACTOR + 1);
    }
    if (!k->text || evbuffer_add(out, k->text, k->len) != 0 || evbuffer_add(out, "\n", 1) != 0) {
        fail(out, json, "out of memory");
    }
    if (k->until_ns < start + KEEP_FROM * (KEEP_FACTOR + 1)) {
        free(k->text);
        k->text = NULL;
    }
    return true;
}

void
meshd_command_fini(void)
{
    meshd_show_fini();
    for (size_t i = 0; i < COUNT(commands); i++) {
        free(asked[i].text);
        asked[i] = (struct asked){.until_ns = 0};
        for (size_t j = 0; j < 2; j++) {
            free(kept[i][j].text);
            kept[i][j] = (struct kept){0};
        }
    }
}

/* Splits at blanks into at most WORDS_MAX words, cut to WORD_MAX bytes, bytes that are no printable
 * ASCII replaced. Returns how many there are, WORDS_MAX meaning that or more. */
static size_t
split(const char *line, size_t len, char words[WORDS_MAX][WORD_MAX + 1])
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < len; i++) {
        bool blank = line[i] == ' ' || line[i] == '\t' || line[i] == '\r';
        if (!blank && at == 0 && n == WORDS_MAX) {
            return n;
        }
        if (blank) {
            at = 0;
            continue;
        }
        if (at == 0) {
            n++;
        }
        if (at < WORD_MAX) {
            words[n - 1][at] = (char)(line[i] > 0x20 && line[i] < 0x7f ? line[i] : '?');
            words[n - 1][at + 1] = '\0';
        }
        at++;
    }
    return n;
}

/* Those of the n words that are the command's, not the option `json` behind them. */
static size_t
words_taken(const struct command *c, size_t n, char words[WORDS_MAX][WORD_MAX + 1])
{
    size_t most = !c->ask || !c->takes[0] ? 0 : strchr(c->takes, ' ') ? 2 : 1;
    size_t have = n - 1 < most ? n - 1 : most;
    return have == n - 1 && have > 0 && strcmp(words[n - 1], "json") == 0 ? have - 1 : have;
}

bool
meshd_command_answer(int sock, const char *line, size_t len, struct evbuffer *out)
{
    static const char *const options[] = {"json"};
    char words[WORDS_MAX][WORD_MAX + 1] = {{0}};
    size_t n = split(line, len, words);
    if (n == 0) {
        return true;
    }
    for (size_t i = 0; i < COUNT(commands); i++) {
        const struct command *c = &commands[i];
        if (strcmp(words[0], c->name) != 0) {
            continue;
        }
        size_t args = words_taken(c, n, words);
        bool json = n >= args + 2 && strcmp(words[args + 1], "json") == 0;
        if (n > args + 2 || (n == args + 2 && !json)) {
            const char *word = words[n > args + 2 && json ? args + 2 : args + 1];
            fail_word(out, json, "option", word, json ? NULL : mesh_suggest(word, options, 1));
            return true;
        }
        if (c->ask) {
            const struct meshd_question q = {sock, args ? words[1] : "", args > 1 ? words[2] : ""};
            run_order(c, &q, json, out);
            return true;
        }
        return c->show ? run(c, json, out) : false;
    }
    unknown_command(out, n >= 2 && strcmp(words[1], "json") == 0, words[0]);
    return true;
}
