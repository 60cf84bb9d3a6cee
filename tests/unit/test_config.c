/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config: each kind of error with its file and line, all of them at once, drop-ins, defaults,
 * which rule wins, and what a reload changes.
 */
#include "meshd/policy/config.h"

#include <pwd.h>
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

/* Instead of the host's user database, which may be slow: alice is known, bob comes later. */
static unsigned asked_for_alice, asked_for_bob;
static bool bob_is_there;

struct passwd *
getpwnam(const char *name)
{
    static struct passwd pw;
    asked_for_alice += strcmp(name, "alice") == 0;
    asked_for_bob += strcmp(name, "bob") == 0;
    pw.pw_uid = strcmp(name, "root") == 0 ? 0 : strcmp(name, "nobody") == 0 ? 65534 : 4711;
    bool known = strcmp(name, "bob") == 0 ? bob_is_there : strcmp(name, "alice") == 0 || pw.pw_uid != 4711;
    return known ? &pw : NULL;
}

/* Who is known is asked for once as long as meshd runs; who is not, once in each load. */
START_TEST(users_are_asked_for_once)
{
    static const char text[] = "workloads = ( { user = \"alice\"; }, { user = \"bob\"; }, { user = \"bob\"; uid = 1; },"
                               " { user = \"alice\"; unit = \"x\"; } );";
    asked_for_alice = asked_for_bob = 0;
    for (unsigned round = 1; round <= 3; round++) {
        struct meshd_config *cfg = build_good(text);
        ck_assert(cfg->workloads[0].user_id == 4711 && cfg->workloads[3].user_id == 4711);
        ck_assert_int_eq(cfg->workloads[1].user_id, bob_is_there ? 4711 : -1);
        ck_assert_uint_eq(asked_for_alice, 1);
        ck_assert_uint_eq(asked_for_bob, round);
        bob_is_there = round >= 2;
        meshd_config_free(cfg);
    }
    meshd_config_free(build_good(text));
    ck_assert_uint_eq(asked_for_bob, 3);
}
END_TEST

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
    ck_assert_uint_eq(cfg->kernel_tls, MESH_KTLS_AUTO);
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
    static const char other[] = "load_balancer = \"least_request\"", hashing[] = "load_balancer = \"maglev\"       ";
    _Static_assert(sizeof(other) == sizeof(hashing), "in place");
    char *lb = uncomment ? strstr(text, other) : NULL; /* else the keys for hashing would be of no use, which is an error */
    if (lb) {
        memcpy(lb, hashing, sizeof(hashing) - 1);
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
        "egress = \"registry_only\"; kernel_tls = \"always\"; strict_close = TRUE; accept_grace = \"0\";\n"
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
    ck_assert_uint_eq(cfg->kernel_tls, MESH_KTLS_ALWAYS);
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
    {"services = ( { name = \"a\";\n split = ( { subset = \"v2\"; } ); } );",
     "2: error: split: service 'a' has no subset 'v2'"},
    {"services = ( { name = \"a\";\n routes = ( {\n split = ( { subset = \"v2\"; } ); } ); } );",
     "3: error: split: service 'a' has no subset 'v2'"},
    {"services = ( { name = \"a\";\n routes = ( { source = \"b\"; } ); } );", "2: error: routes: this rule has no split"},
    {"services = ( { name = \"a\";\n failover = ( { service = \"b\"; subset = \"x\"; } ); }, { name = \"b\"; } );",
     "2: error: failover: service 'b' has no subset 'x'"},
    {"services = ( { name = \"a\";\n split = ( { weight = 0; }, { service = \"b\"; weight = 0; } ); } );",
     "2: error: split: all weights are 0"},
    {"services = ( { name = \"a\"; redirect = \"b\"; },\n { name = \"b\"; redirect = \"c\"; },\n"
     " { name = \"c\"; redirect = \"b\"; } );", "2: error: redirect: from service 'b' it leads back to it"},
    {"services = ( { name = \"a\"; redirect = \"a\"; } );", "1: error: redirect: from service 'a' it leads back to it"},
    {"services = ( { name = \"a\";\n subsets = ( { name = \"v1\"; } ); } );", "2: error: subsets: 'v1' has no labels"},
    {"services = ( { name = \"a\"; subset_fallback = \"default_subset\"; } );",
     "1: error: default_subset: service 'a' has no subset ''"},
    {"services = ( { name = \"a\"; subset_fallback = \"any\"; } );",
     "1: error: subset_fallback: \"any\" is unknown; expected one of \"no_fallback\", \"any_endpoint\", "},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"10.0.0.1:1\"; labels = (\"v2\"); } ); } );",
     "1: error: labels: \"v2\" is no label"},
    {"egress_allow = ( { cidr = \"10.0.0.1/8\"; } );", "1: error: cidr: \"10.0.0.1/8\" is no network"},
    {"egress_allow = ( { cidr = \"10.0.0.0\"; } );", "1: error: cidr: \"10.0.0.0\" is no network"},
    {"egress_allow = ( { cidr = \"10.0.0.0/33\"; } );", "1: error: cidr: \"10.0.0.0/33\" is no network"},
    {"egress_allow = ( { cidr = \"fd00::/129\"; } );", "1: error: cidr: \"fd00::/129\" is no network"},
    {"egress_allow = ( { port = 1; } );", "1: error: egress_allow: this item has no cidr and no host"},
    {"egress_allow = ( { host = \"10.0.0.1\"; } );", "1: error: host: \"10.0.0.1\" is an address; write it as cidr"},
    {"egress_allow = ( { host = \"*.0.1\"; } );", "1: error: host: \"*.0.1\" is an address"},
    {"egress_allow = ( { host = \"*\"; } );", "1: error: host: \"*\" is no host name"},
    {"egress_allow = ( { host = \"a.*.org\"; } );", "1: error: host: \"a.*.org\" is no host name"},
    {"egress_allow = ( { host = \"a.example:80\"; } );", "1: error: host: \"a.example:80\" has a port; write it as port"},
    {"egress_allow = ( { host = \"orders.mesh\"; } );", "1: error: egress_allow: orders.mesh lies under virtual_domain"},
    {"\n\nzzz = 1;", "3: error: unknown key 'zzz'; known are trust_domain, namespace, "},
    {"log = { levle = \"info\"; };", "1: error: unknown key 'levle' in log; did you mean 'level'?"},
    {"services = ( { name = \"a\";\n nme = \"b\"; } );",
     "2: error: unknown key 'nme' in services; did you mean 'name'?"},
    {"mode = \"stict\";", "1: error: mode: \"stict\" is unknown; did you mean \"strict\"?"},
    {"mode = \"x\";",
     "1: error: mode: \"x\" is unknown; expected one of \"off\", \"permissive\", \"strict\""},
    {"mode = 1;", "1: error: mode: expected a string like \"off\", not an integer"},
    {"kernel_tls = \"on\";", "1: error: kernel_tls: \"on\" is unknown; "},
    {"kernel_tls = true;", "1: error: kernel_tls: expected a string like \"auto\", not true or false"},
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
    {"services = ( { name = \"a\";\n addresses = (\"x\"); } );",
     "2: error: addresses: \"x\" is no address and port; "},
    {"services = ( { name = \"a\";\n addresses = (\"10.0.0.1:80\",\n \"10.0.0.1:80\"); } );",
     "3: error: addresses: addr 10.0.0.1:80 is already used at "},
    {"services = ( { name = \"a\";\n addresses = (\"0.0.0.0:80\"); } );",
     "2: error: addresses: \"0.0.0.0:80\" is a wildcard"},
    {"services = ( { name = \"a\";\n addresses = (7); } );", "2: error: addresses: expected a string"},
    {"services = ( { name = \"a\";\n addresses = ({ addr = \"10.0.0.1:80\"; }); } );",
     "2: error: addresses: expected a string"},
    {"services = ( { name = \"a\"; addresses = (\"10.0.0.1:80\"); },\n"
     "{ name = \"b\";\n addresses = (\"10.0.0.1:80\"); } );",
     "3: error: addresses: 10.0.0.1:80 is already an address of service 'a' at "},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"10.0.0.1:80\"; } ); },\n"
     "{ name = \"b\";\n addresses = (\"10.0.0.1:80\"); } );",
     "3: error: addresses: 10.0.0.1:80 is an endpoint of service 'a' at "},
    {"services = ( { name = \"b\";\n addresses = (\"10.0.0.1:80\"); },\n"
     "{ name = \"a\"; endpoints = ( { addr = \"10.0.0.1:80\"; } ); } );",
     "2: error: addresses: 10.0.0.1:80 is an endpoint of service 'a' at "},
    {"services = (\n{ name = \"a\"; endpoints = ( { addr = \"10.0.0.1:80\"; weight = 0; } ); } );",
     "2: error: endpoints: all of service 'a' have weight 0"},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"10.0.0.1:80\";\n weight = 10001; } ); } );",
     "2: error: weight: 10001 is out of range 0 to 10000"},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"10.0.0.1:80\";\n weight = -1; } ); } );",
     "2: error: weight: -1 is out of range"},
    {"services = ( { name = \"a\";\n load_balancer = \"randon\"; } );",
     "2: error: load_balancer: \"randon\" is unknown; did you mean \"random\"?"},
    {"services = ( { name = \"a\";\n max_connect_attempts = 17; } );",
     "2: error: max_connect_attempts: 17 is out of range 1 to 16"},
    {"services = ( { name = \"a\";\n connect_timeout = \"1ms\"; } );",
     "2: error: connect_timeout: \"1ms\" is out of range \"10ms\" to \"10m\""},
