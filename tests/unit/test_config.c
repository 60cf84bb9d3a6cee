/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config: each kind of error with its file and line, all of them at once, drop-ins, defaults,
 * which rule wins, and what a reload changes.
 */
#include "meshd/policy/config.h"

#include <sys/stat.h>

#include "meshd/base/log.h"
#include "meshd/base/peer.h"
#include "meshd/policy/diag.h"
#include "meshd/policy/schema.h"
#include "meshd/policy/tree.h"
#include "tests/unit/unit.h"

static const char *dir;
static char file[300];
static struct meshd_diags diags;

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    dir = unit_mkdir();
    snprintf(file, sizeof(file), "%s/meshd.conf", dir);
}

static void
teardown(void)
{
    meshd_diags_fini(&diags);
    unit_rmdir(dir);
}

static void
write_file(const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/conf.d", dir);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0);
    ck_assert_int_eq(fclose(f), 0);
}

static struct meshd_config *
build(const char *text)
{
    if (text) {
        write_file("meshd.conf", text);
    }
    meshd_diags_fini(&diags);
    return meshd_config_build(file, dir, &diags, NULL);
}

static struct meshd_config *
build_good(const char *text)
{
    struct meshd_config *cfg = build(text);
    ck_assert_msg(cfg != NULL, "%s", diags.count ? diags.list[0].text : "?");
    ck_assert_uint_eq(diags.errors, 0);
    return cfg;
}

/* "name:line: error: text" below the directory is among the errors. */
static bool
reported(const char *name, const char *text)
{
    char want[1024];
    snprintf(want, sizeof(want), "%s/%s:%s", dir, name, text);
    for (size_t i = 0; i < diags.count; i++) {
        if (strncmp(diags.list[i].text, want, strlen(want)) == 0) {
            return true;
        }
    }
    return false;
}

static void
fails(const char *conf, const char *text)
{
    struct meshd_config *cfg = build(conf);
    ck_assert_msg(cfg == NULL, "accepted: %s", conf);
    ck_assert_msg(reported("meshd.conf", text), "%s\nwanted %s\ngot    %s", conf, text,
                  diags.list[0].text);
}

START_TEST(nothing_means_defaults)
{
    struct meshd_config *cfg = build_good("");
    ck_assert_str_eq(cfg->trust_domain, "mesh.local");
    ck_assert_str_eq(cfg->namespace_, "default");
    ck_assert_str_eq(cfg->admin_listen, "127.0.0.1:9901");
    ck_assert_str_eq(cfg->run_dir, dir);
    ck_assert_uint_eq(cfg->accept_grace_ms, 50);
    ck_assert_uint_eq(cfg->handshake_timeout_ms, 5000);
    ck_assert_uint_eq(cfg->detect_timeout_ms, 200);
    ck_assert_uint_eq(cfg->linger_ms, 1000);
    ck_assert_uint_eq(cfg->cert_ttl_s, 86400);
    ck_assert_uint_eq(cfg->mode, MESH_MODE_PERMISSIVE);
    ck_assert_uint_eq(cfg->egress, 0);
    ck_assert_uint_eq(cfg->log_level, MESHD_LOG_INFO);
    ck_assert(!cfg->strict_close && !cfg->allow_requested_service);
    ck_assert_uint_eq(cfg->workload_count + cfg->service_count, 0);
    meshd_config_free(cfg);
}
END_TEST

static struct meshd_config *
build_dump(bool uncomment)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    meshd_schema_dump(f, MESHD_DUMP_CONF);
    fclose(f);
    for (char *p = text; uncomment && *p; p++) { /* "#key", "#{", not "# text" */
        if (*p == '#' && p[1] != ' ' && (p == text || p[-1] == '\n' || p[-1] == ' ')) {
            *p = ' ';
        }
    }
    struct meshd_config *cfg = build_good(text);
    free(text);
    return cfg;
}

