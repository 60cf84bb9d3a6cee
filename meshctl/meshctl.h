/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl: the commands that are more than one question. Each returns the exit code.
 */
#ifndef MESHCTL_MESHCTL_H
#define MESHCTL_MESHCTL_H

#include <stdbool.h>

enum { EXIT_OK = 0, EXIT_ANSWER = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

/* Where to ask, and how answers are shown. */
struct view {
    const char *path;
    bool json, color, terminal;
    double timeout_s;
};

int show(const struct view *v, const char *question);
int show_answer(const struct view *v, const char *text);

/* Gives the order and waits until nothing is left of it; 0 seconds: for ever. */
int drain_wait(const struct view *v, const char *order, double seconds);
int top(const struct view *v, double interval_s, bool once);
int check(const struct view *v);
/* In a child of check, under libmesh: is it there, and can the engine beside it be loaded? */
int check_probe(const char *lib);

#endif