#define CHECKED(check) "services = ( { name = \"a\";\n health_check = {\n" check " }; } );"
    {CHECKED("interval = \"1s\";"), "2: error: health_check: this group has no type"},
    {CHECKED("type = \"tpc\";"), "3: error: type: \"tpc\" is unknown; did you mean \"tcp\"?"},
    {CHECKED("type = \"tcp\"; intervall = \"1s\";"),
     "3: error: unknown key 'intervall' in health_check; did you mean 'interval'?"},
    {CHECKED("type = \"tcp\"; interval = \"99ms\";"), "3: error: interval: \"99ms\" is out of range"},
    {CHECKED("type = \"tcp\"; unhealthy_threshold = 0;"), "3: error: unhealthy_threshold: 0 is out of"},
    {CHECKED("type = \"tcp\"; port = 0;"), "3: error: port: 0 is out of range 1 to 65535"},
    {CHECKED("type = \"http\"; path = \"x\";"), "3: error: path: \"x\" does not begin with a slash"},
    {CHECKED("type = \"http\"; path = \"/x y\";"), "3: error: path: \"/x y\" has characters that must"},
    {CHECKED("type = \"http\"; path = \"/\\r\\nEvil: 1\";"), "3: error: path: "},
    {CHECKED("type = \"http\"; expected_status = (200,\n 99);"),
     "4: error: expected_status: 99 is no range within 100 to 599"},
    {CHECKED("type = \"http\"; expected_status = (\"299-200\");"), "3: error: expected_status: 299-200 is no"},
    {CHECKED("type = \"http\"; expected_status = \"2xx\";"), "3: error: expected_status: \"2xx\" is no status"},
    {CHECKED("type = \"http\"; retriable_status = (true);"), "3: error: retriable_status: expected a status"},
    {CHECKED("type = \"command\";"), "1: error: health_check: service 'a' is checked by a command, but"},
    {CHECKED("type = \"command\";\n command = (\"check\");"),
     "4: error: health_check: command: \"check\" is no absolute path"},
    {CHECKED("type = \"command\"; command = (\"/bin/true\", 5);"), "3: error: command: expected a string"},
    {"services = ( { name = \"a\"; mode = \"off\"; health_check = { type = \"tls\"; }; } );",
     "1: error: health_check: service 'a' is checked by tls, but its mode is off"},
    {"services = ( { name = \"a\"; health_check = ( ); } );",
     "1: error: health_check: expected a group { ... }, not a list"},
    {"services = ( { name = \"a\"; endpoints = ( { addr = \"10.0.0.1:80\";\n priority = 128; } ); } );",
     "2: error: priority: 128 is out of range 0 to 127"},
    {"services = ( { name = \"a\";\n dns = { port = 80; }; } );", "2: error: dns: this group has no name"},
    {"services = ( {\n name = \"a\"; dns = { name = \"db.test\"; }; } );",
     "1: error: dns: service 'a' has no port; type \"a\" needs one"},
    {"services = ( { name = \"a\"; dns = { name = \"db.test\"; type = \"srv\"; port = 80; }; } );",
     "1: error: dns: service 'a' has a port; type \"srv\" takes it from the record"},
    {"services = ( { name = \"a\"; dns = {\n name = \"10.0.0.1\"; port = 80; }; } );",
     "2: error: name: \"10.0.0.1\" is no DNS name"},
    {"services = ( { name = \"a\"; dns = {\n name = \"db..test\"; port = 80; }; } );",
     "2: error: name: \"db..test\" is no DNS name"},
    {"services = ( { name = \"a\"; dns = { name = \"db.test\"; port = 80;\n type = \"mx\"; }; } );",
     "2: error: type: \"mx\" is unknown; expected one of \"a\", \"srv\""},
    {"services = ( { name = \"a\"; dns = { name = \"db.test\"; port = 80;\n refresh = \"99ms\"; }; } );",
     "2: error: refresh: \"99ms\" is out of range \"100ms\" to \"1h\""},
    {"services = ( { name = \"a\"; dns = { name = \"db.test\"; port = 80;\n resolvers = (\"127.0.0.1\"); }; } );",
     "2: error: resolvers: \"127.0.0.1\" is no address and port"},
    {"services = ( { name = \"a\"; dns = { name = \"db.test\"; port = 80; resolvers = (\"127.0.0.1:1\","
     "\"127.0.0.1:2\",\"127.0.0.1:3\",\"127.0.0.1:4\",\"127.0.0.1:5\",\"127.0.0.1:6\",\"127.0.0.1:7\","
     "\"127.0.0.1:8\",\n\"127.0.0.1:9\"); }; } );", "2: error: resolvers: more than 8"},
    {"services = ( { name = \"a\"; dns = { name = \"db.test\"; port = 80; resolvers = (\"127.0.0.1:1\","
     "\n\"127.0.0.1:1\"); }; } );", "2: error: resolvers: addr 127.0.0.1:1 is already used at "},
    {"services = ( { name = \"a\";\n hosts = (\"10.0.0.1\"); } );",
     "2: error: hosts: \"10.0.0.1\" is an address; write it under addresses"},
    {"services = ( { name = \"a\";\n hosts = (\"0x7f000001:80\"); } );",
     "2: error: hosts: \"0x7f000001:80\" is an address"},
    {"services = ( { name = \"a\";\n hosts = (\"-a\"); } );",
     "2: error: hosts: \"-a\" is no host name; "},
    {"services = ( { name = \"a\";\n hosts = (\"a..b\"); } );",
     "2: error: hosts: \"a..b\" is no host name; "},
    {"services = ( { name = \"a\";\n hosts = (\"*.a\"); } );",
     "2: error: hosts: \"*.a\" is no host name; "},
    {"services = ( { name = \"a\";\n hosts = (\"db:\"); } );",
     "2: error: hosts: \"db:\" has no valid port"},
    {"services = ( { name = \"a\";\n hosts = (\"db:65536\"); } );",
     "2: error: hosts: \"db:65536\" has no valid port"},
    {"services = ( { name = \"a\";\n hosts = (\"x.localhost\"); } );",
     "2: error: hosts: \"x.localhost\" is this host itself"},
    {"services = ( { name = \"a\";\n hosts = (\"localhost.localdomain\"); } );",
     "2: error: hosts: \"localhost.localdomain\" is this host itself"},
    {"services = ( { name = \"a\";\n hosts = (\"b.mesh\"); } );",
     "2: error: hosts: b.mesh lies under virtual_domain"},
    {"services = ( { name = \"a\";\n hosts = (\"x\",\n \"X\"); } );",
     "3: error: hosts: host X is already used at "},
    {"services = ( { name = \"a\"; hosts = (\"x\"); },\n{ name = \"b\";\n hosts = (\"X:5\"); } );",
     "3: error: hosts: x is already a host of service 'a' at "},
    {"services = ( { name = \"a\";\n hosts = (\"B\"); },\n{ name = \"b\"; } );",
     "2: error: hosts: b is the name of service 'b' at "},
    {"services = ( { name = \"a\"; },\n{ name = \"b\";\n hosts = (\"a\"); } );",
     "3: error: hosts: a is the name of service 'a' at "},
    {"\nvirtual_domain = \"Mesh\";",
     "2: error: virtual_domain: \"Mesh\" is no domain"},
    {"\nvirtual_domain = \".mesh\";",
     "2: error: virtual_domain: \".mesh\" is no domain"},
    {"\nvirtual_domain = \"localhost\";",
     "2: error: virtual_domain: \"localhost\" is no domain"},
    {"services = ( { name = \"a\"; outlier_detection = {\n consecutive_5xx = 0; }; } );",
     "2: error: consecutive_5xx: 0 is out of range 1 to 1000000"},
    {"services = (\n{ name = \"a\"; outlier_detection = { base_ejection_time = \"6m\"; }; } );",
     "2: error: outlier_detection: max_ejection_time of service 'a' is shorter than its base_ejection_time"},
    {"services = ( { name = \"a\"; outlier_detection = {\n max_ejection_percent = 101; }; } );",
     "2: error: max_ejection_percent: 101 is out of range 0 to 100"},
    {"services = ( { name = \"a\"; circuit_breaker = {\n max_connexions = 5; }; } );",
     "2: error: unknown key 'max_connexions' in circuit_breaker; did you mean 'max_connections'?"},
    {"services = (\n{ name = \"a\"; circuit_breaker = { max_connections = 5; per_host_max_connections = 6; }; } );",
     "2: error: circuit_breaker: per_host_max_connections of service 'a' is more than its max_connections"},
    {"services = (\n{ name = \"a\"; circuit_breaker = { max_connections = 5; max_pending_connects = 6; }; } );",
     "2: error: circuit_breaker: max_pending_connects of service 'a' is more than its max_connections"},
    {"services = ( { name = \"a\"; circuit_breaker = { retry_budget = {\n budget_percent = -1; }; }; } );",
     "2: error: budget_percent: -1 is out of range"},
    {"services = ( { name = \"a\"; slow_start = {\n aggression = 0.05; }; } );",
     "2: error: aggression: 0.05 is out of range 0.1 to 10"},
    {"services = ( { name = \"a\"; slow_start = {\n aggression = \"1.0\"; }; } );",
     "2: error: aggression: expected a number without quotes, not a string"},
    {"services = ( { name = \"a\";\n slow_start = 3; } );", "2: error: slow_start: expected a group { ... }"},
    {"services = ( { name = \"a\";\n faults = ( { type = \"dleay\"; } ); } );",
     "2: error: type: \"dleay\" is unknown; did you mean \"delay\"?"},
    {"services = ( { name = \"a\";\n faults = ( { percentage = 5; } ); } );", "2: error: faults: this item has no type"},
    {"services = ( { name = \"a\"; faults = ( { type = \"refuse\";\n percentage = 100.5; } ); } );",
     "2: error: percentage: 100.5 is no percentage from 0 to 100"},
    {"services = ( { name = \"a\"; faults = ( { type = \"refuse\";\n percentage = 0.005; } ); } );",
     "2: error: percentage: 0.005 is no percentage"},
    {"services = ( { name = \"a\"; faults = ( { type = \"refuse\";\n percentage = \"5\"; } ); } );",
     "2: error: percentage: expected a number without quotes"},
    {"services = ( { name = \"a\"; faults = (\n{ type = \"delay\"; } ); } );", "2: error: faults: type delay needs delay"},
    {"services = ( { name = \"a\"; faults = (\n{ type = \"slow_read\"; } ); } );",
     "2: error: faults: type slow_read needs rate"},
    {"services = ( { name = \"a\"; faults = (\n{ type = \"short_write\"; } ); } );",
     "2: error: faults: type short_write needs max_bytes"},
    {"services = ( { name = \"a\"; faults = ( { type = \"refuse\"; }, { type = \"refuse\"; }, { type = \"refuse\"; },"
     " { type = \"refuse\"; }, { type = \"refuse\"; }, { type = \"refuse\"; }, { type = \"refuse\"; },"
     " { type = \"refuse\"; },\n{ type = \"refuse\"; } ); } );",
     "2: error: faults: service 'a' has more than 8"},
    {"services = (\n{ name = \"a\"; limits = { connection_rate = { tokens_per_fill = 2; }; }; } );",
     "2: error: connection_rate: service 'a' has no max_tokens"},
    {"services = ( { name = \"a\"; limits = { connection_rate = {\n max_tokens = 0; }; }; } );",
     "2: error: max_tokens: 0 is out of range 1 to 1000000"},
    {"services = ( { name = \"a\"; limits = {\n max_connection = 5; }; } );",
     "2: error: unknown key 'max_connection' in limits; did you mean 'max_connections'?"},
    {"services = (\n{ name = \"a\"; tcp_keepalive = { probes = 3; }; } );",
     "2: error: tcp_keepalive: service 'a' has no time"},
    {"services = ( { name = \"a\"; bandwidth = {\n per_service = \"5GB\"; }; } );",
     "2: error: per_service: \"5GB\" is out of range 1024 to 4294967295 bytes"},
    {"services = ( { name = \"a\"; bandwidth = {\n per_connection = 10; }; } );",
     "2: error: per_connection: 10 has no unit; write \"10B\""},
    {"services = (\n{ name = \"a\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } ); maglev = { table_size = 65536; }; } );",
     "2: error: maglev: table_size 65536 of service 'a' is no prime; 65537 is one"},
    {"services = ( { name = \"a\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } ); maglev = {\n table_size = 5000012; }; } );",
     "2: error: table_size: 5000012 is out of range 3 to 5000011"},
    {"services = ( { name = \"a\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } ); maglev = {\n table_size = 2; }; } );",
     "2: error: table_size: 2 is out of range 3 to 5000011"},
    {"services = (\n{ name = \"a\"; hash_policy = ( { field = \"uid\"; } ); } );",
     "2: error: hash_policy: service 'a' has neither load_balancer \"ring_hash\" nor \"maglev\""},
    {"services = (\n{ name = \"a\"; load_balancer = \"maglev\"; } );",
     "2: error: load_balancer: service 'a' has no hash_policy"},
    {"services = ( { name = \"a\"; load_balancer = \"ring_hash\"; \nhash_policy = ( { field = \"source_identitty\"; } ); } );",
     "2: error: field: \"source_identitty\" is unknown; did you mean \"source_identity\"?"},
    {"services = ( { name = \"a\"; load_balancer = \"ring_hash\"; \nhash_policy = ( { field = \"cookie\"; } ); } );",
     "2: error: field: \"cookie\" is unknown; expected one of"},
    {"services = ( { name = \"a\"; load_balancer = \"ring_hash\"; \nhash_policy = ( { terminal = true; } ); } );",
     "2: error: hash_policy: this item has no field"},
    {"services = ( { name = \"a\"; load_balancer = \"ring_hash\"; hash_policy = ( { field = \"uid\"; },\n { field = \"uid\"; } ); } );",
     "2: error: hash_policy: the same field is already used at "},
    {"services = (\n{ name = \"a\"; load_balancer = \"ring_hash\"; hash_policy = ( { field = \"uid\"; } ); maglev = { table_size = 251; }; } );",
     "2: error: maglev: service 'a' has another load_balancer"},
    {"services = (\n{ name = \"a\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } ); ring_hash = { minimum_ring_size = 10; }; } );",
     "2: error: ring_hash: service 'a' has another load_balancer"},
    {"services = (\n{ name = \"a\"; load_balancer = \"ring_hash\"; hash_policy = ( { field = \"uid\"; } ); ring_hash = { maximum_ring_size = 1000; }; } );",
     "2: error: ring_hash: minimum_ring_size of service 'a' is more than its maximum_ring_size"},
    {"services = ( { name = \"a\"; load_balancer = \"ring_hash\"; hash_policy = ( { field = \"uid\"; } ); ring_hash = {\n minimum_ring_size = 1048577; }; } );",
     "2: error: minimum_ring_size: 1048577 is out of range 1 to 1048576"},
    {"services = ( { name = \"a\"; load_balancer = \"ring_hash\"; hash_policy = ( { field = \"uid\"; } ); \nhash_balance_factor = 99; } );",
     "2: error: hash_balance_factor: 99 is out of range 100 to 10000"},
    {"services = (\n{ name = \"a\"; hash_balance_factor = 150; } );",
     "2: error: hash_balance_factor: service 'a' has neither load_balancer"},
    {"services = ( { name = \"a\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } ); maglev = { table_size = 4999999; }; },\n{ name = \"b\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } ); maglev = { table_size = 4999999; }; } );",
     "2: error: load_balancer: with the table of service 'b' those of all services take more than 16 MiB"},
    {"@include \"none\"\n", "1: error: cannot open "},
};

