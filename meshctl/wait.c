/* SPDX-License-Identifier: Apache-2.0
 *
 * drain --wait, and top: one question asked again and again.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "meshctl/ask.h"
#include "meshctl/meshctl.h"

#define FIRST_MS 10
#define MOST_MS  500

static double
now(void)
{
    struct timespec ts = {0};
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A meshd that restarts meanwhile keeps the order: it is waited for, too. NULL: not reached. */
static char *
state_of(const struct view *v, const char *order, char *why, size_t cap)
{
    char question[512], *text = NULL;
    snprintf(question, sizeof(question), "draining%s", order + strlen("drain"));
    return ask(v->path, question, true, v->timeout_s, &text, why, cap) ? text : NULL;
}

static int
give_up(const struct view *v, const char *order, const char *state)
{
    char question[512];
    if (v->json && state) {
        fputs(state, stdout);
    } else if (!v->json) {
        snprintf(question, sizeof(question), "draining%s", order + strlen("drain"));
        (void)show(v, question);
    }
    fprintf(stderr, "meshctl: not drained in time; it goes on draining\n");
    return EXIT_ANSWER;
}

int
drain_wait(const struct view *v, const char *order, double seconds)
{
    char why[256] = "", *text = NULL;
    double end = now() + seconds;
    if (!ask(v->path, order, v->json, v->timeout_s, &text, why, sizeof(why))) {
        fprintf(stderr, "meshctl: meshd not reached at %s: %s\n", v->path, why);
        return EXIT_UNREACHABLE;
    }
    bool given = strncmp(text, v->json ? "{\"schema\":1,\"drain\":" : "draining ", v->json ? 20 : 9) == 0;
    int status = given && v->json ? EXIT_OK : show_answer(v, text);
    free(text);
    for (int pause = FIRST_MS; given && status == EXIT_OK;) {
        text = state_of(v, order, why, sizeof(why));
        if (text && !strstr(text, "\"drained\":")) {
            fprintf(stderr, "meshctl: the order was taken back meanwhile\n");
            status = EXIT_ANSWER;
        } else if (text && strstr(text, "\"drained\":true")) {
            fputs(v->json ? text : "drained\n", stdout);
            free(text);
            return EXIT_OK;
        } else if (seconds > 0 && now() >= end) {
            status = give_up(v, order, text);
        }
        free(text);
        if (status == EXIT_OK) {
            poll(NULL, 0, pause);
        }
        pause = pause * 2 < MOST_MS ? pause * 2 : MOST_MS;
    }
    return status;
}

/* Rates need two looks: meshd measures from one to the next. */
int
top(const struct view *v, double interval_s, bool once)
{
    char why[256], *text = NULL;
    if (!ask(v->path, "top", v->json, v->timeout_s, &text, why, sizeof(why))) {
        fprintf(stderr, "meshctl: meshd not reached at %s: %s\n", v->path, why);
        return EXIT_UNREACHABLE;
    }
    free(text);
    for (;;) {
        poll(NULL, 0, (int)(interval_s * 1000));
        if (v->terminal && !once && !v->json) {
            fputs("\033[H\033[2J", stdout);
        }
        int status = show(v, "top");
        if (status != EXIT_OK || once) {
            return status;
        }
        if (!v->terminal && !v->json) {
            puts("");
        }
    }
}
