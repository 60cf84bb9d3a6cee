#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nginx with its own TLS and certificates from our authority: as a server with ssl_verify_client on,
# whose client is meshed curl asking for http; and as a client (proxy_pass https) of meshed
# http.server. Bare, the same documents come with curl's own TLS, and without TLS.
. "$(dirname "$0")/../lib.sh"
need nginx curl python3
ports 18230 18231
pair curl /peer
pair python3 /edge
WIRE_BARE=''

config() {
    echo 'services = ( { name = "peer"; endpoints = ( { addr = "127.0.0.1:18230"; } ); } );'
}
body() {
    local rc=0 scheme=https
    svid peer
    svid edge
    svid curl
    mkdir -p www && bytes 3000000 12 >www/big
    [ "$HALF" = mesh ] || scheme=http
    cat >nginx.conf <<C
worker_processes 2;
pid $WORK/nginx.pid;
daemon off;
events { }
http {
    access_log off;
    $(nginx_paths)
    server {
        listen 127.0.0.1:18230 ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate $WORK/certs/peer.crt;
        ssl_certificate_key $WORK/certs/peer.key;
        ssl_client_certificate $WORK/certs/bundle.crt;
        ssl_verify_client on;
        ssl_verify_depth 3;
        root $WORK/www;
        location /who { return 200 "\$ssl_client_verify \$ssl_protocol\n"; }
    }
    server { # what others reach without TLS, from a backend in the mesh
        listen 127.0.0.1:18232;
        location / {
            proxy_pass $scheme://127.0.0.1:18231;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_certificate $WORK/certs/edge.crt;
            proxy_ssl_certificate_key $WORK/certs/edge.key;
        }
    }
}
C
    bg nginx nginx -e "$WORK/nginx.err" -p "$WORK/" -c "$WORK/nginx.conf"
    bg backend $RUN python3 -m http.server 18231 --bind 127.0.0.1 --directory www
    OFF_MESH=1 listening 18230 && OFF_MESH=1 listening 18232 && listening 18231 || return 1
    local get="curl -sS -k --cert certs/curl.crt --key certs/curl.key" url=https://127.0.0.1:18230
    [ "$HALF" = bare ] || get="$RUN curl -sS" url=http://127.0.0.1:18230
    $get -w '%{http_code}\n' $url/who $url/who || rc=1
    $get $url/big | cmp - www/big && echo same || rc=1
    curl -sS http://127.0.0.1:18232/big | cmp - www/big && echo 'same through nginx' || rc=1
    return $rc
}
e2e