START_TEST(the_reference_is_a_configuration)
{
    struct meshd_config *cfg = build_dump(false);
    ck_assert_uint_eq(cfg->service_count, 0);
    meshd_config_free(cfg);
    cfg = build_dump(true);
    ck_assert_uint_eq(cfg->service_count, 1);
    ck_assert_uint_eq(cfg->services[0].port_count, 1);
    ck_assert_uint_eq(cfg->services[0].endpoint_count, 1);
    ck_assert_uint_eq(cfg->workload_count, 1);
    ck_assert_int_eq(cfg->workloads[0].uid, 1001);
    ck_assert_str_eq(cfg->state_dir, "/var/lib/meshd");
    meshd_config_free(cfg);
}
END_TEST

START_TEST(values)
{
    struct meshd_config *cfg = build_good(
        "trust_domain = \"example.org\"; namespace = \"prod\"; mode = \"strict\";\n"
        "egress = \"registry_only\"; strict_close = TRUE; accept_grace = \"0\";\n"
        "handshake_timeout = \"1m\"; cert_ttl = \"90d\"; log : { level = \"error\"; };\n"
        "admin : { listen = \"unix:/tmp/x\"; }; allow_requested_service = true;\n"
        "services = ( { name = \"a\"; }, { name = \"b\"; mode = \"off\"; strict_close = false;\n"
        "  ports = ( { port = 80; mode = \"strict\"; } );\n"
        "  endpoints = ( { addr = \"10.0.0.1:80\"; }, { addr = \"[::1]:80\"; } ); } );\n");
    ck_assert_str_eq(cfg->trust_domain, "example.org");
    ck_assert_uint_eq(cfg->accept_grace_ms, 0);
    ck_assert_uint_eq(cfg->handshake_timeout_ms, 60000);
    ck_assert_uint_eq(cfg->cert_ttl_s, 90 * 86400);
    ck_assert_uint_eq(cfg->egress, 1);
    ck_assert_uint_eq(cfg->log_level, MESHD_LOG_ERROR);
    ck_assert_uint_eq(cfg->services[1].endpoint_count, 2);
    ck_assert_int_eq(meshd_config_mode(cfg, "a", 80), MESH_MODE_STRICT);
    ck_assert_int_eq(meshd_config_mode(cfg, "b", 80), MESH_MODE_STRICT);
    ck_assert_int_eq(meshd_config_mode(cfg, "b", 81), MESH_MODE_OFF);
    ck_assert_int_eq(meshd_config_mode(cfg, "c", 80), MESH_MODE_STRICT);
    ck_assert(meshd_config_strict_close(cfg, "a") && !meshd_config_strict_close(cfg, "b"));
    ck_assert_ptr_null(meshd_config_service(cfg, "c"));
    meshd_config_free(cfg);
}
END_TEST

