/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_users: see users.h.
 */
#include "meshd/policy/users.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct user {
    int64_t id;
    uint64_t round; /* of the last question */
    UT_hash_handle hh;
    char name[];
};
static struct user *users;

static int64_t
ask(const char *name)
{
    const struct passwd *pw = getpwnam(name);
    return pw ? (int64_t)pw->pw_uid : -1;
}

int64_t
meshd_users_id(const char *name, uint64_t round)
{
    struct user *u = NULL;
    size_t len = strlen(name) + 1;
    HASH_FIND_STR(users, name, u);
    if (u && (u->id >= 0 || u->round == round)) {
        return u->id;
    }
    int64_t id = ask(name);
    if (!u && (u = malloc(sizeof(*u) + len)) != NULL) {
        memcpy(u->name, name, len);
        HASH_ADD_STR(users, name, u);
    }
    if (u) {
        u->id = id;
        u->round = round;
    }
    return id;
}
