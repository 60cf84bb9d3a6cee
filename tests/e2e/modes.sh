#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# strict, permissive and off: mesh-wide, per service and per port, each with a plaintext client and
# a meshed one, against a server that waits and one that speaks first. Bare, all are plaintext.
. "$(dirname "$0")/lib.sh"
need python3
NO_MESHD=1 NO_COMPARE=1

# For each mode the meshd.conf and what a plaintext and a meshed client get, on three ports:
# 18401 an echo server, 18402 one that speaks first, 18403 an echo whose port has a mode of its own.
conf() {
    case $1 in
    strict) echo 'mode = "strict";' ;;
    permissive) echo 'mode = "permissive"; detect_timeout = "200ms";' ;;
    off) echo 'mode = "off";' ;;
    service)
        echo 'mode = "off";'
        echo "services = ( { name = \"$(basename "$(spiffe python3)")\"; mode = \"strict\";"
        echo '    ports = ( { port = 18403; mode = "permissive"; } ); } );' ;;
    esac
}

total() { ask sum "$1"; }
grew() { [ "$(total "$1")" -gt "$2" ]; }
# A connection that was let go as plaintext must not stay in the list as an open one, or twice.
none_open() { ! ask json connections | grep -qE '"state": "(open|handshake)"'; }
listed() { ask json connections | grep -c '"state": '; }
# want MODE WHO PORT 'PATTERN': client.py's line.
want() {
    local got
    got=$(eval "$2" python3 client.py "$3" 2>&1 | tail -1)
    [[ $got =~ ^($4)$ ]] || problem "$1, ${2:+meshed }client, port $3: wanted '$4', got '$got'"
}

body() {
    cat >server.py <<'P'
import socket, sys, threading
def echo(c):
    try:
        while d := c.recv(65536):
            print('got', d, flush=True); c.sendall(d)
    except OSError: pass
    c.close()
def first(c):
    try:
        c.sendall(b'220 hello\r\n'); d = c.recv(100); c.sendall(b'bye ' + d)
    except OSError: pass
    c.close()
def serve(port, f):
    s = socket.create_server(('127.0.0.1', port))
    while True: threading.Thread(target=f, args=(s.accept()[0],)).start()
for p, f in ((18401, echo), (18402, first), (18403, echo)): threading.Thread(target=serve, args=(p, f)).start()
P
    cat >client.py <<'P'
import errno, socket, sys
port = int(sys.argv[1])
got = ''
try:
    s = socket.create_connection(('127.0.0.1', port), 10)
    if port == 18402:
        got = s.recv(100).decode().strip() + ' '
        s.sendall(b'quit'); s.shutdown(1)
        print(got + s.makefile('rb').read().decode())
    else:
        s.sendall(b'plaintext-of-a-client'); s.shutdown(1)
        print(s.makefile('rb').read().decode() or 'closed')
except OSError as e:
    print(got + errno.errorcode.get(e.errno, str(e)))
P
    local mode p echo='plaintext-of-a-client' first='220 hello bye quit' no=' *(ECONNRESET|closed|EPIPE|ENOTCONN|)'
    for mode in strict permissive off service; do
        if [ "$HALF" = mesh ]; then
            use_run_dir "$WORK/run-$mode"
            conf $mode >$mode.conf
            MESHD_CONF=$WORK/$mode.conf start_meshd || return 1
        fi
        bg $mode $RUN python3 server.py
        local server=$BG
        for p in 18401 18402 18403; do listening $p || return 1; done
        if [ "$HALF" = bare ]; then
            want bare '' 18401 "$echo"
            want bare '' 18402 "$first"
            stop $server
            continue
        fi
        local plain refused
        plain=$(total plaintext_in) refused=$(total plaintext_refused)
        case $mode in
        strict | service)
            want $mode '' 18401 "$no"
            until_ok 5 grew plaintext_refused "$refused"
            want $mode '' 18402 "$no"
            ! grep -q 'plaintext-of' $mode.log || problem "$mode: the server saw plaintext" ;;
        permissive)
            want $mode '' 18401 "$echo"
            want $mode '' 18402 "$first"
            until_ok 5 grew plaintext_in "$plain"
            until_ok 5 none_open || problem "$mode: listed as open: $(ask json connections)"
            [ "$(listed)" = $(($(total plaintext_in) - plain)) ] ||
                problem "$mode: not one row each: $(ask json connections)" ;;
        off)
            want $mode '' 18401 "$echo"
            want $mode '' 18402 "$first" ;;
        esac
        if [ $mode = service ]; then # the port's own mode goes before its service's
            want $mode '' 18403 "$echo"
            until_ok 5 grew plaintext_in "$plain"
        fi
        for p in 18401 18403; do want $mode "$RUN" $p "$echo"; done
        want $mode "$RUN" 18402 "$first"
        if [ $mode = off ]; then
            ! ask pair "$(spiffe python3)" "$(spiffe python3)" >/dev/null || problem 'off: TLS was used'
        else
            until_ok 5 ask pair "$(spiffe python3)" "$(spiffe python3)"
        fi
        stop $server
        stop "$MESHD"
    done
    MESHD=
}
e2e