/* One line a kind of error: what stands in the file, and what is said of it. */
static const struct {
    const char *conf, *text;
} errors[] = {
    {"trust_doman = \"x\";", "1: error: unknown key 'trust_doman'; did you mean 'trust_domain'?"},
    {"\n\nzzz = 1;", "3: error: unknown key 'zzz'; known are trust_domain, namespace, "},
    {"log = { levle = \"info\"; };", "1: error: unknown key 'levle' in log; did you mean 'level'?"},
    {"services = ( { name = \"a\";\n nme = \"b\"; } );",
     "2: error: unknown key 'nme' in services; did you mean 'name'?"},
    {"mode = \"stict\";", "1: error: mode: \"stict\" is unknown; did you mean \"strict\"?"},
    {"mode = \"x\";",
     "1: error: mode: \"x\" is unknown; expected one of \"off\", \"permissive\", \"strict\""},
    {"mode = 1;", "1: error: mode: expected a string like \"off\", not an integer"},
    {"egress = true;", "1: error: egress: expected a string like \"allow_any\", not true or false"},
    {"linger = 5;", "1: error: linger: 5 has no unit; write \"5ms\""},
    {"cert_ttl = 5;", "1: error: cert_ttl: 5 has no unit; write \"5s\""},
    {"linger = 1.5;", "1: error: linger: 1.5 has no unit; write \"1.5ms\""},
    {"linger = \"5\";", "1: error: linger: \"5\" is no duration; write it like "},
    {"linger = \"11m\";", "1: error: linger: \"11m\" is out of range \"0\" to \"10m\""},
    {"handshake_timeout = \"99ms\";", "1: error: handshake_timeout: \"99ms\" is out of range"},
    {"cert_ttl = \"60500ms\";", "1: error: cert_ttl: \"60500ms\" is out of range \"1m\" to \"90d\", whole"},
    {"cert_ttl = [ \"5s\" ];", "1: error: cert_ttl: expected a string like \"250ms\", not a list"},
    {"strict_close = \"yes\";", "1: error: strict_close: expected true or false without quotes, not"},
    {"strict_close = 1;", "1: error: strict_close: expected true or false without quotes, not an int"},
    {"trust_domain = \"Upper\";", "1: error: trust_domain: \"Upper\" is no trust domain; "},
    {"trust_domain = \"\";", "1: error: trust_domain: \"\" is no trust domain; "},
    {"namespace = \"a/b\";", "1: error: namespace: \"a/b\" is no name; "},
    {"namespace = \"..\";", "1: error: namespace: \"..\" is no name; "},
    {"run_dir = \"here\";", "1: error: run_dir: \"here\" is no absolute path"},
    {"admin = { listen = \"9901\"; };", "1: error: listen: \"9901\" is neither \"ADDRESS:PORT\" nor"},
    {"admin = { listen = \"unix:x\"; };", "1: error: listen: \"unix:x\" is neither"},
    {"log = \"info\";", "1: error: log: expected a group { ... }, not a string"},
    {"workloads = { };", "1: error: workloads: expected a list ( { ... }, ... ), not a group { ... }"},
    {"workloads = ( 3 );", "1: error: workloads: each item is a group { ... }, not an integer"},
    {"workloads = ( { uid = -1; } );", "1: error: uid: -1 is out of range 0 to 4294967294"},
    {"workloads = ( { uid = \"1\"; } );", "1: error: uid: expected an integer without quotes, not a"},
    {"workloads = ( { exe = \"\"; } );", "1: error: exe: is empty; leave the key out instead"},
    {"services = ( { mode = \"off\"; } );", "1: error: services: this item has no name"},
    {"services = ( { name = \"a\"; ports = ( { port = 80; } ); } );",
     "1: error: ports: this item has no mode"},
    {"services = ( { name = \"a\"; ports = ( { port = 65536; mode = \"off\"; } ); } );",
     "1: error: port: 65536 is out of range 1 to 65535"},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"x:80\"; } ); } );",
     "1: error: addr: \"x:80\" is no address and port; "},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"0.0.0.0:80\"; } ); } );",
     "1: error: addr: \"0.0.0.0:80\" is a wildcard, "},
    {"linger = 5s;", "1: error: syntax error; values with units and addresses are strings: "},
    {"admin = { listen = 127.0.0.1:9901; };", "1: error: syntax error; "},
    {"strict_close = yes;", "1: error: syntax error; write true or false"},
    {"mode = strict;", "1: error: syntax error; write words in quotes"},
    {"mode = \"off\";\nmode = \"off\";", "2: error: this name is already set in the same group"},
    {"linger = \"1s", "1: error: syntax error; "},
    {"@include \"none\"\n", "1: error: cannot open "},
};

START_TEST(each_kind_of_error)
{
    fails(errors[_i].conf, errors[_i].text);
    ck_assert_uint_eq(diags.errors, 1);
}
END_TEST

