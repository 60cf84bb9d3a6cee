#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# wrk against nginx: 200 keep-alive connections from two threads for five seconds (a handshake storm
# on a loaded machine takes two of them), without one socket error or wrong status, then a connection
# for each request.
. "$(dirname "$0")/lib.sh"
need wrk nginx
ports 18140
marker mark-e2e-wrk-6a19
pair wrk nginx

body() {
    cat >nginx.conf <<C
worker_processes 2;
pid $WORK/nginx.pid;
daemon off;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000;
    $(nginx_paths)
    server { listen 127.0.0.1:18140 backlog=511; location / { return 200 "mark-e2e-wrk-6a19\n"; } }
}
C
    bg nginx $RUN nginx -e "$WORK/nginx.err" -p "$WORK/" -c "$WORK/nginx.conf"
    listening 18140 || return 1
    local args
    for args in '-H Connection:keep-alive' '-H Connection:close'; do
        $RUN wrk -t 2 -c 200 --timeout 60s -d $((4 + SLOW))s $args http://127.0.0.1:18140/ >wrk.out || return 1
        grep -E 'Socket errors|Non-2xx|unable' wrk.out
        awk '/requests in/ { print ($1 > 200) ? "more requests than connections" : $0 }' wrk.out
    done
}
e2e
