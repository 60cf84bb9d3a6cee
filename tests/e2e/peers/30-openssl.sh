#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# openssl s_client and s_server with certificates from our authority against meshed socat, in both
# roles; and peers that must be refused: the right alert on their side, the right reason counted on
# ours. The bare half holds the standard cases against openssl itself: the same alerts.
. "$(dirname "$0")/../lib.sh"
need openssl socat
ports 18210 18220 18221 18222 18223 18224 18225 18226 18227 18228
WIRE_BARE='' NO_COMPARE=1

config() { # the servers that are not ours are fixed endpoints of the service "peer"
    local p list=
    for p in 18220 18221 18222 18223 18224 18225 18226 18227 18228; do
        list="$list${list:+, }{ addr = \"127.0.0.1:$p\"; }"
    done
    echo "services = ( { name = \"peer\"; endpoints = ( $list ); } );"
}

# counted BEFORE REASON...: one of the reasons grew.
total() {
    local r n=0
    for r in "$@"; do n=$((n + $(ask sum "$r"))); done
    echo $n
}
grew() { [ "$(total "${@:2}")" -gt "$1" ]; }

answered() { grep -qE 'hello|olleh|alert number|rror' "$1"; }
alert() { grep -ohE 'SSL alert number [0-9]+' "$@" | head -1 | grep -oE '[0-9]+'; }

# client CASE WANT REASONS ARGS...: s_client against the server on 18210. WANT: hello, or an alert.
client() {
    local case=$1 want=$2 reasons=$3 before=0 got
    shift 3
    [ "$HALF" = bare ] || [ -z "$reasons" ] || before=$(total $reasons)
    { echo hello; until_ok 10 answered $case.out; } |
        openssl s_client -connect 127.0.0.1:18210 -CAfile certs/bundle.crt -verify_return_error \
            -quiet -no_ign_eof "$@" >$case.out 2>&1
    if grep -qE '^(hello|olleh)' $case.out; then got=hello; else got=$(alert $case.out); fi
    [ "$got" = "$want" ] ||
        problem "client $case: wanted $want, got '$got': $(tail -3 $case.out)"
    [ "$HALF" = bare ] || [ -z "$reasons" ] || until_ok 5 grew $before $reasons ||
        problem "client $case: none of '$reasons' was counted"
}
# New keys in both directions: the peer asks for ours and sends its own (K), then its own alone (k).
told() { [ "$(grep -c "$1" keys.out)" -ge "$2" ]; }
key_updates() {
    local before
    before=$(total key_updates)
    {
        echo one; until_ok 10 told '^one' 1
        echo K; until_ok 10 told KEYUPDATE 1
        echo two; until_ok 10 told '^two' 1
        echo k; until_ok 10 told KEYUPDATE 2
        echo three; until_ok 10 told '^three' 1
    } | openssl s_client -connect 127.0.0.1:18210 -CAfile certs/bundle.crt "$@" >keys.out 2>&1
    told '^three' 1 || problem "key updates: $(tail -3 keys.out)"
    until_ok 5 eval '[ "$(total key_updates)" -ge $((before + 3)) ]' ||
        problem "key updates: $before before, $(total key_updates) after, 3 more were wanted"
}
cert() { echo -cert certs/$1.crt -cert_chain certs/$1.crt -key certs/$1.key; }

# server CASE PORT WANT REASONS ARGS...: s_server on PORT, meshed socat as its client.
server() {
    local case=$1 port=$2 want=$3 reasons=$4 before=0 got
    shift 4
    [ -z "$reasons" ] || before=$(total $reasons)
    bg s-$case openssl s_server -accept 127.0.0.1:$port -CAfile certs/bundle.crt -Verify 3 \
        -verify_return_error -rev "$@"
    OFF_MESH=1 listening $port || return
    { echo hello; until_ok 10 eval "answered r-$case.out || answered s-$case.log"; } |
        $RUN socat -t 2 - TCP:127.0.0.1:$port >r-$case.out 2>&1
    if grep -q '^olleh' r-$case.out; then got=hello; else got=$(alert s-$case.log); fi
    case " $want " in
    *" ${got:-none} "*) ;;
    *) problem "server $case: wanted $want, got '$got': $(cat r-$case.out s-$case.log | tail -3)" ;;
    esac
    [ -z "$reasons" ] || until_ok 5 grew $before $reasons ||
        problem "server $case: none of '$reasons' was counted"
    stop $BG
}

