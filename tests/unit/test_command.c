/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_command: one line of the status socket: words, errors, any bytes at all. What needs a running
 * meshd is in tests/e2e/status_abuse.py.
 */
#include "meshd/ctl/command.h"

#include <ctype.h>
#include <event2/buffer.h>
#include <jansson.h>

#include "meshd/policy/config.h"
#include "tests/unit/unit.h"

/* The answer as a string, the caller's. */
static char *
answer(const char *line, size_t len)
{
    struct evbuffer *out = evbuffer_new();
    ck_assert(meshd_command_answer(-1, line, len, out));
    size_t n = evbuffer_get_length(out);
    char *text = calloc(1, n + 1);
    ck_assert_int_eq(evbuffer_remove(out, text, n), (int)n);
    evbuffer_free(out);
    return text;
}

static void
says(const char *line, const char *want)
{
    char *got = answer(line, strlen(line));
    ck_assert_str_eq(got, want);
    free(got);
}

/* A whole answer: text with one empty line and that at its end, or one line of JSON. */
static void
is_whole(const char *text)
{
    size_t len = strlen(text);
    ck_assert(len > 2 && text[len - 1] == '\n');
    if (text[0] == '{') {
        json_t *o = json_loads(text, 0, NULL);
        ck_assert_ptr_nonnull(o);
        ck_assert_int_eq(json_integer_value(json_object_get(o, "schema")), 1);
        ck_assert_ptr_eq(strchr(text, '\n'), text + len - 1);
        json_decref(o);
    } else {
        ck_assert_ptr_eq(strstr(text, "\n\n"), text + len - 2);
    }
}

START_TEST(help_names_every_command)
{
    static const char *const names[] = {"help",      "status",      "services", "endpoints",
                                        "workloads", "connections", "certs",    "stats",
                                        "stat",      "top",         "edges",    "check",
                                        "drain",     "undrain",     "draining", "why"};
    char *text = answer("help", 4), *json = answer("help json", 9);
    is_whole(text);
    is_whole(json);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ck_assert_msg(strstr(text, names[i]) != NULL, "%s", names[i]);
        ck_assert_msg(strstr(json, names[i]) != NULL, "%s", names[i]);
    }
    free(text);
    free(json);
}
END_TEST

START_TEST(unknown_commands)
{
    says("conections", "error: unknown command 'conections'; did you mean 'connections'?\n\n");
    ck_assert_int_eq(meshd_config_load(NULL, "/run"), MESH_OK);
    says("why web", "error: \"\" is no ADDR:PORT and no name of a service; see meshctl services\n\n");
    says("why", "error: \"\" is no client; write SERVICE[,uid=N][,unit=UNIT][,exe=PATH][,source_ip=ADDRESS]\n\n");
    says("why a=b 10.0.0.1:80", "error: \"a=b\" is no client; write SERVICE[,uid=N][,unit=UNIT][,exe=PATH][,source_ip=ADDRESS]\n\n");
    says("why a zz:99999 json",
         "{\"schema\":1,\"error\":\"\\\"zz:99999\\\" is no ADDR:PORT and no name of a service; see meshctl services\"}\n");
    says("why a b c", "error: unknown option 'c'; see 'help'\n\n");
    says("Status2", "error: unknown command 'Status2'; did you mean 'status'?\n\n");
    says("zzzzzz", "error: unknown command 'zzzzzz'; see 'help'\n\n");
    says("zzzzzz json", "{\"schema\":1,\"error\":\"unknown command 'zzzzzz'; see 'help'\"}\n");
    says("help xml", "error: unknown option 'xml'; see 'help'\n\n");
}
END_TEST

/* There is no client whose kernel could say who it is. */
START_TEST(orders_need_somebody)
{
    says("drain cache", "error: not permitted: the kernel does not say who you are\n\n");
    says("undrain cache json",
         "{\"schema\":1,\"error\":\"not permitted: the kernel does not say who you are\"}\n");
    says("draining cache", "error: 'cache' is not draining\n\n");
    says("draining cache json", "{\"schema\":1,\"error\":\"'cache' is not draining\"}\n");
    says("draining json", "{\"schema\":1,\"draining\":[]}\n");
    says("draining a b", "error: unknown option 'b'; see 'help'\n\n");
    says("draining a json b", "{\"schema\":1,\"error\":\"unknown option 'b'; see 'help'\"}\n");
    says("draining a jso", "error: unknown option 'jso'; did you mean 'json'?\n\n");
    says("top cache", "error: unknown option 'cache'; see 'help'\n\n");
}
END_TEST

START_TEST(blanks_do_not_matter)
{
    char *plain = answer("help", 4), *blanks = answer(" \thelp \t ", 9);
    ck_assert_str_eq(plain, blanks);
    free(plain);
    free(blanks);
    says("", "");
    says("  \t ", "");
}
END_TEST

START_TEST(any_byte_is_answered_in_ascii)
{
    uint8_t *line = unit_guarded(3);
    for (unsigned b = 0; b < 256; b++) {
        if (b == '\n') {
            continue;
        }
        line[0] = line[1] = line[2] = (uint8_t)b;
        char *text = answer((const char *)line, 3);
        for (const char *p = text; *p; p++) {
            ck_assert(*p == '\n' || isprint((unsigned char)*p));
        }
        ck_assert(!*text || strncmp(text, "error: ", 7) == 0);
        free(text);
    }
}
END_TEST

START_TEST(a_line_is_read_to_its_end_only)
{
    for (size_t n = 1; n <= MESHD_COMMAND_LINE_MAX; n = n * 3 + 1) {
        uint8_t *line = unit_guarded(n);
        memset(line, 'h', n);
        char *text = answer((const char *)line, n);
        is_whole(text);
        free(text);
    }
}
END_TEST

START_TEST(quotes_and_backslashes_stay_json)
{
    static const char *const lines[] = {"\"\" json", "\\\\ json", "'%s%n' json", "{} json"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char *text = answer(lines[i], strlen(lines[i]));
        is_whole(text);
        free(text);
    }
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("command");
    TCase *t = tcase_create("all");
    tcase_add_test(t, help_names_every_command);
    tcase_add_test(t, unknown_commands);
    tcase_add_test(t, orders_need_somebody);
    tcase_add_test(t, blanks_do_not_matter);
    tcase_add_test(t, any_byte_is_answered_in_ascii);
    tcase_add_test(t, a_line_is_read_to_its_end_only);
    tcase_add_test(t, quotes_and_backslashes_stay_json);
    suite_add_tcase(s, t);
    return unit_run(s);
}
