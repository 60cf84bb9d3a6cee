#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What became of each connection, by the access log and by the metrics: in order, refused by every endpoint,
# no endpoint, reset by the server, another identity, plaintext, killed; two thousand short ones; the log
# renamed, and a disk that is full. Bare, the same commands give the same output.
. "$(dirname "$0")/lib.sh"
need nginx curl redis-server redis-cli python3
ports 16901 16902 16903
marker mark-e2e-observe-91c4
limit 240
WIRE_BARE=

conf() { # ACCESS-LOG-PATH
    cat <<C
allow_requested_service = true;
accept_grace = "2s";
admin = { listen = "unix:$WORK/admin.sock"; };
access_log = { path = "$1"; };
services = (
  { name = "cache"; addresses = ("127.0.0.1:16900"); },
  { name = "dead"; addresses = ("127.0.0.1:16910"); max_connect_attempts = 2;
    endpoints = ({ addr = "127.0.0.1:16911"; }, { addr = "127.0.0.1:16912"; }, { addr = "127.0.0.1:16913"; }); },
  { name = "none"; addresses = ("127.0.0.1:16920"); },
  { name = "wrong"; addresses = ("127.0.0.1:16930"); endpoints = ({ addr = "127.0.0.1:16905"; }); }
);
C
}
config() { conf "$WORK/access.log"; }

