/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_tree: see tree.h. libconfig is kept away from anything that could end the daemon:
 * version 1.5's scanner calls exit() when it cannot read an opened file (a directory, say), so every
 * file is checked before, included ones too. Its error texts are two words long; the usual mistakes
 * (a value with unit but without quotes, yes and no, a missing semicolon) get a hint.
 */
#include "meshd/policy/tree.h"

#include <ctype.h>
#include <errno.h>
#include <libconfig.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX     (4 << 20)
#define INCLUDE_MAX  10 /* libconfig's own limit */
#define DEPTH_MAX    64 /* of groups in groups; the schema needs 4 */

static const char *const kinds[] = {
    [MESHD_NODE_GROUP] = "a group { ... }", [MESHD_NODE_LIST] = "a list ( ... )",
    [MESHD_NODE_STRING] = "a string",       [MESHD_NODE_INT] = "an integer",
    [MESHD_NODE_FLOAT] = "a number",        [MESHD_NODE_BOOL] = "true or false",
};

const char *
meshd_node_kind(const struct meshd_node *n)
{
    return kinds[n->type];
}

const struct meshd_node *
meshd_tree_child(const struct meshd_node *group, const char *name)
{
    for (size_t i = 0; i < group->count; i++) {
        if (group->children[i].name && strcmp(group->children[i].name, name) == 0) {
            return &group->children[i];
        }
    }
    return NULL;
}

static void
node_fini(struct meshd_node *n)
{
    for (size_t i = 0; i < n->count; i++) {
        node_fini(&n->children[i]);
    }
    free(n->children);
    free(n->name);
    free(n->file);
    free(n->text);
}

void
meshd_tree_free(struct meshd_node *root)
{
    if (root) {
        node_fini(root);
        free(root);
    }
}

/* ---- from libconfig ---- */

static char *
join(const char *dir, const char *file)
{
    char path[PATH_MAX];
    int n = *file == '/' ? snprintf(path, sizeof(path), "%s", file)
                         : snprintf(path, sizeof(path), "%s/%s", dir, file);
    return n < 0 || (size_t)n >= sizeof(path) ? NULL : strdup(path);
}

static char *
directory(const char *file)
{
    char *copy = strdup(file);
    char *dir = copy ? strdup(dirname(copy)) : NULL;
    free(copy);
    return dir;
}

struct origin {
    const char *main_file, *dir;
};

/* libconfig names an included file as the @include line does. */
static char *
origin_file(const struct origin *o, const char *source)
{
    return !source || strcmp(source, o->main_file) == 0 ? strdup(o->main_file)
                                                        : join(o->dir, source);
}

static enum meshd_node_type
node_type(const config_setting_t *s)
{
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_GROUP:
        return MESHD_NODE_GROUP;
    case CONFIG_TYPE_ARRAY:
    case CONFIG_TYPE_LIST:
        return MESHD_NODE_LIST;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return MESHD_NODE_INT;
    case CONFIG_TYPE_FLOAT:
        return MESHD_NODE_FLOAT;
    case CONFIG_TYPE_BOOL:
        return MESHD_NODE_BOOL;
    default:
        return MESHD_NODE_STRING;
    }
}

static bool
node_value(struct meshd_node *n, const config_setting_t *s)
{
    char number[64] = "";
    switch (n->type) {
    case MESHD_NODE_STRING:
        n->text = strdup(config_setting_get_string(s) ? config_setting_get_string(s) : "");
        return n->text != NULL;
    case MESHD_NODE_INT:
        n->value = config_setting_get_int64(s);
        snprintf(number, sizeof(number), "%lld", (long long)n->value);
        break;
    case MESHD_NODE_FLOAT:
        snprintf(number, sizeof(number), "%g", config_setting_get_float(s));
        break;
    case MESHD_NODE_BOOL:
        n->value = config_setting_get_bool(s) != 0;
        snprintf(number, sizeof(number), "%s", n->value ? "true" : "false");
        break;
    case MESHD_NODE_GROUP:
    case MESHD_NODE_LIST:
        return true;
    }
    n->text = strdup(number);
    return n->text != NULL;
}

/* False when out of memory or too deep; what was built so far hangs on *n. */
static bool
convert(struct meshd_node *n, const config_setting_t *s, const struct origin *o, unsigned depth)
{
    n->type = node_type(s);
    n->line = config_setting_source_line(s);
    n->file = origin_file(o, config_setting_source_file(s));
    n->name = config_setting_name(s) ? strdup(config_setting_name(s)) : NULL;
    if (!n->file || (config_setting_name(s) && !n->name) || depth > DEPTH_MAX) {
        return false;
    }
    int count = config_setting_is_aggregate(s) ? config_setting_length(s) : 0;
    n->children = count > 0 ? calloc((size_t)count, sizeof(*n->children)) : NULL;
    if (count > 0 && !n->children) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        n->count++;
        if (!convert(&n->children[i], config_setting_get_elem(s, (unsigned)i), o, depth + 1)) {
            return false;
        }
    }
    return node_value(n, s);
}

static struct meshd_node *
convert_all(const config_t *cf, const struct origin *o, struct meshd_diags *d)
{
    struct meshd_node *root = calloc(1, sizeof(*root));
    if (root && convert(root, config_root_setting(cf), o, 0)) {
        return root;
    }
    meshd_tree_free(root);
    meshd_diag_error(d, o->main_file, 0, "out of memory, or nested deeper than %d", DEPTH_MAX);
    return NULL;
}

