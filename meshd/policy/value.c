/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_value: single values of the configuration: one function a type, from a node of the tree to
 * the field that keys.def names.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/suggest.h"
#include "meshd/base/log.h"
#include "meshd/policy/host.h"
#include "meshd/policy/keys.h"
#include "meshd/policy/units.h"

#define WORDS_MAX 8

static const char *const mode_words[WORDS_MAX] = {
    [MESH_MODE_OFF] = "off", [MESH_MODE_PERMISSIVE] = "permissive", [MESH_MODE_STRICT] = "strict"};
static const char *const egress_words[WORDS_MAX] = {"allow_any", "registry_only"};
static const char *const kernel_tls_words[WORDS_MAX] = {
    [MESH_KTLS_AUTO] = "auto", [MESH_KTLS_OFF] = "off", [MESH_KTLS_ALWAYS] = "always"};
static const char *const access_words[WORDS_MAX] = {[MESHD_ACCESS_ALL] = "all", [MESHD_ACCESS_ERRORS] = "errors"};
static const char *const level_words[WORDS_MAX] = {
    [MESHD_LOG_ERROR] = "error", [MESHD_LOG_WARN] = "warn", [MESHD_LOG_INFO] = "info",
    [MESHD_LOG_DEBUG] = "debug"};

static const char *const lb_words[WORDS_MAX] = {[MESH_LB_LEAST_REQUEST] = "least_request",
                                                [MESH_LB_ROUND_ROBIN] = "round_robin",
                                                [MESH_LB_RANDOM] = "random",
                                                [MESH_LB_PEAK_EWMA] = "peak_ewma",
                                                [MESH_LB_RING_HASH] = "ring_hash",
                                                [MESH_LB_MAGLEV] = "maglev"};
static const char *const hash_words[WORDS_MAX] = {
    [MESH_HASH_SOURCE_IDENTITY] = "source_identity", [MESH_HASH_SOURCE_IP] = "source_ip", [MESH_HASH_UID] = "uid",
    [MESH_HASH_UNIT] = "unit", [MESH_HASH_EXE] = "exe", [MESH_HASH_DESTINATION_IP] = "destination_ip",
    [MESH_HASH_DESTINATION_PORT] = "destination_port"};

static const char *const dns_words[WORDS_MAX] = {[MESHD_DNS_A] = "a", [MESHD_DNS_SRV] = "srv"};
static const char *const fallback_words[WORDS_MAX] = {[MESHD_NO_FALLBACK] = "no_fallback",
                                                      [MESHD_ANY_ENDPOINT] = "any_endpoint",
                                                      [MESHD_DEFAULT_SUBSET] = "default_subset"};
static const char *const fault_words[WORDS_MAX] = {
    [MESH_FAULT_REFUSE] = "refuse", [MESH_FAULT_DELAY] = "delay", [MESH_FAULT_RESET] = "reset",
    [MESH_FAULT_BLACKHOLE] = "blackhole", [MESH_FAULT_SLOW_READ] = "slow_read",
    [MESH_FAULT_SHORT_WRITE] = "short_write"};

static const char *const health_words[WORDS_MAX] = {
    [MESHD_HEALTH_TCP] = "tcp", [MESHD_HEALTH_TLS] = "tls", [MESHD_HEALTH_HTTP] = "http",
    [MESHD_HEALTH_COMMAND] = "command"};

struct out {
    char *why;
    size_t room;
};

typedef bool store_fn(const struct meshd_key *k, const struct meshd_node *n, void *field,
                      const struct out *o);

