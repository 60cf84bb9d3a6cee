#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# curl and nginx, one worker and four: keep-alive, 10 MB down by sendfile and up by PUT, a ranged
# request, a chunked answer, HEAD and 404. nginx registers with epoll before it connects or reads,
# edge-triggered, and its workers run as another user than its master.
. "$(dirname "$0")/lib.sh"
need nginx curl openssl
ports 18080 18081
marker mark-e2e-nginx-5d1f
pair curl nginx

conf() { # workers port
    cat <<C
worker_processes $1;
pid $WORK/nginx$1.pid;
error_log $WORK/nginx$1.err;
daemon off;
events { worker_connections 256; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 32m;
    $(nginx_paths $1)
    server {
        listen 127.0.0.1:$2;
        root $WORK/www;
        location /up { dav_methods PUT; client_body_buffer_size 64k; }
        location /hello { default_type text/plain; return 200 "mark-e2e-nginx-5d1f \$request_uri\n"; }
    }
}
C
}

body() {
    local w url rc=0 i
    mkdir -p www/up && chmod 777 www www/up
    bytes 10485760 7 >www/big
    bytes 10485760 8 >upload
    for w in 1 4; do
        conf $w $((18079 + (w + 2) / 3)) >nginx$w.conf
        bg nginx$w $RUN nginx -e "$WORK/nginx$w.err" -p "$WORK/" -c "$WORK/nginx$w.conf"
        listening $((18079 + (w + 2) / 3)) || return 1
        url=http://127.0.0.1:$((18079 + (w + 2) / 3))
        echo "workers $w"
        # One connection for several requests: curl says how many it opened.
        $RUN curl -sS -w '%{http_code} %{num_connects} %{remote_port}\n' \
            "$url/hello?mark-e2e-nginx-5d1f" "$url/hello?2" "$url/hello?3" || rc=1
        $RUN curl -sS -I "$url/big" | grep -E '^(HTTP|Content-Length)'
        $RUN curl -sS -o /dev/null -w '%{http_code}\n' "$url/missing"
        $RUN curl -sS "$url/big" | cmp - www/big && echo 'down: same' || rc=1
        $RUN curl -sS -r 1000000-1000099 "$url/big" | sum
        $RUN curl -sS -T upload -w '%{http_code} %{size_upload}\n' "$url/up/file$w" || rc=1
        cmp www/up/file$w upload && echo 'up: same' || rc=1
        # nginx asks FIONREAD and then waits for an edge: the receive buffer, full, must have room for one.
        for i in {1..25}; do
            $RUN curl -sS -m 50 -T upload -w '%{http_code}\n' "$url/up/file$w"
        done | sort | uniq -c
        # Eight at once, and a reader slower than the server.
        for i in 1 2 3 4 5 6 7 8; do
            set -- "$@" -o "got$i" "$url/big"
        done
        $RUN curl -sS -Z "$@" && for i in 1 2 3 4 5 6 7 8; do cmp got$i www/big || rc=1; done
        shift $#
        rm -f got?
        $RUN curl -sS --limit-rate 8M "$url/big" | sum
    done
    return $rc
}
e2e