START_TEST(each_kind_of_error)
{
    fails(errors[_i].conf, errors[_i].text);
    ck_assert_uint_eq(diags.errors, 1);
}
END_TEST

START_TEST(health_checks)
{
    struct meshd_config *cfg = build_good(
        "services = ( { name = \"a\"; }, { name = \"b\"; health_check = { type = \"tcp\"; }; },"
        " { name = \"c\"; health_check = { type = \"http\"; interval = \"5s\"; timeout = \"2s\";"
        " unhealthy_threshold = 2; healthy_threshold = 4; path = \"/up?x=1\"; port = 81;"
        " expected_status = (204, \"300-399\"); retriable_status = 503; interval_jitter_percent = 0;"
        " no_traffic_interval = \"1h\"; }; },"
        " { name = \"d\"; health_check = { type = \"command\"; command = (\"/bin/c\", \"\", \"x y\", \"\"); }; } );");
    const struct meshd_health_rule *h = &cfg->services[1].health;
    ck_assert_uint_eq(cfg->services[0].health.type, MESHD_CONFIG_UNSET);
    ck_assert_uint_eq(h->type, MESHD_HEALTH_TCP);
    ck_assert(h->interval_ms == 10000 && h->timeout_ms == 1000 && h->no_traffic_interval_ms == 60000);
    ck_assert(h->unhealthy_threshold == 3 && h->healthy_threshold == 1 && h->port == 0);
    ck_assert(h->interval_jitter_percent == 10 && h->expected_count + h->retriable_count + h->command_count == 0);
    ck_assert_str_eq(h->path, "/");
    h = &cfg->services[2].health;
    ck_assert(h->type == MESHD_HEALTH_HTTP && h->interval_ms == 5000 && h->timeout_ms == 2000 && h->port == 81);
    ck_assert(h->unhealthy_threshold == 2 && h->healthy_threshold == 4 && h->interval_jitter_percent == 0);
    ck_assert_uint_eq(h->no_traffic_interval_ms, 3600000);
    ck_assert_str_eq(h->path, "/up?x=1");
    ck_assert(h->expected_count == 2 && h->expected[0].range.from == 204 && h->expected[0].range.to == 204);
    ck_assert(h->expected[1].range.from == 300 && h->expected[1].range.to == 399);
    ck_assert(h->retriable_count == 1 && h->retriable[0].range.from == 503 && h->retriable[0].range.to == 503);
    h = &cfg->services[3].health;
    ck_assert(h->type == MESHD_HEALTH_COMMAND && h->command_count == 4);
    ck_assert_str_eq(h->command[0].text, "/bin/c");
    ck_assert_str_eq(h->command[2].text, "x y");
    meshd_config_free(cfg);
    cfg = build("services = ( { name = \"a\"; health_check = { type = \"tcp\";\n command = \"/bin/true\"; }; } );");
    ck_assert_ptr_nonnull(cfg);
    ck_assert(reported("meshd.conf", "2: warning: health_check: command is of no use with this type"));
    meshd_config_free(cfg);
}
END_TEST

