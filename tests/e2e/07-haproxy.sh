#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# HAProxy as an unmodified plaintext proxy between curl and nginx: both legs meshed, in mode http
# and mode tcp, with health checks, keep-alive to the backend, and a backend that is down.
. "$(dirname "$0")/lib.sh"
need haproxy nginx curl
ports 18120 18121 18122 18123
marker mark-e2e-haproxy-e8f0
pair curl haproxy
pair haproxy nginx

body() {
    local rc=0 p
    mkdir -p www && bytes 5000000 9 >www/big
    cat >nginx.conf <<C
worker_processes 2;
pid $WORK/nginx.pid;
daemon off;
events { }
http {
    access_log off;
    $(nginx_paths)
    server {
        listen 127.0.0.1:18121;
        root $WORK/www;
        location /hello { return 200 "mark-e2e-haproxy-e8f0 \$http_x_forwarded_for\n"; }
    }
}
C
    cat >haproxy.cfg <<C
global
    nbthread 2
    maxconn 500
defaults
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen web
    mode http
    bind 127.0.0.1:18120
    option forwardfor
    option httpchk GET /hello
    server one 127.0.0.1:18121 check inter 200ms
listen raw
    mode tcp
    bind 127.0.0.1:18122
    server one 127.0.0.1:18121
listen down
    mode http
    bind 127.0.0.1:18123
    server gone 127.0.0.1:18129
C
    bg nginx $RUN nginx -e "$WORK/nginx.err" -p "$WORK/" -c "$WORK/nginx.conf"
    listening 18121 || return 1
    bg haproxy $RUN haproxy -db -f haproxy.cfg
    for p in 18120 18122 18123; do listening $p || return 1; done
    for p in 18120 18122; do
        $RUN curl -sS -w '%{http_code} %{num_connects}\n' http://127.0.0.1:$p/hello \
            "http://127.0.0.1:$p/hello?mark-e2e-haproxy-e8f0" || rc=1
        $RUN curl -sS http://127.0.0.1:$p/big | cmp - www/big && echo same || rc=1
        $RUN curl -sS -Z -o a http://127.0.0.1:$p/big -o b http://127.0.0.1:$p/big 2>/dev/null
        cmp a www/big && cmp b www/big && echo 'both same' || rc=1
    done
    $RUN curl -sS -o /dev/null -w '%{http_code}\n' http://127.0.0.1:18123/
    return $rc
}
e2e
