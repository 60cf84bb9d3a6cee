#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs that use OpenSSL themselves: curl https and nginx ssl. Theirs is TLS 1.2 on the captured
# port, so the capture tells their handshake from ours: meshed, only TLS 1.3 may be seen.
. "$(dirname "$0")/lib.sh"
need nginx curl openssl
ports 18443
pair curl nginx

body() {
    local rc=0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
        -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -days 2 2>/dev/null
    mkdir www
    bytes 3000000 6 >www/big
    cat >nginx.conf <<C
worker_processes 1;
pid $WORK/nginx.pid;
daemon off;
events { }
http {
    access_log off;
    ssl_certificate $WORK/cert.pem;
    ssl_certificate_key $WORK/key.pem;
    $(nginx_paths)
    server {
        listen 127.0.0.1:18443 ssl;
        ssl_protocols TLSv1.2;
        root $WORK/www;
        location /proto { return 200 "\$ssl_protocol \$ssl_cipher\n"; }
    }
    server {
        listen 127.0.0.1:18444 ssl http2;
        ssl_protocols TLSv1.3;
        root $WORK/www;
        location /proto { return 200 "\$ssl_protocol \$ssl_cipher \$server_protocol\n"; }
    }
}
C
    bg nginx $RUN nginx -e "$WORK/nginx.err" -p "$WORK/" -c "$WORK/nginx.conf"
    listening 18443 && listening 18444 || return 1
    local p
    for p in 18443 18444; do
        $RUN curl -sS --cacert cert.pem -w '%{http_code} %{ssl_verify_result}\n' \
            https://localhost:$p/proto https://127.0.0.1:$p/proto || rc=1
        $RUN curl -sS --cacert cert.pem https://localhost:$p/big | cmp - www/big && echo same || rc=1
        # Not trusted, and not TLS at all: their own errors, not ours.
        $RUN curl -sS https://localhost:$p/ 2>&1 | head -1
        echo "${PIPESTATUS[0]}"
        $RUN curl -sS http://127.0.0.1:$p/ | grep -o '<title>.*</title>'
    done
    $RUN curl -sS --cacert cert.pem --tls-max 1.2 https://localhost:18444/ 2>&1 | head -1
    return $rc
}
e2e
