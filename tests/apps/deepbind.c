/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind: both ends are a library's, which was loaded with RTLD_DEEPBIND and so has its calls from libc.
 * lazy: its calls are bound when they are first made. bound: when it is loaded. sealed: they are read-only then.
 * text: and they lie among constants.
 * twice: it is loaded again, and after something else was unloaded. name: it is asked for by its name, which is found
 * where this program's file says, and so without RTLD_DEEPBIND too. plain: without. Sanitizers end a program that
 * asks for RTLD_DEEPBIND.
 */
/* run: modes lazy bound sealed text twice name plain */
/* run: notsan */
/* run: noasan */
/* cc: -ldl -Wl,-rpath,$ORIGIN -Wl,--enable-new-dtags */
#include "app.h"

#include <dlfcn.h>

struct deep {
    int (*dial)(const struct sockaddr *to, socklen_t len);
    int (*answer)(int lfd);
    ssize_t (*get)(int fd, void *to, size_t n);
    ssize_t (*put)(int fd, const void *from, size_t n);
    int (*marks)(int fd);
    int (*kinds)(int fd);
};

static const struct deep *deep;

static int
mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

/* Beside this program. */
static void *
load(const char *name, int flags)
{
    char path[PATH_MAX];
    ssize_t n = CK(readlink("/proc/self/exe", path, sizeof path - 64));
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, name);
    void *lib = dlopen(path, flags);
    say("%s: %s\n", name, lib ? "loaded" : dlerror());
    return lib;
}

static void *
load_by_name(const char *name, int flags)
{
    void *lib = dlopen(name, flags);
    say("%s: %s\n", name, lib ? "found" : dlerror());
    return lib;
}

static void
client(int unused)
{
    char b[4000];
    (void)unused;
    app_fill(b, sizeof b, 0);
    int fd = (int)CK(deep->dial((struct sockaddr *)&app_addr, sizeof app_addr));
    RES(deep->put(fd, b, sizeof b));
    RES(shutdown(fd, SHUT_WR));
    app_drain(fd, 4000);
    close(fd);
}

static void
serve(int lfd)
{
    char b[8000];
    size_t got = 0;
    ssize_t r;
    int fd = (int)CK(deep->answer(lfd));
    while ((r = CK(deep->get(fd, b + got, sizeof b - got))) > 0)
        got += (size_t)r;
    say("got %zu, right to %zu\n", got, app_match(b, got, 0));
    app_fill(b, 4000, 4000);
    RES(deep->put(fd, b, 4000));
    close(fd);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    struct app_task t;
    int lfd = app_listen();
    int how = mode("plain") ? RTLD_NOW : RTLD_DEEPBIND | (mode("lazy") || mode("twice") ? RTLD_LAZY : RTLD_NOW);
    const char *name = mode("sealed") ? "deepbind_now.so" : mode("text") ? "deepbind_text.so" : "deepbind.so";
    if (mode("twice")) {
        void *other = load("exit_notify.so", RTLD_NOW | RTLD_DEEPBIND);
        MUST(load(name, how) && other);
        RES(dlclose(other));
    }
    void *lib = mode("name") || mode("plain") ? load_by_name(name, how) : load(name, how);
    MUST(lib);
    say("dlerror: %s\n", dlerror());
    say("not there: %d\n", load_by_name("no-such-library.so", how) == NULL);
    MUST((deep = dlsym(lib, "deep")));
    if (!mode("name") && !mode("plain"))
        say("its own: %d %d %d\n", deep->kinds(0), deep->marks(0), deep->marks(-1));
    app_start_fork(&t, client, lfd);
    serve(lfd);
    app_join(&t, "client");
    return 0;
}
