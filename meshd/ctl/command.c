/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_command: see command.h. Every command is one line of the table.
 *
 * An answer that was expensive to make is kept for a while and given again, ten times as long as it
 * took: however many clients ask, meshd spends little of its time on them.
 */
#include "meshd/ctl/command.h"

#include <event2/buffer.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/suggest.h"
#include "meshd/base/loop.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/table.h"

#define WORDS_MAX   3u
#define WORD_MAX    40u /* as far as a wrong word is repeated to whoever sent it */
#define KEEP_FROM   UINT64_C(5000000) /* nanoseconds: a cheaper answer is not kept */
#define KEEP_FACTOR 10u
#define DUMP_FLAGS  (JSON_COMPACT | JSON_REAL_PRECISION(14))
#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))

static const struct meshd_column service_columns[] = {
    {"SERVICE", "name", MESHD_CELL_TEXT},
    {"MODE", "mode", MESHD_CELL_TEXT},
    {"LISTENERS", "endpoints", MESHD_CELL_TEXT},
    {"ACTIVE", "connections_active", MESHD_CELL_TEXT},
    {"OUT", "opened_out", MESHD_CELL_TEXT},
    {"IN", "opened_in", MESHD_CELL_TEXT},
    {"PLAINTEXT-IN", "plaintext_in", MESHD_CELL_TEXT},
    {"FAILURES", "failures", MESHD_CELL_TEXT},
    {"SENT", "sent_bytes", MESHD_CELL_BYTES},
    {"RECEIVED", "received_bytes", MESHD_CELL_BYTES},
    {"ID", "id", MESHD_CELL_TEXT},
};

static const struct meshd_column endpoint_columns[] = {
    {"SERVICE", "service", MESHD_CELL_TEXT}, {"ADDRESS", "addr", MESHD_CELL_TEXT},
    {"MODE", "mode", MESHD_CELL_TEXT},       {"PID", "pid", MESHD_CELL_TEXT},
    {"UID", "uid", MESHD_CELL_TEXT},         {"AGE", "since", MESHD_CELL_AGE},
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

static meshd_show_fn show_help;
static void help_text(struct evbuffer *out, const json_t *answer);

/* A command is shown as text by its function, or as the table of the list under its own name. */
static const struct command {
    const char *name, *text;
    meshd_show_fn *show;
    void (*write)(struct evbuffer *out, const json_t *answer);
    const struct meshd_column *columns;
    size_t count;
} commands[] = {
    {"status", "is all well: the overview", meshd_show_status, meshd_show_status_text, NULL, 0},
    {"services", "services, their mode and traffic", meshd_show_services, NULL, service_columns,
     COUNT(service_columns)},
    {"endpoints", "listeners in the mesh", meshd_show_endpoints, NULL, endpoint_columns,
     COUNT(endpoint_columns)},
    {"workloads", "processes attached", meshd_show_workloads, NULL, workload_columns,
     COUNT(workload_columns)},
    {"connections", "connections, open and recently closed", meshd_show_connections, NULL,
     connection_columns, COUNT(connection_columns)},
    {"certs", "certificates and when they expire", meshd_show_certs, NULL, cert_columns,
     COUNT(cert_columns)},
    {"stats", "every counter", meshd_show_stats, meshd_show_stats_text, NULL, 0},
    {"help", "this list", show_help, help_text, NULL, 0},
    {"quit", "hang up", NULL, NULL, NULL, 0},
};

static struct kept {
    char *text;
    size_t len;
    uint64_t until_ns;
} kept[COUNT(commands)][2];

static json_t *
show_help(void)
{
    json_t *all = json_array();
    for (size_t i = 0; i < COUNT(commands); i++) {
        json_array_append_new(all, json_pack("{s:s, s:s}", "command", commands[i].name, "text",
                                             commands[i].text));
    }
    return json_pack("{s:i, s:o}", "schema", MESHD_SCHEMA, "commands", all);
}

static void
help_text(struct evbuffer *out, const json_t *answer)
{
    static const struct meshd_column columns[] = {{"COMMAND", "command", MESHD_CELL_TEXT},
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

/* The answer, malloc'ed; NULL when out of memory. */
static char *
make(const struct command *c, bool json, size_t *len)
{
    char *text = NULL;
    json_t *answer = c->show();
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

static bool
run(const struct command *c, bool json, struct evbuffer *out)
{
    struct kept *k = &kept[c - commands][json];
    uint64_t start = meshd_now_ns();
    if (!k->text || k->until_ns <= start) {
        free(k->text);
        k->text = make(c, json, &k->len);
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
    for (size_t i = 0; i < COUNT(commands); i++) {
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

bool
meshd_command_answer(const char *line, size_t len, struct evbuffer *out)
{
    static const char *const options[] = {"json"};
    char words[WORDS_MAX][WORD_MAX + 1] = {{0}};
    size_t n = split(line, len, words);
    bool json = n >= 2 && strcmp(words[1], "json") == 0;
    if (n == 0) {
        return true;
    }
    for (size_t i = 0; i < COUNT(commands); i++) {
        if (strcmp(words[0], commands[i].name) != 0) {
            continue;
        }
        if (n > 2 || (n == 2 && !json)) {
            const char *word = words[n > 2 && json ? 2 : 1];
            fail_word(out, json, "option", word, json ? NULL : mesh_suggest(word, options, 1));
            return true;
        }
        return commands[i].show ? run(&commands[i], json, out) : false;
    }
    unknown_command(out, json, words[0]);
    return true;
}