/* A service's own endpoint may be its address, too: the first of several. */
START_TEST(service_keys)
{
    struct meshd_config *cfg = build_good(
        "services = ( { name = \"a\"; addresses = [\"10.0.0.1:80\", \"[fd00::1]:80\"];"
        " load_balancer = \"round_robin\"; connect_timeout = \"250ms\"; max_connect_attempts = 5;"
        " endpoints = ( { addr = \"10.0.0.1:80\"; weight = 0; }, { addr = \"10.0.0.2:80\"; zone = \"z1\"; } ); },"
        " { name = \"b\"; dns = { name = \"_x._tcp.db.test.\"; type = \"srv\"; refresh = \"1s\";"
        " resolvers = (\"[::1]:53\", \"127.0.0.1:5353\"); }; } );");
    const struct meshd_service_rule *a = &cfg->services[0], *b = &cfg->services[1];
    ck_assert_uint_eq(a->address_count, 2);
    ck_assert_uint_eq(a->addresses[1].addr.ip[0], 0xfd);
    ck_assert_uint_eq(a->load_balancer, MESH_LB_ROUND_ROBIN);
    ck_assert_uint_eq(a->connect_timeout_ms, 250);
    ck_assert_uint_eq(a->max_connect_attempts, 5);
    ck_assert_uint_eq(a->endpoints[0].weight, 0);
    ck_assert_uint_eq(a->endpoints[1].weight, 1);
    ck_assert_str_eq(a->endpoints[1].zone, "z1");
    ck_assert_uint_eq(b->address_count, 0);
    ck_assert_str_eq(a->dns.name, "");
    ck_assert_str_eq(b->dns.name, "_x._tcp.db.test.");
    ck_assert_uint_eq(b->dns.type, MESHD_DNS_SRV);
    ck_assert_uint_eq(b->dns.refresh_ms, 1000);
    ck_assert_uint_eq(b->dns.resolver_count, 2);
    ck_assert_uint_eq(b->dns.resolvers[1].addr.port, 5353);
    ck_assert_uint_eq(b->load_balancer, MESH_LB_LEAST_REQUEST);
    ck_assert_uint_eq(b->connect_timeout_ms, 5000);
    ck_assert_uint_eq(b->max_connect_attempts, 3);
    meshd_config_free(cfg);
}
END_TEST