static bool fail(const struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(const struct out *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(o->why, o->room, fmt, ap);
    va_end(ap);
    return false;
}

static void
put_number(const struct meshd_key *k, void *field, uint64_t v)
{
    if (k->size == 1) {
        *(uint8_t *)field = (uint8_t)v;
    } else if (k->size == 2) {
        *(uint16_t *)field = (uint16_t)v;
    } else if (k->size == 4) {
        *(uint32_t *)field = (uint32_t)v;
    } else {
        *(uint64_t *)field = v;
    }
}

static bool
store_bool(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    if (n->type != MESHD_NODE_BOOL) {
        return fail(o, "expected true or false without quotes, not %s", meshd_node_kind(n));
    }
    put_number(k, field, n->value != 0);
    return true;
}

static bool
store_int(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    if (n->type != MESHD_NODE_INT) {
        return fail(o, "expected an integer without quotes, not %s", meshd_node_kind(n));
    }
    if (n->value < k->min || n->value > k->max) {
        return fail(o, "%" PRId64 " is out of range %" PRId64 " to %" PRId64, n->value, k->min,
                    k->max);
    }
    put_number(k, field, (uint64_t)n->value);
    return true;
}

static bool
store_ratio(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    char *end = NULL;
    if (n->type != MESHD_NODE_INT && n->type != MESHD_NODE_FLOAT) {
        return fail(o, "expected a number without quotes, not %s", meshd_node_kind(n));
    }
    double v = strtod(n->text, &end) * 1000 + 0.5;
    if (end == n->text || !(v >= (double)k->min && v < (double)k->max + 1)) {
        return fail(o, "%s is out of range %g to %g", n->text, (double)k->min / 1000, (double)k->max / 1000);
    }
    put_number(k, field, (uint64_t)v);
    return true;
}

static bool
need_string(const struct meshd_node *n, const char *example, const struct out *o)
{
    if (n->type == MESHD_NODE_STRING) {
        return true;
    }
    return fail(o, "expected a string like \"%s\", not %s", example, meshd_node_kind(n));
}

static bool
store_duration(const struct meshd_key *k, const struct meshd_node *n, void *field,
               const struct out *o)
{
    char low[MESHD_UNITS_TEXT], high[MESHD_UNITS_TEXT];
    uint64_t ms = 0, unit = k->type == MESHD_KEY_SECONDS ? 1000 : 1;

    if (n->type == MESHD_NODE_INT || n->type == MESHD_NODE_FLOAT) {
        return fail(o, "%s has no unit; write \"%s%s\"", n->text, n->text,
                    k->type == MESHD_KEY_SECONDS ? "s" : "ms");
    }
    if (!need_string(n, "250ms", o)) {
        return false;
    }
    if (!meshd_units_duration(n->text, &ms)) {
        return fail(o, "\"%.64s\" is no duration; write it like \"250ms\", \"5s\", \"1m30s\" or \"24h\"",
                    n->text);
    }
    if (ms < (uint64_t)k->min * unit || ms > (uint64_t)k->max * unit || ms % unit != 0) {
        return fail(o, "\"%.64s\" is out of range \"%s\" to \"%s\"%s", n->text,
                    meshd_units_duration_text((uint64_t)k->min * unit, low),
                    meshd_units_duration_text((uint64_t)k->max * unit, high),
                    ms % unit != 0 ? ", whole seconds" : "");
    }
    put_number(k, field, ms / unit);
    return true;
}

static bool
store_size(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    uint64_t bytes = 0;

    if (n->type == MESHD_NODE_INT || n->type == MESHD_NODE_FLOAT) {
        return fail(o, "%s has no unit; write \"%sB\"", n->text, n->text);
    }
    if (!need_string(n, "10MiB", o)) {
        return false;
    }
    if (!meshd_units_size(n->text, &bytes)) {
        return fail(o, "\"%.64s\" is no size; write it like \"512B\", \"64KiB\" or \"10MiB\"", n->text);
    }
    if (bytes < (uint64_t)k->min || bytes > (uint64_t)k->max) {
        return fail(o, "\"%.64s\" is out of range %" PRId64 " to %" PRId64 " bytes", n->text, k->min,
                    k->max);
    }
    put_number(k, field, bytes);
    return true;
}

static bool
store_percent(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    uint32_t part = 0;

    if (n->type != MESHD_NODE_INT && n->type != MESHD_NODE_FLOAT) {
        return fail(o, "expected a number without quotes, not %s", meshd_node_kind(n));
    }
    if (!meshd_units_percent(n->text, &part)) {
        return fail(o, "%.64s is no percentage from 0 to 100 with at most two decimals", n->text);
    }
    put_number(k, field, part);
    return true;
}

/* Fields of text are zero behind the end, so that they can be compared as bytes. */
static bool
put_text(const struct meshd_key *k, const char *text, void *field, const struct out *o)
{
    size_t len = strlen(text);
    if (len >= k->size) {
        return fail(o, "longer than %zu bytes", k->size - 1);
    }
    memset(field, 0, k->size);
    memcpy(field, text, len);
    return true;
}

static bool
store_name(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (!need_string(n, "orders", o)) {
        return false;
    }
    if (!*n->text || n->text[strspn(n->text, allowed)] || strcmp(n->text, ".") == 0 ||
        strcmp(n->text, "..") == 0) {
        return fail(o, "\"%.64s\" is no name; letters, digits, '.', '_' and '-' are allowed", n->text);
    }
    return put_text(k, n->text, field, o);
}

static bool
store_trust_domain(const struct meshd_key *k, const struct meshd_node *n, void *field,
                   const struct out *o)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";

    if (!need_string(n, "mesh.local", o)) {
        return false;
    }
    if (!*n->text || n->text[strspn(n->text, allowed)]) { /* [SPIFFE-ID 2.1] */
        return fail(o, "\"%.64s\" is no trust domain; lower case letters, digits, '.', '_' and '-' are "
                       "allowed",
                    n->text);
    }
    return put_text(k, n->text, field, o);
}

