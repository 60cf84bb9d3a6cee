#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who proves the proof: wire.py must accept TLS 1.3 and refuse TLS 1.2, plaintext, plaintext after a
# TLS 1.3 handshake, an unencrypted record after it, more than an alert to who sent nothing, and a marker wherever it is.
. "$(dirname "$0")/lib.sh"
need openssl python3 tcpdump
ports 4431 4432 4433 4434 4435 4436
E2E_HALVES=bare WIRE_BARE=

body() {
    [ -n "$ROOT" ] || { echo 'no root, no capture'; return 0; }
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
        -out cert.pem -subj /CN=x -days 1 2>/dev/null
    local p
    for p in 4431:-tls1_3 4432:-tls1_2; do
        bg s${p%:*} openssl s_server -quiet -accept 127.0.0.1:${p%:*} ${p#*:} -cert cert.pem \
            -key key.pem -www
        listening ${p%:*}
        printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -quiet -connect 127.0.0.1:${p%:*} \
            2>/dev/null | head -c 9
        echo
    done
    /usr/bin/python3 - <<'P'
import socket, ssl, threading
def server(port, extra):
    s = socket.create_server(('127.0.0.1', port))
    def run():
        c, _ = s.accept()
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain('cert.pem', 'key.pem')
        t = ctx.wrap_socket(c, server_side=True)
        t.recv(100)
        socket.socket(fileno=t.detach()).sendall(extra)
    th = threading.Thread(target=run); th.start(); return th
for port, extra in ((4433, b'marker in clear'), (4434, b'\x16\x03\x03\x00\x05hello')):
    th = server(port, extra)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); ctx.check_hostname = False; ctx.verify_mode = 0
    t = ctx.wrap_socket(socket.create_connection(('127.0.0.1', port)))
    t.sendall(b'x'); th.join(); socket.socket(fileno=t.detach()).recv(100)
P
    # A client that ends without a byte, and what a server sends then: an alert, or one and a byte.
    /usr/bin/python3 - <<'P'
import socket
for port, last in ((4435, b'\x15\x03\x03\x00\x02\x02\x32'), (4436, b'\x15\x03\x03\x00\x02\x02\x32!')):
    s = socket.create_server(('127.0.0.1', port))
    c = socket.create_connection(('127.0.0.1', port))
    a, _ = s.accept()
    c.shutdown(socket.SHUT_WR); a.recv(1); a.sendall(last); a.close(); c.recv(100)
P
    end_capture
    local w="/usr/bin/python3 $E2E/wire.py lo.pcap --expect"
    for p in 4431 4432 4433 4434 4431,4432 4431,4435 4431,4436; do
        if $w tls13 --ports $p >w.$p; then echo "$p tls13"; else echo "$p refused"; fi
    done
    $w plain --ports 4433 --marker 'marker in clear' >/dev/null && echo '4433 readable'
    $w tls13 --ports 4431 --marker 'marker in clear' >/dev/null || echo '4431 marker elsewhere'
    $w plain --ports 4431 >/dev/null || echo '4431 not plain'
    cat w.*
}
normal() { grep -v '^wire'; }
verdict() {
    [ -n "$ROOT" ] || return 0
    printf '%s\n' 'HTTP/1.0 ' 'HTTP/1.0 ' '4431 tls13' '4432 refused' '4433 refused' '4434 refused' \
        '4431,4432 refused' '4431,4435 tls13' '4431,4436 refused' '4433 readable' '4431 marker elsewhere' '4431 not plain' |
        diff - <(grep -v '^wire' "$WORK/out") >&2 || problem "$(cat "$WORK/out")"
}
e2e
