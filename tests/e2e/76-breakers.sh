#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Circuit breakers as blocking and non-blocking programs see them, which know nothing of each other: the connection,
# the pending connect and the retry that is one too many fails at once, with its errno, its response flag in the
# access log and its counter; there is room again when another one ends. Then slow start: what goes to a server that
# has just come grows from connection to connection. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli python3 curl ip
ports 17691 17692 17693
marker mark-e2e-breakers-5e27
limit 200
WIRE_BARE=
[ -n "$ROOT" ] || LACKS="$LACKS root"

HOLE=10.77.6.2 # behind an interface that swallows everything
WINDOW=$((SLOW > 1 ? 20 : 8))
config() {
    cat <<C
allow_requested_service = true;
access_log = { path = "$WORK/access.log"; };
services = (
  { name = "cache"; addresses = ("127.0.0.1:17690"); circuit_breaker = { max_connections = 4; };
    endpoints = ({ addr = "127.0.0.1:17691"; }); },
  { name = "far"; addresses = ("127.0.0.1:17680"); circuit_breaker = { max_pending_connects = 3; };
    connect_timeout = "10m"; endpoints = ({ addr = "$HOLE:17681"; }); },
  { name = "half"; addresses = ("127.0.0.1:17670"); circuit_breaker = { max_retries = 2; };
    connect_timeout = "10m"; max_connect_attempts = 2;
    endpoints = ({ addr = "127.0.0.1:17671"; }, { addr = "$HOLE:17672"; priority = 1; }); },
  { name = "warm"; addresses = ("127.0.0.1:17660"); load_balancer = "round_robin";
    slow_start = { window = "${WINDOW}s"; }; }
);
C
}