START_TEST(all_errors_at_once)
{
    write_file("conf.d/20.conf", "cert_ttl = 5h;\n");
    write_file("conf.d/10.conf", "namespace = \"ok\";\nx = 1;\n");
    write_file("conf.d/ignored", "also = bad");
    fails("mode = \"stict\";\nlinger = 5;\nservices = ( { name = \"a b\"; }, 7 );\n", "1: error: mode: ");
    ck_assert(reported("meshd.conf", "2: error: linger: "));
    ck_assert(reported("meshd.conf", "3: error: name: \"a b\" is no name"));
    ck_assert(reported("meshd.conf", "3: error: services: each item"));
    ck_assert(reported("conf.d/10.conf", "2: error: unknown key 'x'"));
    ck_assert(reported("conf.d/20.conf", "1: error: syntax error"));
    ck_assert_uint_eq(diags.errors, 6);
}
END_TEST

START_TEST(too_many_errors_are_counted)
{
    char text[8192] = "";
    for (unsigned i = 0; i < 300; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "qqqq%u = 1;\n", i);
    }
    ck_assert_ptr_null(build(text));
    ck_assert_uint_eq(diags.errors, 300);
    ck_assert_uint_eq(diags.count, MESHD_DIAGS_MAX);
    ck_assert_uint_eq(diags.dropped, 100);
}
END_TEST

START_TEST(duplicates_name_both_places)
{
    char want[700];
    write_file("conf.d/a.conf", "\nservices = ( { name = \"one\"; } );\n");
    ck_assert_ptr_null(build("services = ( { name = \"two\"; },\n { name = \"one\"; } );"));
    snprintf(want, sizeof(want), "2: error: services: name one is already used at %s/meshd.conf:2", dir);
    ck_assert(reported("conf.d/a.conf", want));

    write_file("conf.d/a.conf", "");
    ck_assert_ptr_null(build("services = ( { name = \"a\"; ports = ( { port = 1; mode = \"off\"; },\n"
                             "{ port = 1; mode = \"strict\"; } ); } );"));
    snprintf(want, sizeof(want), "2: error: ports: port 1 is already used at %s/meshd.conf:1", dir);
    ck_assert(reported("meshd.conf", want));

    ck_assert_ptr_null(build("services = ( { name = \"a\"; endpoints = ( { addr = \"1.1.1.1:1\"; } ); },\n"
                             "{ name = \"b\"; endpoints = ( { addr = \"1.1.1.1:1\"; } ); } );"));
    snprintf(want, sizeof(want),
             "2: error: endpoints: 1.1.1.1:1 is already an endpoint of service 'a' at %s/meshd.conf:1",
             dir);
    ck_assert(reported("meshd.conf", want));
}
END_TEST

START_TEST(drop_ins_add_and_replace_in_order)
{
    write_file("conf.d/20.conf", "mode = \"strict\"; services = ( { name = \"b\"; } );");
    write_file("conf.d/10.conf", "mode = \"off\"; linger = \"2s\"; services = ( { name = \"c\"; } );");
    struct meshd_config *cfg = build_good("services = ( { name = \"a\"; } );");
    ck_assert_uint_eq(cfg->mode, MESH_MODE_STRICT);
    ck_assert_uint_eq(cfg->linger_ms, 2000);
    ck_assert_uint_eq(cfg->service_count, 3);
    ck_assert_str_eq(cfg->services[0].name, "a");
    ck_assert_str_eq(cfg->services[1].name, "c");
    ck_assert_str_eq(cfg->services[2].name, "b");
    ck_assert_uint_eq(cfg->services[2].at.line, 1);
    meshd_config_free(cfg);
}
END_TEST

