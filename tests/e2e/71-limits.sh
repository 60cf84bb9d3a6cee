#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Faults and limits of services as programs see them that know nothing of either: redis-cli and redis-benchmark,
# curl, asyncio. Each fault by its errno, its counter, and its response flag in the access log; none of them stops a non-blocking program. Limits by
# caller, over processes. Bare, and without faults, all is as ever.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark python3 curl
ports 16711 16721
marker mark-e2e-limits-71c4
limit 300
WIRE_BARE=

N=0
conf() { # [SETTINGS]
    cat <<C
allow_requested_service = true;
access_log = { path = "$WORK/access.log"; };
services = (
  { name = "cache"; addresses = ("127.0.0.1:16710"); ${1:-} },
  { name = "web"; ${1:-} },
  { name = "round$N"; addresses = ("10.71.0.1:1"); }
);
C
}
config() { conf; }
reloaded() { ask json services >"$WORK/services" && grep -q "\"round$N\"" "$WORK/services"; }
reload() {
    N=$((N + 1))
    conf "${1:-}" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 reloaded
}
counted() { # NAME AT-LEAST CMD...: as it is counted while the command runs
    local was
    was=$(ask sum "$1")
    "${@:3}"
    until_ok 10 more_than "$1" $((was + $2 - 1))
}
more_than() { [ "$(ask sum "$1")" -gt "$2" ]; }
saw() { # WHAT WANTED CMD...: a line of its output begins so, or its exit status is that
    local out
    out=$("${@:3}" 2>&1)
    out="$out"$'\n'"exit $?"
    grep -q "^$2" <<<"$out" || problem "$1: wanted '$2', saw: $(tail -n 3 <<<"$out")"
}
lines() { # KEY=VALUE...
    [ "$(/usr/bin/python3 "$E2E/observe.py" count "$WORK/access.log" "$@")" -ge 1 ]
}
# flagged FLAG REASON [KEY=VALUE...]: who connected has such a line: redis-cli, curl and asyncio, to the port asked for
flagged() {
    local exe
    for exe in /usr/bin/redis-cli /usr/bin/python3\*; do
        until_ok 15 lines response_flags="$1" reason="$2" exe="$exe" reporter=source \
            downstream_local_address="127.0.0.1:${PORT:-16711}" "${@:3}"
    done
    until_ok 15 lines response_flags="$1" reason="$2" exe=/usr/bin/curl reporter=source upstream_cluster=web "${@:3}"
}
slower() { # WHAT MS FILE: a number behind `ms` that is at least so much
    awk -v want="$2" '{ for (i = 1; i < NF; i++) if ($i == "ms" && $(i + 1) >= want) ok = 1 } END { exit !ok }' "$3" ||
        problem "$1: not slower than $2 ms: $(cat "$3")"
}
cli() { $RUN redis-cli -p "${PORT:-16711}" "$@"; }
aio() { $RUN python3 "$E2E/limits.py" "$1" "${PORT:-16711}" "$2"; }
page() { $RUN curl -sS -o "$WORK/got" "$@" http://127.0.0.1:16721/page; }

refuse() {
    reload 'faults = ({ type = "refuse"; });'
    counted fault_refuse 1 saw refuse 'Could not connect to Redis at 127.0.0.1:16711: Connection refused' cli ping
    counted fault_refuse 1 saw refuse ECONNREFUSED aio once 10
    counted fault_refuse 1 saw refuse 'exit 7' page
    flagged FI fault_refuse attempts=0
    reload 'faults = ({ type = "refuse"; source = "curl"; });'
    saw source PONG cli ping
    saw source 'exit 7' page
}
delay() {
    reload 'faults = ({ type = "delay"; delay = "600ms"; });'
    counted fault_delays 1 saw delay PONG cli ping
    counted fault_delays 1 aio once 10000 >"$WORK/delay"
    grep -q '^same' "$WORK/delay" || problem "delay: $(cat "$WORK/delay")"
    slower delay 600 "$WORK/delay"
    awk '$5 < 3 { exit 1 }' "$WORK/delay" || problem "delay: the clock stood still: $(cat "$WORK/delay")"
    counted fault_delays 1 page -w 'ms %{time_connect}\n' >"$WORK/delay"
    awk '$2 < 0.6 { exit 1 }' "$WORK/delay" || problem "delay: curl: $(cat "$WORK/delay")"
    counted fault_delays 20 saw delay '"SET"' $RUN redis-benchmark -p "$PORT" -c 20 -n 1000 -t set --csv
}
blackhole() {
    reload 'connect_timeout = "400ms"; faults = ({ type = "blackhole"; });'
    counted fault_blackhole 1 saw blackhole "Could not connect to Redis at 127.0.0.1:$PORT: Connection timed out" cli ping
    counted fault_blackhole 1 aio once 10 >"$WORK/hole"
    grep -q '^ETIMEDOUT' "$WORK/hole" || problem "blackhole: $(cat "$WORK/hole")"
    slower blackhole 400 "$WORK/hole"
    awk '$5 < 3 { exit 1 }' "$WORK/hole" || problem "blackhole: the clock stood still: $(cat "$WORK/hole")"
    counted fault_blackhole 1 saw blackhole 'exit 28' page
    flagged FI fault_blackhole tls_version=null
}
reset() {
    reload 'faults = ({ type = "reset"; after_bytes = "20kB"; });'
    counted fault_reset 1 saw reset 'Error: Connection reset by peer' cli get big
    counted fault_reset 1 saw reset ECONNRESET aio once 50000
    counted fault_reset 1 saw reset 'exit 56' page
    saw reset PONG cli ping # too little for it
    flagged FI fault_reset tls_version=TLSv1.3
}
slow_read() {
    reload 'faults = ({ type = "slow_read"; rate = "200kB"; });'
    counted fault_slow_reads 1 aio once 100000 >"$WORK/slow"
    grep -q '^same' "$WORK/slow" || problem "slow_read: $(cat "$WORK/slow")"
    slower slow_read 300 "$WORK/slow"
    cli get big | sum >"$WORK/slow"
    cmp -s "$WORK/slow" "$WORK/big.sum" || problem "slow_read: redis-cli got other bytes"
    page
    cmp -s "$WORK/got" "$WORK/www/page" || problem "slow_read: curl got other bytes"
}
short_write() {
    reload 'faults = ({ type = "short_write"; max_bytes = "100B"; });'
    counted fault_short_writes 1 saw short_write same aio once 30000
    cli -x set copy <"$WORK/www/page" >"$WORK/short"
    cli get copy | sum >"$WORK/short"
    cmp -s "$WORK/short" "$WORK/big.sum" || problem "short_write: Redis got other bytes"
    saw short_write '"SET"' $RUN redis-benchmark -p "$PORT" -c 20 -n 2000 -d 1000 -t set --csv
}
limits() {
    local i good=0
    reload 'limits = { connection_rate = { max_tokens = 6; fill_interval = "10m"; }; };'
    for i in {1..8}; do
        cli ping 2>/dev/null | grep -q PONG && good=$((good + 1))
    done
    [ "$good" = 6 ] || problem "connection_rate: redis-cli was answered $good times of 8, not 6"
    counted rate_limited 2 saw connection_rate 'ECONNRESET 2, answered 6' aio many 8
    until_ok 10 more_than rate_limited 3
    until_ok 15 lines response_flags=RL reason=rate_limited reporter=destination source_workload=redis-cli destination_service=cache
    until_ok 15 lines response_flags=RL reason=rate_limited reporter=destination "source_workload=python3*"
    reload 'limits = { max_connections_per_caller = 5; };'
    counted inbound_overflow 3 saw max_connections_per_caller 'ECONNRESET 3, answered 5' aio many 8
    until_ok 15 lines response_flags=UO reason=inbound_overflow reporter=destination "source_workload=python3*"
    saw 'places were given back' 'answered 5' aio many 5
    reload 'limits = { shadow = true; max_connections = 2; };'
    counted limits_shadow 3 saw shadow 'answered 5' aio many 5
}
wrong() {
    cp "$MESHD_CONF" "$WORK/right"
    conf 'faults = ({ type = "slow_read"; });' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q 'meshd.conf:4: error: faults: type slow_read needs rate' "$WORK/meshd.log"
    saw 'a wrong configuration was taken' PONG cli ping
}

body() {
    mkdir -p "$WORK/www"
    { echo mark-e2e-limits-71c4; bytes 200000 | base64 -w 0; } >"$WORK/www/page"
    bg redis env LIBMESH_SERVICE=cache $RUN redis-server --port 16711 --bind 127.0.0.1 --save ''
    listening 16711 || return 1
    bg web env LIBMESH_SERVICE=web $RUN python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" 16721
    listening 16721 || return 1
    cli -x set big <"$WORK/www/page"
    cli get big | sum | tee "$WORK/big.sum"
    if [ "$HALF" = mesh ]; then
        for PORT in 16711 16710; do # the server's own address, and the service's
            delay; blackhole; reset; slow_read; short_write
        done
        unset PORT
        refuse
        limits
        wrong
        reload
    fi
    aio once 30000 | cut -d' ' -f1
    page && sum <"$WORK/got"
    $RUN redis-benchmark -p 16711 -c 20 -n 5000 -t get,set --csv | cut -d, -f1
}
e2e