/* ---- checks before libconfig opens anything ---- */

static FILE *
open_regular(const char *path, const char *from, unsigned line, struct meshd_diags *d)
{
    struct stat st;
    FILE *f = fopen(path, "re");

    if (!f) {
        meshd_diag_error(d, from, line, "cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        meshd_diag_error(d, from, line, "%s is no regular file of at most %d MiB", path,
                         FILE_MAX >> 20);
        fclose(f);
        return NULL;
    }
    return f;
}

/* The file name of an @include line, in place, or NULL. */
static char *
include_name(char *line)
{
    static const char word[] = "@include";
    char *p = line + strspn(line, " \t");
    if (strncmp(p, word, sizeof(word) - 1) != 0) {
        return NULL;
    }
    p += sizeof(word) - 1;
    p += strspn(p, " \t");
    char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
    if (!end) {
        return NULL;
    }
    *end = '\0';
    return p + 1;
}

static bool
check_file(const char *path, const char *dir, const char *from, unsigned from_line, int depth,
           struct meshd_diags *d)
{
    size_t errors = d->errors, room = 0;
    unsigned number = 0;
    char *line = NULL;
    FILE *f = NULL;

    if (depth > INCLUDE_MAX) {
        meshd_diag_error(d, from, from_line, "files include each other more than %d deep",
                         INCLUDE_MAX);
        return false;
    }
    f = open_regular(path, from, from_line, d);
    if (!f) {
        return false;
    }
    while (errors == d->errors && getline(&line, &room, f) > 0) {
        const char *name = include_name(line);
        char *inner = NULL;
        number++;
        if (name && (inner = join(dir, name))) {
            check_file(inner, dir, path, number, depth + 1, d);
        }
        free(inner);
    }
    free(line);
    fclose(f);
    return errors == d->errors;
}

/* ---- hints ---- */

static bool
find_line(const char *file, unsigned number, char *out, size_t size)
{
    FILE *f = fopen(file, "re");
    bool found = false;

    out[0] = '\0';
    for (unsigned i = 1; f && i <= number && fgets(out, (int)size, f); i++) {
        found = i == number;
        if (!strchr(out, '\n')) { /* the rest of a long line */
            for (int c = fgetc(f); c != EOF && c != '\n';) {
                c = fgetc(f);
            }
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

static const char *
hint(const char *line)
{
    const char *eq = strpbrk(line, "=:");
    const char *v = eq ? eq + 1 + strspn(eq + 1, " \t") : "";
    size_t digits = strspn(v, "0123456789.");

    if (digits > 0 && isalpha((unsigned char)v[digits])) {
        return "values with units and addresses are strings: write them in quotes, \"5s\"";
    }
    if (digits > 0 && (v[digits] == ':' || strchr(v, '/'))) {
        return "addresses are strings: write them in quotes, \"10.0.0.1:80\"";
    }
    if (strncasecmp(v, "yes", 3) == 0 || strncasecmp(v, "no", 2) == 0 ||
        strncasecmp(v, "on", 2) == 0 || strncasecmp(v, "off", 3) == 0) {
        return "write true or false, and words in quotes";
    }
    if (isalpha((unsigned char)*v) && strncasecmp(v, "true", 4) != 0 &&
        strncasecmp(v, "false", 5) != 0) {
        return "write words in quotes";
    }
    if (!eq && isalpha((unsigned char)line[strspn(line, " \t")])) {
        return "expected name = value;";
    }
    return "is a bracket or quote open, or a comma missing before this line?";
}

static void
report(const config_t *cf, const struct origin *o, const char *text, struct meshd_diags *d)
{
    char line[512] = "";
    char *file = origin_file(o, config_error_file(cf));
    const char *what = config_error_text(cf) ? config_error_text(cf) : "unreadable";
    const char *where = file ? file : o->main_file;
    unsigned number = (unsigned)config_error_line(cf);

    if (strcmp(what, "duplicate setting name") == 0) {
        meshd_diag_error(d, where, number, "this name is already set in the same group");
    } else if (!text && strcmp(what, "syntax error") == 0 &&
               find_line(where, number, line, sizeof(line))) {
        meshd_diag_error(d, where, number, "syntax error; %s", hint(line));
    } else {
        meshd_diag_error(d, where, number, "%s", what);
    }
    free(file);
}

/* ---- public ---- */

static struct meshd_node *
read_either(const char *file, const char *text, struct meshd_diags *d)
{
    struct meshd_node *root = NULL;
    char *dir = directory(file);
    struct origin o = {.main_file = file, .dir = dir ? dir : "."};
    config_t cf;

    config_init(&cf);
    config_set_include_dir(&cf, o.dir);
    if (!text && !check_file(file, o.dir, NULL, 0, 0, d)) {
        goto out;
    }
    if (!(text ? config_read_string(&cf, text) : config_read_file(&cf, file))) {
        report(&cf, &o, text, d);
        goto out;
    }
    root = convert_all(&cf, &o, d);
out:
    config_destroy(&cf);
    free(dir);
    return root;
}

struct meshd_node *
meshd_tree_read(const char *file, struct meshd_diags *d)
{
    return read_either(file, NULL, d);
}

struct meshd_node *
meshd_tree_parse(const char *name, const char *text, struct meshd_diags *d)
{
    return read_either(name, text, d);
}