static bool
store_directory(const struct meshd_key *k, const struct meshd_node *n, void *field,
                const struct out *o)
{
    if (!need_string(n, "/run/meshd", o)) {
        return false;
    }
    if (n->text[0] != '/') {
        return fail(o, "\"%.64s\" is no absolute path", n->text);
    }
    return put_text(k, n->text, field, o);
}

static bool
store_text(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    if (!need_string(n, k->type == MESHD_KEY_USER ? "www-data" : "/opt/orders/*", o)) {
        return false;
    }
    if (!*n->text) {
        return fail(o, "is empty; leave the key out instead");
    }
    return put_text(k, n->text, field, o);
}

static bool
store_listen(const struct meshd_key *k, const struct meshd_node *n, void *field,
             const struct out *o)
{
    struct mesh_addr a;

    if (!need_string(n, "127.0.0.1:9901", o)) {
        return false;
    }
    bool path = strncmp(n->text, "unix:/", 6) == 0;
    if (!path && strcmp(n->text, "off") != 0 && !meshd_units_addr(n->text, &a)) {
        return fail(o, "\"%.64s\" is neither \"ADDRESS:PORT\" nor \"unix:/path\" nor \"off\"",
                    n->text);
    }
    if (path && strlen(n->text + 5) > 107) { /* sun_path [unix(7)] */
        return fail(o, "the path is longer than 107 bytes");
    }
    return put_text(k, n->text, field, o);
}

static bool
store_log_path(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    if (!need_string(n, "/var/log/meshd/access.log", o)) {
        return false;
    }
    if (strcmp(n->text, "off") != 0 && strcmp(n->text, "stdout") != 0 &&
        (n->text[0] != '/' || n->text[strlen(n->text) - 1] == '/')) {
        return fail(o, "\"%.64s\" is neither an absolute path of a file nor \"stdout\" nor \"off\"", n->text);
    }
    return put_text(k, n->text, field, o);
}

static bool
store_addr(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    struct mesh_addr a;

    (void)k;
    if (!need_string(n, "10.0.0.1:80", o)) {
        return false;
    }
    if (!meshd_units_addr(n->text, &a)) {
        return fail(o, "\"%.64s\" is no address and port; write \"10.0.0.1:80\" or \"[fd00::1]:80\"",
                    n->text);
    }
    if (mesh_addr_is_any(&a)) {
        return fail(o, "\"%.64s\" is a wildcard, which nobody can connect to", n->text);
    }
    memcpy(field, &a, sizeof(a));
    return true;
}