START_TEST(includes)
{
    write_file("more", "mode = \"off\";\n");
    struct meshd_config *cfg = build_good("@include \"more\"\nlinger = \"2s\";");
    ck_assert_uint_eq(cfg->mode, MESH_MODE_OFF);
    meshd_config_free(cfg);

    write_file("more", "\nmode = 3;\n");
    ck_assert_ptr_null(build("@include \"more\"\n"));
    ck_assert(reported("more", "2: error: mode: "));
    /* libconfig 1.5 would end the process */
    fails("\n@include \"conf.d\"\n", "2: error: ");
    fails("@include \"meshd.conf\"\n", "1: error: files include each other");
}
END_TEST

START_TEST(what_is_no_file)
{
    ck_assert_ptr_null(meshd_config_build("/nonexistent/meshd.conf", dir, &diags, NULL));
    ck_assert_uint_eq(diags.errors, 1);
    ck_assert_ptr_null(meshd_config_build(dir, dir, &diags, NULL));
    ck_assert_ptr_null(meshd_config_build("/dev/zero", dir, &diags, NULL));
    ck_assert_uint_eq(diags.errors, 3);
}
END_TEST

START_TEST(hostile_nesting)
{
    size_t n = 200000;
    char *text = malloc(n + 8);
    static const char *const opening[] = {"a=(", "a={", "("};
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(opening[i]);
        for (size_t at = 0; at < n; at += len) {
            memcpy(text + at, opening[i], len + 1);
        }
        ck_assert_ptr_null(build(text));
        ck_assert(diags.errors > 0);
    }
    snprintf(text, n, "services = ( ( ( ( { name = 1; } ) ) ) );");
    ck_assert_ptr_null(build(text));
    free(text);
}
END_TEST

START_TEST(every_truncation_of_a_file)
{
    static const char whole[] =
        "mode = \"off\"; // c\nlog : { level = \"warn\"; }; /* x */\n"
        "services = ( { name = \"a\"; ports = ( { port = 1; mode = \"off\"; } ); } );\n";
    char text[sizeof(whole)];
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct meshd_diags d = {0};
        struct meshd_config cfg = {0};
        memcpy(text, whole, n);
        text[n] = '\0';
        struct meshd_node *root = meshd_tree_parse("text", text, &d);
        ck_assert(root || d.errors > 0);
        if (root) {
            meshd_schema_defaults(&cfg);
            meshd_schema_apply(&cfg, root, &d);
            meshd_schema_fini(&cfg);
            meshd_tree_free(root);
        }
        meshd_diags_fini(&d);
    }
}
END_TEST

static const char *
matched(const struct meshd_config *cfg, uid_t uid, const char *exe, const char *unit)
{
    struct meshd_peer p = {.uid = uid};
    snprintf(p.exe, sizeof(p.exe), "%s", exe);
    snprintf(p.unit, sizeof(p.unit), "%s", unit);
    const struct meshd_workload_rule *r = meshd_config_match_workload(cfg, &p);
    return r ? r->service : "-";
}

START_TEST(the_first_matching_rule_wins)
{
    struct meshd_config *cfg = build_good(
        "workloads = ( { service = \"both\"; uid = 5; exe = \"/opt/*/run\"; },\n"
        "  { service = \"five\"; uid = 5; }, { service = \"root\"; user = \"root\"; },\n"
        "  { service = \"unit\"; unit = \"orders@*.service\"; allow_requested = true; },\n"
        "  { service = \"never\"; user = \"no-such-user-here\"; } );");
    ck_assert_uint_eq(diags.count, 1); /* the warning about that user */
    ck_assert_str_eq(matched(cfg, 5, "/opt/a/run", ""), "both");
    ck_assert_str_eq(matched(cfg, 5, "/opt/a/b/run", ""), "five"); /* * is one directory */
    ck_assert_str_eq(matched(cfg, 5, "/opt/a/run", "orders@1.service"), "both");
    ck_assert_str_eq(matched(cfg, 0, "/x", ""), "root");
    ck_assert_str_eq(matched(cfg, 6, "/x", "orders@1.service"), "unit");
    ck_assert_str_eq(matched(cfg, 6, "/x", "orders.service"), "-");
    ck_assert_str_eq(matched(cfg, (uid_t)-1, "/x", ""), "-"); /* not the unknown user */
    meshd_config_free(cfg);
}
END_TEST

