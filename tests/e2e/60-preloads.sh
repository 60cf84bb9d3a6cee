#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Other libraries that are preloaded, before and after ours: allocators, libeatmydata, libfaketime (with
# its clock far from ours), stdbuf's, fakeroot's; and programs that were built with a sanitizer, whose
# runtime must be the first. In each a server that forks echoes to a client with threads.
. "$(dirname "$0")/lib.sh"
[ "$SLOW" = 1 ] || need a-build-without-sanitizer # whose runtime must be first, and is the allocator
need gcc fakeroot faketime eatmydata stdbuf
ports 18301 18302 18303 18304 18305 18306 18307 18308 18309 18310
marker mark-e2e-preloads-7d31
pair plain plain
limit 240

LIBS=/usr/lib/$(gcc -print-multiarch 2>/dev/null)
for lib in libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2; do need "$LIBS/$lib"; done

source_code() {
    cat <<'C'
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#define N 300000
static struct sockaddr_in at;
static void *ask(void *arg)
{
    char *b = malloc(N), *in = malloc(N);
    size_t sent = 0, got = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    for (size_t i = 0; i < N; i++)
        b[i] = "mark-e2e-preloads-7d31 "[(i + (size_t)arg) % 23];
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        return perror("connect"), NULL;
    while (sent < N) {
        ssize_t n = write(fd, b + sent, N - sent < 20000 ? N - sent : 20000), r = 1;
        for (sent += n > 0 ? n : 0; got < sent && r > 0; got += r > 0 ? r : 0)
            r = read(fd, in + got, sent - got);
        if (n <= 0 || r <= 0)
            return perror("talk"), NULL;
    }
    if (shutdown(fd, SHUT_WR) != 0 || read(fd, in, 1) != 0)
        perror("end");
    arg = memcmp(in + 1, b + 1, N - 1) == 0 ? &at : NULL;
    close(fd), free(b), free(in);
    return arg;
}
int main(int argc, char **argv)
{
    int port = atoi(argv[1]), l, fd, good = 0;
    at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc > 2) {
        pthread_t t[4];
        void *r;
        for (size_t i = 0; i < 4; i++)
            pthread_create(&t[i], NULL, ask, (void *)i);
        for (int i = 0; i < 4; i++)
            pthread_join(t[i], &r), good += r != NULL;
        printf("%d right\n", good);
        return good != 4;
    }
    signal(SIGCHLD, SIG_IGN);
    l = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(l, (struct sockaddr *)&at, sizeof at) != 0 || listen(l, 50) != 0)
        return perror("listen"), 1;
    while ((fd = accept(l, NULL, NULL)) >= 0) {
        if (fork() == 0) {
            FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
            char *b = malloc(5000);
            for (size_t n; (n = fread(b, 1, 5000, in)) > 0; fflush(out))
                if (fwrite(b, 1, n, out) != n)
                    perror("fwrite");
            fclose(out), fclose(in), free(b);
            exit(0);
        }
        close(fd);
    }
    return 1;
}
C
}

# try PORT PROGRAM [NAME=VALUE...]: the server and the client.
try() {
    local port=$1 program=$2
    shift 2
    bg "server$port" env "$@" "./$program" "$port"
    local server=$BG
    listening "$port" || return 1
    env "$@" timeout 300 "./$program" "$port" ask || rc=1
    stop "$server"
    grep . "server$port.log"
}

# both PORT NAME LIBRARY [NAME=VALUE...]: before and after ours; where the order is in the name.
both() {
    local port=$1 name=$2 lib=$3 dir=LIBMESH_RUN_DIR=${RUN_DIR:-}
    shift 3
    echo "$name, before ours"
    try "$port" plain LD_PRELOAD="$lib${PRELOADS:+:$PRELOADS}" "$dir" "$@"
    echo "$name, after ours"
    try "$port" plain LD_PRELOAD="${PRELOADS:+$PRELOADS:}$lib" "$dir" "$@"
}

body() {
    local rc=0 p=18301 lib
    source_code >peer.c
    gcc -O1 -w -o plain peer.c -pthread || return 1
    for lib in libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2; do
        both $p "$lib" "$LIBS/$lib"
        p=$((p + 1))
    done
    both 18304 eatmydata "$LIBS/libeatmydata.so"
    both 18305 'a clock in the past' "$LIBS/faketime/libfaketime.so.1" FAKETIME='-400d'
    both 18306 'a clock in the future' "$LIBS/faketime/libfaketime.so.1" FAKETIME='+4000d'
    both 18307 'a clock that stands still' "$LIBS/faketime/libfaketime.so.1" \
        FAKETIME='2020-01-01 00:00:00'
    both 18308 stdbuf /usr/libexec/coreutils/libstdbuf.so _STDBUF_O=L _STDBUF_I=0
    both 18309 fakeroot "$LIBS/libfakeroot/libfakeroot-sysv.so"
    for lib in address thread; do
        echo "built with the $lib sanitizer"
        gcc -O1 -g -w -fsanitize=$lib -o with_$lib peer.c -pthread || return 1
        # A preloaded library would be before the runtime, which the first of them forbids.
        try 18310 with_$lib LD_PRELOAD="${PRELOADS:-}" LIBMESH_RUN_DIR="${RUN_DIR:-}" \
            ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
    done
    return $rc
}
e2e