/* [RFC1035 2.3.4]; '_' as in SRV names [RFC2782]. All digits and dots would be an address. */
static bool
is_dns_name(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    bool number = !s[strspn(s, "0123456789.")];
    size_t len = strlen(s);
    while (*s) {
        size_t label = strspn(s, allowed);
        s += label;
        if (label == 0 || label > 63 || (*s && *s++ != '.')) {
            return false;
        }
    }
    return len > 0 && len <= 253 && !number;
}

static bool
store_dns_name(const struct meshd_key *k, const struct meshd_node *n, void *field,
               const struct out *o)
{
    if (!need_string(n, "db.example.internal", o)) {
        return false;
    }
    if (!is_dns_name(n->text)) {
        return fail(o, "\"%.64s\" is no DNS name", n->text);
    }
    return put_text(k, n->text, field, o);
}

static bool
store_net(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    struct meshd_net net = {.given = true};

    (void)k;
    if (!need_string(n, "10.0.0.0/8", o)) {
        return false;
    }
    if (!meshd_units_net(n->text, net.ip, &net.prefix)) {
        return fail(o, "\"%.64s\" is no network; write \"10.0.0.0/8\" or \"fd00::/8\", without bits behind "
                       "the prefix", n->text);
    }
    memcpy(field, &net, sizeof(net));
    return true;
}

static bool
store_label(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";

    if (!need_string(n, "version=v2", o)) {
        return false;
    }
    const char *is = strchr(n->text, '=');
    if (!is || is == n->text || n->text + strspn(n->text, allowed) != is || is[1 + strspn(is + 1, allowed)]) {
        return fail(o, "\"%.64s\" is no label; write \"KEY=VALUE\" of letters, digits, '.', '_', '-' and '/'",
                    n->text);
    }
    return put_text(k, n->text, field, o);
}

/* A request line has no spaces, and nobody may write another line into it [RFC9112 3]. */
static bool
store_url_path(const struct meshd_key *k, const struct meshd_node *n, void *field,
               const struct out *o)
{
    if (!need_string(n, "/healthz", o)) {
        return false;
    }
    if (n->text[0] != '/') {
        return fail(o, "\"%.64s\" does not begin with a slash", n->text);
    }
    for (const char *p = n->text; *p; p++) {
        if (!isgraph((unsigned char)*p) || *p == '#') {
            return fail(o, "\"%.64s\" has characters that must be written as %%XX", n->text);
        }
    }
    return put_text(k, n->text, field, o);
}

/* "200-299", "204" */
static bool
parse_range(const char *s, int64_t *from, int64_t *to)
{
    char *end = NULL;
    if (!isdigit((unsigned char)*s)) {
        return false;
    }
    *from = *to = strtoll(s, &end, 10);
    if (*end == '-' && isdigit((unsigned char)end[1])) {
        *to = strtoll(end + 1, &end, 10);
    }
    return *end == '\0';
}

static bool
store_status(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    int64_t from = n->value, to = n->value;

    if (n->type != MESHD_NODE_INT && n->type != MESHD_NODE_STRING) {
        return fail(o, "expected a status like 200 or a string like \"200-299\", not %s",
                    meshd_node_kind(n));
    }
    if (n->type == MESHD_NODE_STRING && !parse_range(n->text, &from, &to)) {
        return fail(o, "\"%.64s\" is no status; write 200 or \"200-299\"", n->text);
    }
    if (from < k->min || to > k->max || from > to) {
        return fail(o, "%.64s is no range within %" PRId64 " to %" PRId64, n->text, k->min, k->max);
    }
    *(struct meshd_status_range *)field = (struct meshd_status_range){(uint16_t)from, (uint16_t)to};
    return true;
}

static bool
store_argument(const struct meshd_key *k, const struct meshd_node *n, void *field,
               const struct out *o)
{
    return need_string(n, "/usr/lib/monitoring/check", o) && put_text(k, n->text, field, o);
}

