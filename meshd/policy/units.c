/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_units: see units.h. No strtod: its result depends on the locale and is not exact.
 */
#include "meshd/policy/units.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MAX (UINT64_C(1) << 53)

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

#define KI UINT64_C(1024)
static const struct unit sizes[] = {
    {"B", 1},
    {"KiB", KI},
    {"MiB", KI * KI},
    {"GiB", KI * KI * KI},
    {"TiB", KI * KI * KI * KI},
    {"kB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", UINT64_C(1000000000000)},
    {"K", KI},
    {"M", KI * KI},
    {"G", KI * KI * KI},
    {"T", KI * KI * KI * KI},
    {NULL, 0},
};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A decimal number with up to 9 fractional digits as value / 10^9, kept in two parts. */
struct decimal {
    uint64_t whole, nano;
};

static bool
read_decimal(const char **s, struct decimal *out)
{
    struct decimal d = {0};
    const char *p = *s;

    if (!is_digit(*p)) {
        return false;
    }
    for (; is_digit(*p); p++) {
        d.whole = d.whole * 10 + (uint64_t)(*p - '0');
        if (d.whole > EXACT_MAX) {
            return false;
        }
    }
    if (*p == '.') {
        uint64_t place = 100000000;
        if (!is_digit(*++p)) {
            return false;
        }
        for (; is_digit(*p) && place > 0; p++, place /= 10) {
            d.nano += (uint64_t)(*p - '0') * place;
        }
    }
    *out = d;
    *s = p;
    return true;
}

static bool
scale(const struct decimal *d, uint64_t factor, uint64_t *out)
{
    uint64_t whole = 0, part = 0;
    if (__builtin_mul_overflow(d->whole, factor, &whole) ||
        __builtin_mul_overflow(d->nano, factor, &part) || part % 1000000000 != 0 ||
        __builtin_add_overflow(whole, part / 1000000000, out)) {
        return false;
    }
    return *out < EXACT_MAX;
}

static const struct unit *
find_unit(const struct unit *units, const char *s, size_t len)
{
    for (; units->name; units++) {
        if (strlen(units->name) == len && strncmp(units->name, s, len) == 0) {
            return units;
        }
    }
    return NULL;
}

bool
meshd_units_duration(const char *s, uint64_t *ms)
{
    uint64_t total = 0, below = UINT64_MAX;

    if (strcmp(s, "0") == 0) {
        *ms = 0;
        return true;
    }
    do {
        struct decimal d = {0};
        uint64_t part = 0;
        if (!read_decimal(&s, &d)) {
            return false;
        }
        size_t len = strspn(s, "dhms");
        const struct unit *u = find_unit(durations, s, len);
        if (!u || u->factor >= below || !scale(&d, u->factor, &part)) {
            return false;
        }
        total += part;
        below = u->factor;
        s += len;
    } while (*s && total < EXACT_MAX);
    if (*s || total >= EXACT_MAX) {
        return false;
    }
    *ms = total;
    return true;
}

bool
meshd_units_size(const char *s, uint64_t *bytes)
{
    struct decimal d = {0};
    uint64_t n = 0;

    if (!read_decimal(&s, &d)) {
        return false;
    }
    const struct unit *u = *s ? find_unit(sizes, s, strlen(s)) : &sizes[0];
    if (!u || !scale(&d, u->factor, &n)) {
        return false;
    }
    *bytes = n;
    return true;
}

bool
meshd_units_percent(const char *s, uint32_t *part)
{
    struct decimal d = {0};
    if (!read_decimal(&s, &d) || *s || d.whole > 100 || d.nano % 10000000 != 0) {
        return false;
    }
    uint64_t n = d.whole * 100 + d.nano / 10000000;
    if (n > 10000) {
        return false;
    }
    *part = (uint32_t)n;
    return true;
}

static bool
read_port(const char *s, uint16_t *out)
{
    uint32_t n = 0;
    size_t len = strlen(s);
    if (len == 0 || len > 5 || strspn(s, "0123456789") != len) {
        return false;
    }
    for (; *s; s++) {
        n = n * 10 + (uint32_t)(*s - '0');
    }
    if (n == 0 || n > 65535) {
        return false;
    }
    *out = (uint16_t)n;
    return true;
}

bool
meshd_units_addr(const char *s, struct mesh_addr *out)
{
    char host[INET6_ADDRSTRLEN] = "";
    const char *colon = strrchr(s, ':');
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct mesh_addr a = {0};
    uint16_t port = 0;

    if (!colon || !read_port(colon + 1, &port)) {
        return false;
    }
    size_t len = (size_t)(colon - s);
    bool v6 = len > 2 && s[0] == '[' && s[len - 1] == ']';
    if (v6) {
        s++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(host)) {
        return false;
    }
    memcpy(host, s, len);
    bool ok = v6 ? inet_pton(AF_INET6, host, &in6.sin6_addr) == 1 &&
                       mesh_addr_from(&a, (const struct sockaddr *)(const void *)&in6, sizeof(in6))
                 : inet_pton(AF_INET, host, &in.sin_addr) == 1 &&
                       mesh_addr_from(&a, (const struct sockaddr *)(const void *)&in, sizeof(in));
    if (ok) {
        a.port = port;
        *out = a;
    }
    return ok;
}

static bool
read_ip(const char *host, uint8_t ip[16], bool *v4)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    *v4 = inet_pton(AF_INET, host, ip + 12) == 1;
    if (*v4) {
        memcpy(ip, mapped, sizeof(mapped));
    }
    return *v4 || inet_pton(AF_INET6, host, ip) == 1;
}

bool
meshd_units_net(const char *s, uint8_t ip[16], uint8_t *prefix)
{
    char host[INET6_ADDRSTRLEN] = "";
    const char *slash = strchr(s, '/');
    const char *digits = slash ? slash + 1 : "";
    size_t n = strlen(digits);
    struct mesh_addr a = {0}, rest = {0};
    bool v4 = false;

    if (n == 0 || n > 3 || strspn(digits, "0123456789") != n || (size_t)(slash - s) >= sizeof(host)) {
        return false;
    }
    memcpy(host, s, (size_t)(slash - s));
    unsigned bits = (unsigned)strtoul(digits, NULL, 10);
    if (!read_ip(host, a.ip, &v4) || bits > (v4 ? 32u : 128u)) {
        return false;
    }
    bits += v4 ? 96 : 0;
    for (unsigned i = 0; i < bits; i++) {
        rest.ip[i / 8] |= a.ip[i / 8] & 0x80 >> i % 8;
    }
    if (memcmp(rest.ip, a.ip, sizeof(a.ip)) != 0) {
        return false;
    }
    memcpy(ip, a.ip, sizeof(a.ip));
    *prefix = (uint8_t)bits;
    return true;
}

const char *
meshd_units_duration_text(uint64_t ms, char *out)
{
    const struct unit *u = durations;
    while (u->factor > 1 && ms % u->factor != 0) {
        u++;
    }
    if (ms == 0) {
        snprintf(out, MESHD_UNITS_TEXT, "0");
        return out;
    }
    snprintf(out, MESHD_UNITS_TEXT, "%" PRIu64 "%s", u->factor ? ms / u->factor : ms, u->name);
    return out;
}