/* A group that is there is on, with its defaults; one that is not is off. */
START_TEST(live_keys)
{
    struct meshd_config *cfg = build_good(
        "services = ( { name = \"a\"; load_balancer = \"peak_ewma\"; outlier_detection = { };"
        " circuit_breaker = { max_connections = 4000000000L; retry_budget = { budget_percent = 50; }; };"
        " slow_start = { window = \"1m\"; aggression = 1.25; }; },"
        " { name = \"b\"; circuit_breaker = { }; },"
        " { name = \"c\"; outlier_detection = { enabled = false; }; slow_start = { aggression = 2; }; } );");
    const struct meshd_live_rule *a = &cfg->services[0].live, *b = &cfg->services[1].live,
                                 *c = &cfg->services[2].live;
    ck_assert_uint_eq(cfg->services[0].load_balancer, MESH_LB_PEAK_EWMA);
    ck_assert_uint_eq(a->outlier_enabled, 1);
    ck_assert_uint_eq(a->consecutive_5xx, 5);
    ck_assert_uint_eq(a->interval_ms, 10000);
    ck_assert_uint_eq(a->base_ejection_ms, 30000);
    ck_assert_uint_eq(a->max_ejection_ms, 300000);
    ck_assert_uint_eq(a->jitter_ms, 0);
    ck_assert_uint_eq(a->max_ejection_percent, 50);
    ck_assert_uint_eq(a->success_rate_stdev_factor, 1900);
    ck_assert_uint_eq(a->enforcing_success_rate, 100);
    ck_assert_uint_eq(a->failure_percentage_threshold, 85);
    ck_assert_uint_eq(a->enforcing_failure_percentage, 0);
    ck_assert_uint_eq(a->max_connections, 4000000000u);
    ck_assert_uint_eq(a->max_retries, 0);
    ck_assert_uint_eq(a->budget_enabled, 1);
    ck_assert_uint_eq(a->budget_percent, 50);
    ck_assert_uint_eq(a->budget_min_retries, 3);
    ck_assert_uint_eq(a->slow_start_enabled, 1);
    ck_assert_uint_eq(a->slow_start_ms, 60000);
    ck_assert_uint_eq(a->slow_start_aggression, 1250);
    ck_assert_uint_eq(a->slow_start_percent, 10);
    ck_assert_uint_ne(b->outlier_enabled, 1);
    ck_assert_uint_ne(b->budget_enabled, 1);
    ck_assert_uint_ne(b->slow_start_enabled, 1);
    ck_assert_uint_eq(c->outlier_enabled, 0);
    ck_assert_uint_eq(c->slow_start_aggression, 2000);
    meshd_config_free(cfg);
}
END_TEST