static bool
store_host(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    struct meshd_host h;
    const char *why = NULL;

    (void)k;
    if (!need_string(n, "db.internal:5432", o)) {
        return false;
    }
    if (!meshd_host_parse(n->text, &h, &why)) {
        return fail(o, "\"%.64s\" %s", n->text, why);
    }
    memcpy(field, &h, sizeof(h));
    return true;
}

static bool
store_domain(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    if (!need_string(n, "mesh", o)) {
        return false;
    }
    if (*n->text && !meshd_host_is_domain(n->text)) {
        return fail(o, "\"%.64s\" is no domain; write it in lower case, as in \"mesh\" or \"svc.example\"", n->text);
    }
    return put_text(k, n->text, field, o);
}

static bool
store_pattern(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    struct meshd_host h;
    const char *why = NULL;

    if (!need_string(n, "*.example.org", o)) {
        return false;
    }
    bool wild = strncmp(n->text, "*.", 2) == 0;
    if (meshd_host_is_address(n->text + (wild ? 2 : 0))) {
        return fail(o, "\"%.64s\" is an address; write it as cidr", n->text);
    }
    if (!meshd_host_parse(n->text + (wild ? 2 : 0), &h, &why) || h.port) {
        return fail(o, "\"%.64s\" %s", n->text, h.port ? "has a port; write it as port" : why);
    }
    char text[sizeof(h.name) + 2];
    snprintf(text, sizeof(text), "%s%s", wild ? "*." : "", h.name);
    return put_text(k, text, field, o);
}

static const char *const *
words_of(enum meshd_key_type type)
{
    return type == MESHD_KEY_MODE            ? mode_words
           : type == MESHD_KEY_EGRESS        ? egress_words
           : type == MESHD_KEY_KERNEL_TLS    ? kernel_tls_words
           : type == MESHD_KEY_LOAD_BALANCER ? lb_words
           : type == MESHD_KEY_HEALTH_TYPE   ? health_words
           : type == MESHD_KEY_DNS_TYPE      ? dns_words
           : type == MESHD_KEY_SUBSET_FALLBACK ? fallback_words
           : type == MESHD_KEY_ACCESS_FILTER ? access_words
           : type == MESHD_KEY_FAULT         ? fault_words
           : type == MESHD_KEY_HASH_FIELD    ? hash_words
                                             : level_words;
}

static bool
store_word(const struct meshd_key *k, const struct meshd_node *n, void *field, const struct out *o)
{
    const char *const *words = words_of(k->type);
    char all[160];

    if (!need_string(n, words[0], o)) {
        return false;
    }
    for (unsigned i = 0; i < WORDS_MAX && words[i]; i++) {
        if (strcmp(words[i], n->text) == 0) {
            put_number(k, field, i);
            return true;
        }
    }
    const char *near = mesh_suggest(n->text, words, WORDS_MAX);
    if (near) {
        return fail(o, "\"%.64s\" is unknown; did you mean \"%s\"?", n->text, near);
    }
    return fail(o, "\"%.64s\" is unknown; expected %s", n->text,
                meshd_value_type(k, all, sizeof(all)));
}