observe() { /usr/bin/python3 "$E2E/observe.py" "$@"; }
metrics() { curl -s --unix-socket "$WORK/admin.sock" http://localhost/metrics >"$WORK/metrics"; }
lines_are() { # N KEY=VALUE...
    [ "$(observe count "$WORK/access.log" "${@:2}")" = "$1" ]
}
# want N KEY=VALUE...: so many lines of the log have these values.
want() {
    until_ok 15 lines_are "$@" || problem "wanted $*: $(tail -4 "$WORK/access.log")"
}
sample() { # NAME LABEL=VALUE...
    metrics && observe sum "$WORK/metrics" "$@"
}
samples_are() { [ "$(sample "${@:2}")" = "$1" ]; }
want_sample() { until_ok 15 samples_are "$@" || problem "wanted $*, got $(sample "${@:2}")"; }

id() { echo "spiffe://mesh.local/ns/default/sa/$1"; }

resetter() { # reads a request, then resets
    cat >resetter.py <<'P'
import socket, struct
s = socket.create_server(('127.0.0.1', 16903))
while True:
    c = s.accept()[0]
    c.recv(4)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    c.close()
P
    bg resetter $RUN python3 resetter.py
    listening 16903
}

in_order() {
    want 1 exe=/usr/bin/curl response_flags=- reason=null downstream_local_address=127.0.0.1:16901 \
        upstream_host=127.0.0.1:16901 "bytes_sent=2[0-9][0-9]" "source_principal=$(id curl)" \
        "destination_principal=$(id nginx)" tls_version=TLSv1.3 tls_cipher=TLS_* attempts=1 reporter=source \
        connection_security_policy=mutual_tls upstream_cluster=nginx connection_termination_details=null
    want 1 exe=*nginx reporter=destination "source_principal=$(id curl)" response_flags=- \
        downstream_local_address=127.0.0.1:16901 destination_service=nginx source_workload=curl
    want 2 upstream_cluster=cache response_flags=- downstream_local_address=127.0.0.1:16900 \
        upstream_host=127.0.0.1:16902 exe=/usr/bin/redis-cli reporter=source
    want_sample 1 istio_tcp_connections_opened_total reporter=source source_workload=curl destination_service=nginx
    want_sample 2 istio_tcp_connections_closed_total reporter=source destination_service=cache response_flags=-
    want_sample 2 libmesh_service_connect_attempts_total destination_service=cache
    want_sample 0 libmesh_service_connect_retries_total destination_service=cache
    want_sample 2 libmesh_service_connect_duration_seconds_count destination_service=cache
    want_sample 2 libmesh_service_handshake_duration_seconds_bucket reporter=source destination_service=cache le=+Inf
    [ "$(sample libmesh_connect_duration_seconds_count)" -ge 3 ] || problem "the connect histogram is empty"
}

failures() {
    want 1 upstream_cluster=dead response_flags=UF,URX attempts=2 reason=connect_failed \
        upstream_transport_failure_reason=connect_failed* tls_version=null downstream_local_address=127.0.0.1:16910
    want 0 upstream_cluster=dead attempts=1 # one that is followed by another is no line
    want 1 upstream_cluster=none response_flags=UH upstream_host=null reason=no_healthy_upstream attempts=0
    want 1 reporter=source upstream_host=127.0.0.1:16903 response_flags=UC \
        "connection_termination_details=reset by the peer" reason=null bytes_received=4
    want 1 reporter=destination response_flags=LR "connection_termination_details=reset by the program"
    want_sample 1 istio_tcp_connections_failed_total destination_service=dead response_flags=UF,URX
    want_sample 2 libmesh_service_connect_attempts_total destination_service=dead
    want_sample 1 libmesh_service_connect_retries_total destination_service=dead
    want_sample 1 istio_tcp_connections_failed_total destination_service=none response_flags=UH
    want_sample 1 istio_tcp_connections_closed_total reporter=source response_flags=UC
    ask json stats >"$WORK/stats"
    grep -q '"UF,URX": 1' "$WORK/stats" && grep -q '"UH": 1' "$WORK/stats" ||
        problem "stats: no flags: $(grep -A8 response_flags "$WORK/stats")"
    ask json connections | grep -q '"response_flags": "UC"' || problem "connections: no flags"
}

others() {
    $RUN curl -s --max-time 60 http://127.0.0.1:16930/ >/dev/null && problem "another identity was accepted"
    want 1 upstream_cluster=wrong reason=identity response_flags=UF  \
        upstream_transport_failure_reason=identity* upstream_host=127.0.0.1:16905
    want_sample 1 istio_tcp_connections_failed_total destination_service=wrong
    curl -s http://127.0.0.1:16904/ >"$WORK/plain"
    want 1 reporter=destination connection_security_policy=none source_principal=null tls_version=null \
        downstream_local_address=127.0.0.1:16904 response_flags=-
    want_sample 1 istio_tcp_connections_opened_total connection_security_policy=none source_principal=unknown
    bg killed $RUN redis-cli -p 16900 subscribe news
    until_ok 10 samples_are 3 istio_tcp_connections_opened_total reporter=source destination_service=cache
    stop "$BG" -KILL
    want 1 upstream_cluster=cache reason=holder_died response_flags=DC reporter=source
    want_sample 1 istio_tcp_connections_closed_total reporter=source destination_service=cache response_flags=DC
}

lost() { sample libmesh_access_log_lost_total; }
all_accounted() { # N: each has its line, or is counted as lost
    [ $(($(observe count "$WORK/access.log" reporter=source exe=/usr/bin/python3* upstream_cluster=cache) + \
        $(lost) - $1)) = 2000 ]
}
short_ones() {
    local before
    before=$(lost)
    $RUN python3 "$E2E/observe.py" short 16900 2000 || problem "a short connection failed"
    until_ok 20 all_accounted "$before" || problem "of 2000: $(wc -l <"$WORK/access.log") lines, $(lost) lost"
    want_sample 2000 istio_tcp_connections_opened_total reporter=source source_workload=python3.11 destination_service=cache
    want_sample 2000 istio_tcp_connections_closed_total reporter=source source_workload=python3.11 destination_service=cache
    want_sample 12000 istio_tcp_received_bytes_total reporter=source source_workload=python3.11 destination_service=cache
    want_sample 14000 istio_tcp_sent_bytes_total reporter=source source_workload=python3.11 destination_service=cache
}

after_rename() { # without it the line would be in the old file
    mv "$WORK/access.log" "$WORK/access.log.1"
    kill -USR1 "$MESHD"
    until_ok 10 test -e "$WORK/access.log"
    $RUN redis-cli -p 16900 ping >/dev/null
    want 1 upstream_cluster=cache reporter=source
    rm "$WORK/access.log.1"
}

after_restart() {
    metrics
    cp "$WORK/metrics" "$WORK/metrics.before"
    $RUN redis-cli -p 16900 ping >/dev/null
    stop "$MESHD" -KILL
    start_meshd || return
    until_ok 10 metrics
    observe grown "$WORK/metrics.before" "$WORK/metrics" >"$WORK/grown" 2>&1 || problem "$(cat "$WORK/grown")"
    want 2 upstream_cluster=cache reporter=source # neither lost nor written twice
}

full_disk() {
    conf /dev/full >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q 'configuration reloaded' "$WORK/meshd.log"
    $RUN python3 "$E2E/observe.py" short 16900 2000
    until_ok 20 some_lost
    until_ok 10 grep -q 'access log: .* lines lost' "$WORK/meshd.log"
    until_ok 10 grep -q 'access log /dev/full: No space left' "$WORK/meshd.log"
}
some_lost() { [ "$(sample libmesh_access_log_lost_total cause=write)" -gt 0 ]; }

body() {
    mkdir -p "$WORK/www"
    echo mark-e2e-observe-91c4 >"$WORK/www/page"
    echo hello >"$WORK/www/index.html"
    cat >ngx.conf <<N
daemon off; master_process off; error_log $WORK/ngx.err error; pid $WORK/ngx.pid;
events { worker_connections 64; }
http { access_log off; $(nginx_paths) server_tokens off;
  server { listen 127.0.0.1:16901; listen 127.0.0.1:16904; listen 127.0.0.1:16905; root $WORK/www; } }
N
    bg nginx $RUN nginx -c "$WORK/ngx.conf"
    listening 16901
    local port=16902
    [ "$HALF" = mesh ] || port=16900
    bg redis env LIBMESH_SERVICE=cache $RUN redis-server --port $port --bind 127.0.0.1 --save ''
    listening $port
    resetter
    $RUN curl -s -D - -o page http://127.0.0.1:16901/page | grep -c .
    cat page
    $RUN redis-cli -p 16900 set k mark-e2e-observe-91c4
    $RUN redis-cli -p 16900 get k
    [ "$HALF" = bare ] || in_order
    $RUN curl -s --max-time 60 http://127.0.0.1:16910/
    echo "refused by all: $?"
    $RUN curl -s --max-time 60 http://127.0.0.1:16920/
    echo "nobody there: $?"
    $RUN python3 -c 'import socket
s = socket.create_connection(("127.0.0.1", 16903)); s.sendall(b"ping")
try: print(s.recv(10))
except OSError as e: print(e)'
    [ "$HALF" = bare ] || failures
}
meshed() {
    others
    short_ones
    if command -v promtool >/dev/null; then
        metrics && promtool check metrics <"$WORK/metrics" || problem "promtool: $(promtool check metrics <"$WORK/metrics" 2>&1)"
    fi
    after_rename
    after_restart
    full_disk
}
e2e