# An urgent byte amid others: to who knows nothing of it, a byte of data in a record with padding.
urgent() {
    bg s-urgent openssl s_server -accept 127.0.0.1:18228 -CAfile certs/bundle.crt -Verify 3 \
        -verify_return_error -rev $(cert peer)
    OFF_MESH=1 listening 18228 || return
    $RUN /usr/bin/python3 - >r-urgent.out 2>&1 <<'P'
import socket
s = socket.create_connection(('127.0.0.1', 18228))
s.sendall(b'h')
s.send(b'el', socket.MSG_OOB)
s.sendall(b'lo\n')
got = b''
while not got.endswith(b'\n'):
    more = s.recv(100)
    assert more, got
    got += more
print(got.decode(), end='')
P
    grep -q '^olleh$' r-urgent.out || problem "urgent: $(cat r-urgent.out s-urgent.log | tail -3)"
    stop $BG
}

body() {
    svid peer
    svid expired --expired --uri spiffe://mesh.local/ns/default/sa/peer
    svid foreign --uri spiffe://other.test/ns/default/sa/peer
    svid two --uri spiffe://mesh.local/ns/default/sa/peer --uri spiffe://mesh.local/ns/default/sa/b
    svid ca --ca --uri spiffe://mesh.local/ns/default/sa/peer
    svid other
    "$E2E/svid" --make-ca "$WORK/strangers"
    "$E2E/svid" "$WORK/strangers" "$WORK/stranger" peer
    cp stranger/peer.crt certs/stranger.crt
    cp stranger/peer.key certs/stranger.key
    if [ "$HALF" = bare ]; then
        svid socat
        bg server openssl s_server -accept 127.0.0.1:18210 -tls1_3 -CAfile certs/bundle.crt \
            -Verify 3 -verify_return_error -rev $(cert socat)
    else
        bg server $RUN socat TCP-LISTEN:18210,bind=127.0.0.1,reuseaddr,fork EXEC:cat
    fi
    listening 18210 || return 1
    client good hello '' $(cert peer)
    client chacha20 hello '' $(cert peer) -ciphersuites TLS_CHACHA20_POLY1305_SHA256
    client aes256 hello '' $(cert peer) -ciphersuites TLS_AES_256_GCM_SHA384
    client tls12 70 tls_version $(cert peer) -tls1_2
    client nothing 116 no_peer_cert
    client expired 45 cert_expired $(cert expired)
    client stranger 48 cert_untrusted $(cert stranger)
    [ "$HALF" = mesh ] || return 0
    client foreign 48 'trust_domain cert_untrusted' $(cert foreign)
    client two 42 cert_bad_svid $(cert two)
    client ca 42 cert_bad_svid $(cert ca)
    key_updates $(cert peer)
    client after hello '' $(cert peer) # and the server is none the worse for it

    server good 18220 hello '' $(cert peer)
    server tls12 18221 'none 70' 'tls_version peer_alert' $(cert peer) -tls1_2
    server expired 18222 45 cert_expired $(cert expired)
    server foreign 18223 48 'trust_domain cert_untrusted' $(cert foreign)
    server two 18224 42 cert_bad_svid $(cert two)
    server ca 18225 42 cert_bad_svid $(cert ca)
    server other 18226 42 identity $(cert other)
    server stranger 18227 48 cert_untrusted $(cert stranger)
    urgent
}
meshed() { ask pair "$(spiffe socat)" spiffe://mesh.local/ns/default/sa/peer; }
e2e