static const struct {
    store_fn *store;
    const char *type;
} types[] = {
    [MESHD_KEY_BOOL] = {store_bool, "true or false"},
    [MESHD_KEY_INT] = {store_int, "integer"},
    [MESHD_KEY_UID] = {store_int, "integer"},
    [MESHD_KEY_MS] = {store_duration, "duration"},
    [MESHD_KEY_SECONDS] = {store_duration, "duration"},
    [MESHD_KEY_SIZE] = {store_size, "size"},
    [MESHD_KEY_RATIO] = {store_ratio, "number"},
    [MESHD_KEY_NAME] = {store_name, "name"},
    [MESHD_KEY_TRUST_DOMAIN] = {store_trust_domain, "name"},
    [MESHD_KEY_DIRECTORY] = {store_directory, "absolute path"},
    [MESHD_KEY_USER] = {store_text, "user name"},
    [MESHD_KEY_GLOB] = {store_text, "pattern"},
    [MESHD_KEY_LISTEN] = {store_listen, "address"},
    [MESHD_KEY_LOG_PATH] = {store_log_path, "absolute path, \"stdout\" or \"off\""},
    [MESHD_KEY_ADDR] = {store_addr, "address"},
    [MESHD_KEY_HOST] = {store_host, "host name"},
    [MESHD_KEY_DOMAIN] = {store_domain, "domain"},
    [MESHD_KEY_PATTERN] = {store_pattern, "host name"},
    [MESHD_KEY_NET] = {store_net, "network"},
    [MESHD_KEY_LABEL] = {store_label, "label"},
    [MESHD_KEY_MODE] = {store_word, NULL},
    [MESHD_KEY_EGRESS] = {store_word, NULL},
    [MESHD_KEY_KERNEL_TLS] = {store_word, NULL},
    [MESHD_KEY_LEVEL] = {store_word, NULL},
    [MESHD_KEY_LOAD_BALANCER] = {store_word, NULL},
    [MESHD_KEY_HEALTH_TYPE] = {store_word, NULL},
    [MESHD_KEY_URL_PATH] = {store_url_path, "path"},
    [MESHD_KEY_STATUS] = {store_status, "status"},
    [MESHD_KEY_ARGUMENT] = {store_argument, "string"},
    [MESHD_KEY_DNS_TYPE] = {store_word, NULL},
    [MESHD_KEY_DNS_NAME] = {store_dns_name, "DNS name"},
    [MESHD_KEY_SUBSET_FALLBACK] = {store_word, NULL},
    [MESHD_KEY_ACCESS_FILTER] = {store_word, NULL},
    [MESHD_KEY_FAULT] = {store_word, NULL},
    [MESHD_KEY_HASH_FIELD] = {store_word, NULL},
    [MESHD_KEY_PERCENT] = {store_percent, "percentage"},
    [MESHD_KEY_GROUP] = {NULL, "group"},
    [MESHD_KEY_LIST] = {NULL, "list"},
};

bool
meshd_value_store(const struct meshd_key *k, const struct meshd_node *n, void *field, char *why,
                  size_t room)
{
    struct out o = {why, room};
    return types[k->type].store(k, n, field, &o);
}

/* The default's text as the node that libconfig would make of it. */
static struct meshd_node
default_node(const char *def, char *copy, size_t room)
{
    struct meshd_node n = {.type = MESHD_NODE_INT, .text = copy};

    snprintf(copy, room, "%s", *def == '"' ? def + 1 : def);
    if (*def == '"') {
        n.type = MESHD_NODE_STRING;
        copy[strlen(copy) - 1] = '\0';
    } else if (isdigit((unsigned char)*def)) {
        n.value = strtoll(def, NULL, 10);
    } else {
        n.type = MESHD_NODE_BOOL;
        n.value = *def == 't';
    }
    return n;
}

void
meshd_value_default(const struct meshd_key *k, void *field)
{
    char why[MESHD_DIAG_TEXT], copy[MESHD_PATH_MAX];

    if (k->def && !(k->flags & (INITIAL | NEEDED))) {
        struct meshd_node n = default_node(k->def, copy, sizeof(copy));
        if (!meshd_value_store(k, &n, field, why, sizeof(why))) {
            log_error("default of %s: %s", k->name, why);
        }
    } else if (k->type == MESHD_KEY_UID) {
        *(int64_t *)field = -1;
    } else if (k->size == 1) {
        *(uint8_t *)field = MESHD_CONFIG_UNSET;
    }
}

const char *
meshd_value_type(const struct meshd_key *k, char *out, size_t room)
{
    if (types[k->type].type) {
        snprintf(out, room, "%s", types[k->type].type);
        return out;
    }
    const char *const *words = words_of(k->type);
    size_t len = (size_t)snprintf(out, room, "one of ");
    for (unsigned i = 0; i < WORDS_MAX && words[i] && len < room; i++) {
        len += (size_t)snprintf(out + len, room - len, "%s\"%s\"", i ? ", " : "", words[i]);
    }
    return out;
}
