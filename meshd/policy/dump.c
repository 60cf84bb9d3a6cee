/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_schema_dump: the configuration's reference, from keys.def: a commented meshd.conf that holds
 * the defaults, and the list of keys for meshd.conf(5).
 */
#include <inttypes.h>
#include <string.h>

#include "meshd/policy/keys.h"
#include "meshd/policy/units.h"

#define WIDTH     96
#define MAN_WIDTH 90

/* How the lines of one scope begin: "#" when commented out, and the indentation. */
struct margin {
    const char *mark;
    int indent;
};

static void
wrap(FILE *out, const struct margin *m, const char *text)
{
    int room = WIDTH - m->indent - 2, used = 0;

    fprintf(out, "%*s#", m->indent, "");
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (used > 0 && used + 1 + len > room) {
            fprintf(out, "\n%*s#", m->indent, "");
            used = 0;
        }
        fprintf(out, " %.*s", len, text);
        used += len + 1;
        text += len;
        text += *text == ' ';
    }
    fputc('\n', out);
}

/* "Duration, 100ms to 10m." and what a reload does. */
static void
facts(const struct meshd_key *k, char *out, size_t room)
{
    char type[128], low[MESHD_UNITS_TEXT], high[MESHD_UNITS_TEXT], range[2 * MESHD_UNITS_TEXT] = "";
    uint64_t unit = k->type == MESHD_KEY_SECONDS ? 1000 : 1;

    meshd_value_type(k, type, sizeof(type));
    if (k->type == MESHD_KEY_MS || k->type == MESHD_KEY_SECONDS) {
        snprintf(range, sizeof(range), ", %s to %s",
                 meshd_units_duration_text((uint64_t)k->min * unit, low),
                 meshd_units_duration_text((uint64_t)k->max * unit, high));
    } else if (k->type == MESHD_KEY_RATIO) {
        snprintf(range, sizeof(range), ", %g to %g", (double)k->min / 1000, (double)k->max / 1000);
    } else if (k->max > 0) {
        snprintf(range, sizeof(range), ", %" PRId64 " to %" PRId64, k->min, k->max);
    }
    if (*type >= 'a' && *type <= 'z') {
        *type = (char)(*type - 'a' + 'A');
    }
    snprintf(out, room, "%s%s%s.%s", type, range, k->flags & NEEDED ? ", required" : "",
             k->flags & RESTART ? " A change needs a restart." : "");
}

static void
conf_scope(FILE *out, enum meshd_scope_id scope, const struct margin *m)
{
    char line[256];

    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope != scope) {
            continue;
        }
        bool list = k->type == MESHD_KEY_LIST;
        struct margin in = {m->mark, m->indent + 4};
        const char *mark = list || ((k->flags & INITIAL) && !m->indent) ? "#" : m->mark;
        if (scope == MESHD_SCOPE_ROOT) {
            fputc('\n', out);
        }
        wrap(out, m, k->text);
        if (list && meshd_key_bare(k)) {
            const struct meshd_key *bare = meshd_key_bare(k);
            wrap(out, m, bare->text);
            fprintf(out, "%*s#%s = (%s);\n", m->indent, "", k->name, bare->def);
        } else if (list) {
            in.mark = "#";
            in.indent = m->indent + 8;
            fprintf(out, "%*s#%s = (\n%*s#{\n", m->indent, "", k->name, m->indent + 4, "");
            conf_scope(out, k->inner, &in);
            fprintf(out, "%*s#}\n%*s#);\n", m->indent + 4, "", m->indent, "");
        } else if (k->type == MESHD_KEY_GROUP) {
            fprintf(out, "%*s%s%s = {\n", m->indent, "", mark, k->name);
            in = (struct margin){m->mark, m->indent + 4};
            conf_scope(out, k->inner, &in);
            fprintf(out, "%*s%s};\n", m->indent, "", mark);
        } else {
            facts(k, line, sizeof(line));
            wrap(out, m, line);
            fprintf(out, "%*s%s%s = %s;\n", m->indent, "", mark, k->name, k->def);
        }
    }
}

static void
man_text(FILE *out, const char *text)
{
    int used = 0;
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (used > 0 && used + 1 + len > MAN_WIDTH) {
            fputc('\n', out);
            used = 0;
        }
        const char *guard = used == 0 && (*text == '.' || *text == '\'') ? "\\&" : "";
        fprintf(out, "%s%s%.*s", used ? " " : "", guard, len, text);
        used = text[len - 1] == '.' && text[len] ? MAN_WIDTH + 1 : used + len + 1; /* one sentence a line */
        text += len;
        text += *text == ' ';
    }
    fputc('\n', out);
}

/* Quotes on a macro's line would be the macro's. */
static void
man_value(FILE *out, const char *def)
{
    for (; *def; def++) {
        if (*def == '"') {
            fputs("\\(dq", out);
        } else {
            fputc(*def, out);
        }
    }
    fputc('\n', out);
}

static void
man_scope(FILE *out, enum meshd_scope_id scope)
{
    char line[256];

    fprintf(out, ".Bl -tag -width Ds\n");
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope != scope) {
            continue;
        }
        if (k->type == MESHD_KEY_LIST && meshd_key_bare(k)) {
            fprintf(out, ".It Ic %s No = ( ... )\n", k->name);
            man_text(out, k->text);
            man_text(out, meshd_key_bare(k)->text);
            continue;
        }
        if (k->type == MESHD_KEY_GROUP || k->type == MESHD_KEY_LIST) {
            fprintf(out, ".It Ic %s No = %s\n", k->name,
                    k->type == MESHD_KEY_LIST ? "( { ... } , ... )" : "{ ... }");
            man_text(out, k->text);
            man_scope(out, k->inner);
            continue;
        }
        fprintf(out, ".It Ic %s No = ", k->name);
        man_value(out, k->def);
        man_text(out, k->text);
        facts(k, line, sizeof(line));
        man_text(out, line);
    }
    fprintf(out, ".El\n");
}

void
meshd_schema_dump(FILE *out, enum meshd_dump how)
{
    const struct margin m = {"", 0};

    if (how == MESHD_DUMP_MAN) {
        man_scope(out, MESHD_SCOPE_ROOT);
        return;
    }
    fprintf(out, "# SPDX-License-Identifier: Apache-2.0\n"
                 "# meshd.conf: every key with its default. All are optional; see meshd.conf(5).\n"
                 "# Drop-ins: conf.d/*.conf beside this file. Check with: meshd -t -c FILE\n");
    conf_scope(out, MESHD_SCOPE_ROOT, &m);
}
