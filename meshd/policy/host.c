/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_host: see host.h.
 */
#include "meshd/policy/host.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LABEL_MAX 63u /* [RFC1035 2.3.4] */

/* Letters, digits, dashes but not at the ends, and the underscores that names in containers have. */
static bool
is_host_name(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    for (;;) {
        size_t n = strspn(s, allowed);
        if (n == 0 || n > LABEL_MAX || s[0] == '-' || s[n - 1] == '-' || (s[n] && s[n] != '.')) {
            return false;
        }
        if (!s[n]) {
            return true;
        }
        s += n + 1;
    }
}

/* What resolvers take for one, "127.1" and "0x7f000001" too. */
bool
meshd_host_is_address(const char *s)
{
    struct in_addr a;
    return inet_aton(s, &a) != 0;
}

/* Names of this host, wherever it is [RFC6761 6.3]. */
static bool
is_localhost(const char *s)
{
    static const char *const own[] = {"localhost", "localhost4", "localhost6", "ip6-localhost",
                                      "ip6-loopback"};
    const char *dot = strrchr(s, '.');
    const char *last = dot && strncasecmp(dot, ".localdomain", 12) != 0 ? dot + 1 : s;
    size_t n = strcspn(last, ".");
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strncasecmp(last, own[i], n) == 0 && !own[i][n]) {
            return true;
        }
    }
    return false;
}

static bool
parse_port(const char *s, uint16_t *port)
{
    char *end = NULL;
    unsigned long v = strtoul(s, &end, 10);
    if (strspn(s, "0123456789") != strlen(s) || v == 0 || v > UINT16_MAX) {
        return false;
    }
    *port = (uint16_t)v;
    return true;
}

bool
meshd_host_parse(const char *text, struct meshd_host *out, const char **why)
{
    size_t n = strcspn(text, ":");
    memset(out, 0, sizeof(*out));
    *why = "is longer than a host name may be";
    if (n >= sizeof(out->name)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool upper = text[i] >= 'A' && text[i] <= 'Z';
        out->name[i] = (char)(upper ? text[i] + 'a' - 'A' : text[i]);
    }
    *why = "has no valid port; write \"name:5432\"";
    if (text[n] && !parse_port(text + n + 1, &out->port)) {
        return false;
    }
    *why = "is an address; write it under addresses";
    if (meshd_host_is_address(out->name)) {
        return false;
    }
    *why = "is this host itself, on every host";
    if (is_localhost(out->name)) {
        return false;
    }
    *why = "is no host name; letters, digits, '-' and '_' in labels of at most 63 are allowed";
    return is_host_name(out->name);
}

bool
meshd_host_is_domain(const char *text)
{
    return is_host_name(text) && !meshd_host_is_address(text) && !is_localhost(text) &&
           !text[strcspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

bool
meshd_config_is_label(const char *service)
{
    return !strchr(service, '.') && is_host_name(service) && !meshd_host_is_address(service) &&
           !is_localhost(service);
}

bool
meshd_host_is_under(const char *name, const char *domain)
{
    size_t n = strlen(name), d = strlen(domain);
    return d > 0 && n > d && name[n - d - 1] == '.' && strcmp(name + n - d, domain) == 0;
}
