/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health_http: see http.h. The answer's other headers and its body are never looked at: the
 * connection is closed instead.
 */
#include "meshd/health/http.h"

#include <ctype.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool
meshd_http_ask(struct evbuffer *out, const char *host, const char *path)
{
    return evbuffer_add_printf(out,
                               "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: libmesh/HC\r\n"
                               "Accept: */*\r\nConnection: close\r\n\r\n",
                               path, host) > 0;
}

/* "HTTP/1.1 200 OK"; the reason may be missing, with its space. */
static int
parse_status_line(const char *line)
{
    static const char version[] = "HTTP/1.";
    const char *p = line + sizeof(version) - 1;
    if (strncmp(line, version, sizeof(version) - 1) != 0 || !isdigit((unsigned char)p[0]) ||
        p[1] != ' ') {
        return -1;
    }
    p += 2;
    for (int i = 0; i < 3; i++) {
        if (!isdigit((unsigned char)p[i])) {
            return -1;
        }
    }
    int status = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
    return (p[3] == '\0' || p[3] == ' ') && status >= 100 ? status : -1;
}

int
meshd_http_status(struct evbuffer *in, bool *interim)
{
    size_t len = 0;
    char *line = NULL;
    while ((line = evbuffer_readln(in, &len, EVBUFFER_EOL_CRLF)) != NULL) {
        bool whole = strlen(line) == len;
        int status = *interim ? 0 : whole ? parse_status_line(line) : -1;
        free(line);
        if (status == -1 || status >= 200 || status == 101) { /* nobody asked for another protocol */
            return status;
        }
        *interim = status != 0 || len > 0; /* until the empty line */
    }
    return evbuffer_get_length(in) > MESHD_HTTP_LINE_MAX ? -1 : 0;
}

static bool
is_among(const struct meshd_status_rule *at, size_t n, int status)
{
    for (size_t i = 0; i < n; i++) {
        if (status >= at[i].range.from && status <= at[i].range.to) {
            return true;
        }
    }
    return false;
}

void
meshd_http_judge(const struct meshd_health_rule *rule, int status, struct meshd_outcome *out)
{
    *out = (struct meshd_outcome){.verdict = MESHD_CHECK_AT_ONCE};
    if (status < 0) {
        out->verdict = MESHD_CHECK_NETWORK;
        snprintf(out->why, sizeof(out->why), "the answer is no HTTP");
    } else if (rule->expected_count ? is_among(rule->expected, rule->expected_count, status)
                                    : status == 200) {
        out->verdict = MESHD_CHECK_GOOD;
    } else {
        out->verdict = is_among(rule->retriable, rule->retriable_count, status) ? MESHD_CHECK_FAILED
                                                                               : MESHD_CHECK_AT_ONCE;
        snprintf(out->why, sizeof(out->why), "status %d", status);
    }
}
