#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Dante, a SOCKS server with a process for each task: one accepts, one negotiates, one connects, one
# carries the bytes, and the sockets go from each to the next over Unix sockets, one of them while it is
# still connecting. Its processes have changed their effective user, and are of no common tree for us.
. "$(dirname "$0")/lib.sh"
need danted nginx curl
ports 18850 18851
marker mark-e2e-dante-3f70
pair curl danted
pair danted nginx

conf() {
    local user=root nobody=nobody
    [ "$(id -u)" = 0 ] || user=$(id -un) nobody=$(id -un)
    cat >dante.conf <<C
logoutput: $WORK/dante.out
internal: 127.0.0.1 port = 18851
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: $user
user.unprivileged: $nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
C
    cat >nginx.conf <<C
worker_processes 1;
pid $WORK/nginx.pid;
daemon off;
events { worker_connections 256; }
http {
    access_log off;
    server { listen 127.0.0.1:18850; root $WORK/www; }
}
C
    mkdir www
    bytes 800000 4 >www/data
    echo mark-e2e-dante-3f70 >www/marker.txt
    chmod -R a+rX .
}

get() { $RUN curl -sS --max-time 60 "$@"; }

body() {
    local rc=0 p url=http://127.0.0.1:18850 pids=()
    conf
    bg nginx $RUN nginx -e "$WORK/nginx.err" -c "$WORK/nginx.conf"
    listening 18850 || return 1
    bg dante $RUN danted -f "$WORK/dante.conf" -p "$WORK/dante.pid"
    listening 18851 || return 1
    for p in socks4 socks5; do
        get --$p 127.0.0.1:18851 $url/marker.txt || rc=1
        get --$p 127.0.0.1:18851 $url/data | cmp - www/data && echo "$p: same" || rc=1
    done
    for p in 1 2 3 4 5 6; do
        get --socks5 127.0.0.1:18851 $url/data $url/data >"many.$p" &
        pids+=($!)
    done
    wait "${pids[@]}"
    for p in 1 2 3 4 5 6; do cat www/data www/data | cmp - "many.$p" || rc=1; done
    get --socks5 127.0.0.1:18851 http://127.0.0.1:18852/ -o /dev/null # nobody listens there
    echo "refused: $?"
    return $rc
}
e2e
