#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A connection for each request, from one process and from the children of one, to nginx: after the first handshake
# the others resume. nginx is started anew: it knows no ticket, which costs a full handshake and nothing else. When that
# happens again and again, no ticket is offered any more. On the wire it is TLS 1.3 throughout.
. "$(dirname "$0")/lib.sh"
need nginx python3
ports 18810
marker mark-e2e-resume-77c1
pair python3.11 nginx

cat_client() {
    cat >client.py <<'END'
import os, socket, sys

def get(n):
    for _ in range(n):
        with socket.create_connection(('127.0.0.1', 18810)) as s:
            s.sendall(b'GET / HTTP/1.0\r\n\r\n')
            got = b''.join(iter(lambda: s.recv(4096), b''))
            assert got.endswith(b'mark-e2e-resume-77c1\n'), got

def say():
    print('ready', flush=True)
    return sys.stdin.readline()

get(20)
say()
get(20) # another nginx
children = [os.fork() or get(5) or os._exit(0) for _ in range(4)]
print('children', [os.waitpid(c, 0)[1] for c in children])
for _ in range(5):
    say()
    get(1) # another one each time
print('ready', flush=True)
END
}
web() { # N
    bg "nginx$1" $RUN nginx -e "$WORK/nginx$1.err" -p "$WORK/" -c "$WORK/nginx.conf"
    NGINX=$BG
    listening 18810
}
told() { [ "$(grep -c ready client.out)" -ge "$1" ]; }
counted() { # NAME AT_LEAST AT_MOST
    local n
    n=$(ask sum "$1")
    [ "$n" -ge "$2" ] && [ "$n" -le "$3" ]
}
counts() { # WHEN FULL: of so many connections so far, all but FULL resumed, on both sides
    [ "$HALF" = mesh ] || return 0
    until_ok 10 counted handshakes $((2 * $2)) $((2 * $2)) || problem "$1: $(ask sum handshakes) handshakes, not $((2 * $2))"
    until_ok 10 counted handshakes_resumed $((2 * $2 - 2 * $3)) $((2 * $2 - 2 * $3)) ||
        problem "$1: $(ask sum handshakes_resumed) resumed, of $((2 * $2))"
    until_ok 10 counted tickets_declined "$4" "$4" || problem "$1: $(ask sum tickets_declined) tickets declined, not $4"
}

body() {
    cat >nginx.conf <<C
worker_processes 1;
pid $WORK/nginx.pid;
daemon off;
events { worker_connections 256; }
http {
    access_log off;
    $(nginx_paths)
    server { listen 127.0.0.1:18810; location / { return 200 "mark-e2e-resume-77c1\n"; } }
}
C
    cat_client
    web 1
    mkfifo go
    $RUN python3 client.py <go >client.out &
    local client=$!
    exec 7>go
    until_ok 30 told 1
    counts 'one process' 20 1 0
    local n
    for n in 2 3 4 5 6 7; do
        kill "$NGINX"
        wait "$NGINX"
        web $n
        echo >&7
        until_ok 30 told $n
        [ $n != 2 ] || counts 'another server, and children' 60 2 1
    done
    counts 'one server after the other' 65 7 4
    exec 7>&-
    wait "$client" || return 1
    cat client.out
}
e2e