redis() { # N [SERVICE]
    bg "redis$1" env LIBMESH_SERVICE="${2:-cache}" $RUN redis-server --port 1769"$1" --bind 127.0.0.1 --save '' --unixsocket "$WORK/s$1"
    listening 1769"$1"
    redis-cli -s "$WORK/s$1" set who "server$1" >/dev/null
}
metric() { curl -s http://127.0.0.1:9901/metrics | sed -n "s/^libmesh_$1{service=\"$2\"} //p"; }
metric_is() { [ "$(metric "$1" "$2")" = "$3" ]; }
sum_is() { [ "$(ask sum "$1")" -ge "$2" ]; }
lines_are() { [ "$(/usr/bin/python3 "$E2E/observe.py" count "$WORK/access.log" "${@:2}")" = "$1" ]; }
want() { until_ok 15 lines_are "$@" || problem "wanted $*: $(tail -4 "$WORK/access.log")"; }
samples_are() {
    curl -s http://127.0.0.1:9901/metrics >"$WORK/metrics"
    [ "$(/usr/bin/python3 "$E2E/observe.py" sum "$WORK/metrics" "${@:2}")" = "$1" ]
}

# refused PORT SERVICE WORD FLAGS ATTEMPTS: bash, which waits, curl and asyncio, which do not, are refused at once;
# in the log, the counter WORD, and the metrics.
refused() {
    local how=$1
    saw 'bash: connect: Connection refused' $RUN bash -c "exec 3<>/dev/tcp/127.0.0.1/$how"
    saw 'exit 7' $RUN curl -s -m 60 "http://127.0.0.1:$how/"
    saw 'ECONNREFUSED' $RUN python3 "$E2E/limits.py" once "$how" 10
    for how in \*/bash /usr/bin/curl /usr/bin/python3\*; do
        want 1 upstream_cluster="$2" response_flags="$4" attempts="$5" reporter=source exe="$how" \
            downstream_local_address="127.0.0.1:$1" tls_version=null bytes_sent=0
    done
    until_ok 10 metric_is "upstream_cx_$3_total" "$2" 3 || problem "$3: $(metric "upstream_cx_$3_total" "$2")"
    until_ok 10 samples_are 3 istio_tcp_connections_failed_total destination_service="$2" response_flags="$4" ||
        problem "istio_tcp_connections_failed_total $4: $(grep "$2" "$WORK/metrics" | grep failed)"
    echo "$2: 3 of 3 refused, $4, $3 $(metric "upstream_cx_$3_total" "$2")" >>"$WORK/seen"
}
saw() { # WANTED CMD...
    local out
    out=$("${@:2}" 2>&1)
    out="$out"$'\n'"exit $?"
    grep -q "^$1" <<<"$out" || problem "wanted '$1', saw: $(tail -n 3 <<<"$out")"
}

held() { # N LABEL PORT CMD...: holds N more connections, or connects
    local i
    for ((i = 0; i < $1; i++)); do
        bg "$2$i" $RUN redis-cli -p "$3" "${@:4}"
        eval "$2=$BG"
    done
}

connections() {
    held 4 hold 17690 subscribe news
    until_ok 20 metric_is upstream_cx_active cache 4
    until_ok 20 metric_is upstream_cx_pending cache 0
    metric_is circuit_breakers_cx_open cache 1 && metric_is circuit_breakers_remaining_cx cache 0 ||
        problem "the gauges do not say that the breaker is open"
    refused 17690 cache overflow UO 0
    sum_is overflow 3 || problem "the reason overflow is not counted"
    stop "$hold"
    room() { $RUN redis-cli -p 17690 ping 2>/dev/null | grep -q PONG; }
    until_ok 40 room
}
pending() {
    held 3 wait 17680 ping
    until_ok 20 metric_is upstream_cx_pending far 3
    metric_is circuit_breakers_pending_open far 1 || problem "the gauge does not say that the breaker is open"
    refused 17680 far pending_overflow UO 0
    stop "$wait" -KILL
    until_ok 40 metric_is upstream_cx_pending far 2
    held 1 wait 17680 ping
    until_ok 20 metric_is upstream_cx_pending far 3
}
retries() {
    held 2 retry 17670 ping
    until_ok 20 metric_is upstream_cx_retries half 2
    refused 17670 half retry_overflow UF,UO 1
    want 3 upstream_cluster=half reason=connect_failed upstream_host=127.0.0.1:17671
    sum_is retry_overflow 3 || problem "the reason retry_overflow is not counted"
    stop "$retry" -KILL
    until_ok 40 metric_is upstream_cx_retries half 1
    held 1 retry 17670 ping
    until_ok 20 metric_is upstream_cx_retries half 2
    metric_is upstream_cx_retry_overflow_total half 3 || problem "a retry that had room was refused"
}

warm() { [ $(($(date +%s) - STARTED)) -gt $WINDOW ]; }
slow_start() {
    until_ok $((WINDOW + 20)) warm # server2 has all that it can have
    redis 3 warm || return
    $RUN python3 "$E2E/clients.py" slices 17660 server3 $((WINDOW / 4)) 6 >"$WORK/slices" || problem "$(cat "$WORK/slices")"
    cat "$WORK/slices" >>"$WORK/seen"
}

body() {
    if [ "$HALF" = bare ]; then redis 0; else redis 1; fi || return 1
    $RUN redis-cli -p 17690 set k mark-e2e-breakers-5e27
    $RUN redis-cli -p 17690 get k
    [ "$HALF" = mesh ] || return 0
    ip link add sink type veth peer name drain && ip addr add 10.77.6.1/24 dev sink &&
        ip link set sink up && ip link set drain up
    ip neigh add $HOLE lladdr 02:00:00:00:00:01 dev sink
    redis 2 warm || return
    STARTED=$(date +%s)
    [ "$($RUN redis-cli -p 17660 get who)" = server2 ] || problem "one that is cold and alone is not used"
    connections
    pending
    retries
    slow_start
}
meshed() { cat "$WORK/seen"; }
e2e