START_TEST(a_rule_that_hides_others_is_warned_of)
{
    struct meshd_config *cfg = build_good("workloads = ( { service = \"all\"; }, { service = \"x\"; } );");
    ck_assert_uint_eq(diags.count, 1);
    ck_assert(strstr(diags.list[0].text, "never match") != NULL);
    ck_assert_str_eq(matched(cfg, 77, "/x", ""), "all");
    meshd_config_free(cfg);
}
END_TEST

START_TEST(a_reload_keeps_or_replaces)
{
    struct meshd_config_info info;
    write_file("meshd.conf", "mode = \"strict\"; linger = \"1s\";");
    ck_assert_int_eq(meshd_config_load(file, dir), MESH_OK);
    meshd_config_info(&info);
    ck_assert(info.last_ok && info.files == 1 && info.reloads == 0 && !info.first_error[0]);

    const struct meshd_config *before = meshd_config_current();
    write_file("meshd.conf", "mode = \"x\";\nlinger = 3;");
    ck_assert_int_eq(meshd_config_reload(), MESH_E_CONFIG);
    ck_assert_ptr_eq(meshd_config_current(), before);
    meshd_config_info(&info);
    ck_assert(!info.last_ok && info.errors == 2 && info.reloads == 1 && strstr(info.first_error, ":1: error: "));

    write_file("meshd.conf", "mode = \"off\"; trust_domain = \"other\";\nadmin = { listen = \"off\"; };");
    ck_assert_int_eq(meshd_config_reload(), MESH_OK);
    ck_assert_uint_eq(meshd_config_current()->mode, MESH_MODE_OFF);
    ck_assert_str_eq(meshd_config_current()->trust_domain, "mesh.local"); /* needs a restart */
    ck_assert_str_eq(meshd_config_current()->admin_listen, "127.0.0.1:9901");
    meshd_config_info(&info);
    ck_assert(info.last_ok && info.errors == 0 && info.reloads == 2 && !info.first_error[0]);
}
END_TEST

START_TEST(an_identity_that_does_not_fit)
{
    char text[600], domain[200], name[70];
    memset(domain, 'd', sizeof(domain));
    domain[sizeof(domain) - 1] = '\0';
    memset(name, 'n', sizeof(name));
    name[63] = '\0';
    snprintf(text, sizeof(text), "trust_domain = \"%s\"; services = ( { name = \"%s\"; } );", domain, name);
    fails(text, "1: error: the identity of service 'nnn");
    snprintf(text, sizeof(text), "services = ( { name = \"n%s\"; } );", name);
    fails(text, "1: error: name: longer than 63 bytes");
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, nothing_means_defaults);
    tcase_add_test(t, the_reference_is_a_configuration);
    tcase_add_test(t, values);
    tcase_add_loop_test(t, each_kind_of_error, 0, sizeof(errors) / sizeof(errors[0]));
    tcase_add_test(t, all_errors_at_once);
    tcase_add_test(t, too_many_errors_are_counted);
    tcase_add_test(t, duplicates_name_both_places);
    tcase_add_test(t, drop_ins_add_and_replace_in_order);
    tcase_add_test(t, includes);
    tcase_add_test(t, what_is_no_file);
    tcase_add_test(t, hostile_nesting);
    tcase_add_test(t, every_truncation_of_a_file);
    tcase_add_test(t, the_first_matching_rule_wins);
    tcase_add_test(t, a_rule_that_hides_others_is_warned_of);
    tcase_add_test(t, a_reload_keeps_or_replaces);
    tcase_add_test(t, an_identity_that_does_not_fit);
    suite_add_tcase(s, t);
    return unit_run(s);
}