START_TEST(limits_and_faults)
{
    struct meshd_config *cfg = build_good(
        "services = ( { name = \"a\"; limits = { connection_rate = { max_tokens = 7; fill_interval = \"250ms\"; };"
        " max_connections = 5; max_connections_per_caller = 2; shadow = true; };"
        " idle_timeout = \"1h\"; max_connection_age = \"2h\";"
        " bandwidth = { per_connection = \"2MB\"; per_service = \"9MB\"; }; tcp_user_timeout = \"3s\";"
        " tcp_keepalive = { time = \"10s\"; interval = \"2s\"; probes = 3; };"
        " faults = ( { type = \"delay\"; percentage = 0.25; delay = \"2s\"; source = \"web\"; port = 80; },"
        " { type = \"short_write\"; max_bytes = \"1kB\"; } ); }, { name = \"b\"; } );");
    const struct meshd_limits_rule *a = &cfg->services[0].limits, *b = &cfg->services[1].limits;
    ck_assert_uint_eq(a->max_tokens, 7);
    ck_assert_uint_eq(a->tokens_per_fill, 1);
    ck_assert_uint_eq(a->fill_interval_ms, 250);
    ck_assert_uint_eq(a->max_connections, 5);
    ck_assert_uint_eq(a->max_connections_per_caller, 2);
    ck_assert(a->shadow && !b->shadow);
    ck_assert_uint_eq(a->bandwidth, 2000000);
    ck_assert_uint_eq(a->service_bandwidth, 9000000);
    ck_assert_uint_eq(a->keepalive_time_s * 100 + a->keepalive_interval_s * 10 + a->keepalive_probes, 1023);
    ck_assert_uint_eq(a->user_timeout_ms, 3000);
    ck_assert_uint_eq(a->idle_timeout_ms * 2, a->max_age_ms);
    ck_assert_uint_eq(a->max_age_ms, 7200000);
    ck_assert_uint_eq(b->bandwidth + b->service_bandwidth + b->keepalive_time_s + b->user_timeout_ms, 0);
    ck_assert_uint_eq(a->fault_count, 2);
    ck_assert_uint_eq(a->faults[0].percentage, 25);
    ck_assert_uint_eq(a->faults[0].delay_ms, 2000);
    ck_assert_uint_eq(a->faults[0].port, 80);
    ck_assert_str_eq(a->faults[0].source, "web");
    ck_assert_uint_eq(a->faults[1].percentage, MESH_FAULT_ALWAYS);
    ck_assert_uint_eq(a->faults[1].max_bytes, 1000);
    ck_assert_uint_eq(b->max_tokens + b->max_connections + b->max_connections_per_caller + b->fault_count, 0);
    meshd_config_free(cfg);
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

/* Everybody can call a unit of his own what he likes. */
START_TEST(a_users_unit_is_no_unit_of_the_host)
{
    struct meshd_config *cfg = build_good(
        "workloads = ( { service = \"canary\"; unit = \"*-canary.service\"; },\n"
        "  { service = \"one\"; unit = \"user@?00?web.service\"; }, { service = \"set\"; unit = \"user@7[/]x.service\"; },\n"
        "  { service = \"users\"; unit = \"user@*/web-*.service\"; } );");
    ck_assert_str_eq(matched(cfg, 6, "/x", "orders-canary.service"), "canary");
    ck_assert_str_eq(matched(cfg, 6, "/x", "user@6/orders-canary.service"), "-");
    ck_assert_str_eq(matched(cfg, 6, "/x", "user@100/web.service"), "-");
    ck_assert_str_eq(matched(cfg, 6, "/x", "user@7/x.service"), "-");
    ck_assert_str_eq(matched(cfg, 6, "/x", "user@100/web-1.service"), "users");
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
    tcase_add_test(t, users_are_asked_for_once);
    tcase_add_test(t, the_reference_is_a_configuration);
    tcase_add_test(t, values);
    tcase_add_loop_test(t, each_kind_of_error, 0, sizeof(errors) / sizeof(errors[0]));
    tcase_add_test(t, service_keys);
    tcase_add_test(t, health_checks);
    tcase_add_test(t, live_keys);
    tcase_add_test(t, limits_and_faults);
    tcase_add_test(t, all_errors_at_once);
    tcase_add_test(t, too_many_errors_are_counted);
    tcase_add_test(t, duplicates_name_both_places);
    tcase_add_test(t, drop_ins_add_and_replace_in_order);
    tcase_add_test(t, includes);
    tcase_add_test(t, what_is_no_file);
    tcase_add_test(t, hostile_nesting);
    tcase_add_test(t, every_truncation_of_a_file);
    tcase_add_test(t, the_first_matching_rule_wins);
    tcase_add_test(t, a_users_unit_is_no_unit_of_the_host);
    tcase_add_test(t, a_rule_that_hides_others_is_warned_of);
    tcase_add_test(t, a_reload_keeps_or_replaces);
    tcase_add_test(t, an_identity_that_does_not_fit);
    suite_add_tcase(s, t);
    return unit_run(s);
}
