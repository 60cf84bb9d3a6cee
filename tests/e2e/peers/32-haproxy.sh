#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# HAProxy with its own TLS 1.3 on both legs and certificates from our authority, verifying both
# peers: meshed curl -> HAProxy -> meshed nginx. Bare, the same with curl's own TLS and no TLS behind.
. "$(dirname "$0")/../lib.sh"
need haproxy nginx curl
ports 18240 18241
pair curl /peer
pair nginx /peer
WIRE_BARE=''

config() {
    echo 'services = ( { name = "peer"; endpoints = ( { addr = "127.0.0.1:18240"; } ); } );'
}
body() {
    local rc=0 tls="ssl crt $WORK/certs/peer.pem ca-file $WORK/certs/bundle.crt verify required"
    svid peer
    svid curl
    mkdir -p www && bytes 3000000 13 >www/big
    cat >nginx.conf <<C
worker_processes 1;
pid $WORK/nginx.pid;
daemon off;
events { }
http {
    access_log off;
    $(nginx_paths)
    server { listen 127.0.0.1:18241; root $WORK/www; location /hello { return 200 "hello\n"; } }
}
C
    cat >haproxy.cfg <<C
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen web
    bind 127.0.0.1:18240 $tls ssl-min-ver TLSv1.3
    http-response set-header X-Peer %[ssl_c_verify]-%[ssl_fc_protocol]
    server one 127.0.0.1:18241 $([ "$HALF" = bare ] || echo "$tls ssl-min-ver TLSv1.3")
C
    bg nginx $RUN nginx -e "$WORK/nginx.err" -p "$WORK/" -c "$WORK/nginx.conf"
    listening 18241 || return 1
    bg haproxy haproxy -db -f haproxy.cfg
    OFF_MESH=1 listening 18240 || return 1
    local get="curl -sS -k --cert certs/curl.crt --key certs/curl.key" url=https://127.0.0.1:18240
    [ "$HALF" = bare ] || get="$RUN curl -sS" url=http://127.0.0.1:18240
    $get -D - -o /dev/null $url/hello | grep -i '^x-peer' || rc=1
    $get -w '%{http_code} %{num_connects}\n' $url/hello $url/hello || rc=1
    $get $url/big | cmp - www/big && echo same || rc=1
    return $rc
}
e2e
