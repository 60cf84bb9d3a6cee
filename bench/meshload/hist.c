/* SPDX-License-Identifier: Apache-2.0
 *
 * hist: see hist.h. A bucket's number is the value's leading nine bits behind the number of those that were
 * dropped; the numbers of neighbouring powers of two join without a gap.
 */
#include "bench/meshload/hist.h"

#include <inttypes.h>
#include <string.h>

void
hist_init(struct hist *h)
{
    memset(h, 0, sizeof(*h));
    h->min = UINT64_MAX;
}

unsigned
hist_index(uint64_t ns)
{
    uint64_t v = ns < HIST_MAX ? ns : HIST_MAX;
    unsigned bits = v == 0 ? 0 : 64 - (unsigned)__builtin_clzll(v);
    unsigned drop = bits > HIST_BITS + 1 ? bits - (HIST_BITS + 1) : 0;
    return (drop << HIST_BITS) + (unsigned)(v >> drop);
}

uint64_t
hist_top(unsigned index)
{
    unsigned drop = index >> HIST_BITS;
    if (drop <= 1) {
        return index;
    }
    drop--;
    return (((uint64_t)index - ((uint64_t)drop << HIST_BITS)) + 1) * (UINT64_C(1) << drop) - 1;
}

void
hist_add(struct hist *h, uint64_t ns)
{
    h->bucket[hist_index(ns)]++;
    h->count++;
    h->sum += (double)ns;
    h->min = ns < h->min ? ns : h->min;
    h->max = ns > h->max ? ns : h->max;
}

uint64_t
hist_at(const struct hist *h, double q)
{
    uint64_t seen = 0;
    /* At least one; the last of all even where q * count rounds beyond. */
    double want = q * (double)h->count;
    for (unsigned i = 0; i <= HIST_BUCKETS && h->count > 0; i++) {
        seen += h->bucket[i];
        if (seen > 0 && ((double)seen >= want || seen == h->count)) {
            uint64_t top = hist_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return 0;
}

double
hist_mean(const struct hist *h)
{
    return h->count > 0 ? h->sum / (double)h->count : 0;
}

void
hist_write(const struct hist *h, FILE *to)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {{"p50", 0.5}, {"p75", 0.75}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"p9999", 0.9999}};
    const char *comma = "";
    fprintf(to, "{\"count\": %" PRIu64 ", \"mean\": %.1f, \"min\": %" PRIu64, h->count, hist_mean(h),
            h->count > 0 ? h->min : 0);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        fprintf(to, ", \"%s\": %" PRIu64, points[i].name, hist_at(h, points[i].q));
    }
    fprintf(to, ", \"max\": %" PRIu64 ", \"buckets\": [", h->max);
    for (unsigned i = 0; i <= HIST_BUCKETS; i++) {
        if (h->bucket[i] > 0) {
            fprintf(to, "%s[%" PRIu64 ",%" PRIu64 "]", comma, hist_top(i), h->bucket[i]);
            comma = ",";
        }
    }
    fputs("]}", to);
}
