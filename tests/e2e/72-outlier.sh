#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Outlier detection, circuit breakers and peak_ewma over three redis-servers behind one address, which the
# configuration lists: they stay listed when they are gone. One is killed under load: no connect fails, it is
# ejected for its time, one connection probes it, it is ejected for longer; restarted it comes back. Then
# max_connections, shared by processes, some of them killed; a stopped server that peak_ewma avoids; and one that
# lets itself be connected to and then resets. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli python3
ports 16591 16592 16593 16595 16596
marker mark-e2e-outlier-9ac4
limit 240
WIRE_BARE=

# The machine may be busy: a connect to a server that does not answer is to take longer than any other.
conf() { # LB MORE
    cat <<C
allow_requested_service = true; accept_grace = "1500ms";
services = (
  { name = "cache"; addresses = ("127.0.0.1:16590"); load_balancer = "$1"; $2
    endpoints = ({ addr = "127.0.0.1:16591"; }, { addr = "127.0.0.1:16592"; }, { addr = "127.0.0.1:16593"; }); },
  { name = "oracle"; addresses = ("127.0.0.1:16594"); load_balancer = "round_robin";
    outlier_detection = { consecutive_5xx = 3; };
    endpoints = ({ addr = "127.0.0.1:16595"; }, { addr = "127.0.0.1:16596"; }); }
);
C
}
BASE=$((3 * SLOW))
outlier="outlier_detection = { consecutive_5xx = 2; base_ejection_time = \"${BASE}s\"; interval = \"1h\"; };"
config() { conf round_robin "$outlier"; }

redis() { # N
    bg "redis$1" env LIBMESH_SERVICE=cache $RUN redis-server --port 1659"$1" --bind 127.0.0.1 --save '' \
        --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1659"$1"
    redis-cli -s "$WORK/s$1" set k mark-e2e-outlier-9ac4 >/dev/null
}

reloads=0
reload() { # LB MORE
    conf "$@" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    reloads=$((reloads + 1))
    until_ok 10 reloaded
}
reloaded() { [ "$(grep -c 'configuration reloaded' "$WORK/meshd.log")" -ge $reloads ]; }

state() { ask json endpoints | /usr/bin/python3 "$E2E/outlier.py" state "127.0.0.1:1659$1" "$2"; }
is() { [ "$(state "$1" "$2")" = "$3" ]; } # N KEY VALUE
said() { grep -q "outlier_detection: 127.0.0.1:1659$1 of cache is $2" "$WORK/meshd.log"; }
sum_is() { [ "$(ask sum "$1")" -ge "$2" ]; }
metric() { sed -n "s/^libmesh_$1{service=\"cache\"} //p" "$WORK/metrics"; }
metrics() { curl -s http://127.0.0.1:9901/metrics >"$WORK/metrics"; }

load() { # NAME
    local n=0
    until [ -e "$WORK/end" ]; do
        if [ -e "$WORK/hold" ]; then
            : >"$WORK/$1.held"
            until_ok 60 [ ! -e "$WORK/hold" ]
        fi
        $RUN redis-cli -p 16590 get k >"$WORK/$1.last" 2>&1
        grep -q mark-e2e "$WORK/$1.last" || cat "$WORK/$1.last" >>"$WORK/$1.bad"
        n=$((n + 1))
        echo "$n" >"$WORK/$1.n"
    done
}
went_on() { [ "$(cat "$WORK/a.n")" -ge $(($1 + $2)) ]; }
rounds() { until_ok 60 went_on "$(cat "$WORK/a.n")" "$1"; }

kill_and_return() {
    local failed
    # Between two requests: one that has reached the server when it is killed fails, bare too.
    : >"$WORK/hold"
    until_ok 60 [ -e "$WORK/a.held" -a -e "$WORK/b.held" ]
    stop "$REDIS1" -KILL
    rm "$WORK/hold"
    until_ok 30 is 1 ejected yes || return
    until_ok 5 said 1 "ejected for"
    [ "$(state 2 ejected) $(state 3 ejected)" = "no no" ] || problem "others are ejected, too"
    until_ok 10 sum_is connect_failed 2 # what processes that have ended counted is added a little later
    failed=$(ask sum connect_failed)
    rounds 10
    # It was passed over all the time, if that is not over yet.
    if is 1 ejected yes && is 1 ejections 1 && [ "$(ask sum connect_failed)" != "$failed" ]; then
        problem "an ejected endpoint was tried: $failed failures, then $(ask sum connect_failed)"
    fi
    until_ok $((BASE * 4 + 10)) is 1 ejections 2 || return # probed, and ejected again
    until_ok 10 sum_is connect_failed 3
    failed=$(ask sum connect_failed)
    # Two in a row ejected it (three, when two clients were under way), one was the probe.
    [ "$failed" -ge 3 ] && [ "$failed" -le 5 ] || problem "$failed connects failed until the second ejection"
    redis 1
    until_ok $((BASE * 4 + 10)) is 1 ejected no || return
    until_ok 5 said 1 "back in service"
    rounds 6
    [ "$(redis-cli -s "$WORK/s1" info stats | sed -n 's/^total_connections_received:\([0-9]*\).*/\1/p')" -ge 4 ] ||
        problem "it is back and gets no connections"
}

under_load() {
    : >"$WORK/a.bad"; : >"$WORK/b.bad"; echo 0 >"$WORK/a.n"; echo 0 >"$WORK/b.n"
    load a & local one=$!
    load b & local two=$!
    PIDS+=("$one" "$two")
    rounds 10
    [ "$HALF" = bare ] || kill_and_return
    : >"$WORK/end"
    wait "$one" "$two"
    echo "$(cat "$WORK/a.bad" "$WORK/b.bad" | grep -c .) requests failed"
    cat "$WORK/a.bad" "$WORK/b.bad" | head -3 >&2
}

holds() { grep -q done "$WORK/$1.log"; }
nobody() { metrics; [ "$(metric upstream_cx_active)" = 0 ]; }
room_again() { $RUN redis-cli -p 16590 ping 2>/dev/null | grep -q PONG; }
breaker() {
    local a
    reload least_request "circuit_breaker = { max_connections = 5; };"
    until_ok 30 nobody # for a round or two meshd's corrections can be off by one that came and went while it read
    bg hold1 $RUN python3 "$E2E/outlier.py" hold 16590 3
    a=$BG
    until_ok 30 holds hold1
    bg hold2 $RUN python3 "$E2E/outlier.py" hold 16590 3
    until_ok 30 holds hold2
    [ "$(grep -c up "$WORK/hold1.log")" = 3 ] && [ "$(grep -c up "$WORK/hold2.log")" = 2 ] &&
        [ "$(grep -c ECONNREFUSED "$WORK/hold2.log")" = 1 ] ||
        problem "max_connections: $(tr '\n' ' ' <"$WORK/hold1.log"; tr '\n' ' ' <"$WORK/hold2.log")"
    sum_is overflow 1 || problem "the reason overflow is not counted"
    metrics
    [ "$(metric circuit_breakers_cx_open) $(metric upstream_cx_active) $(metric upstream_cx_overflow_total)" = "1 5 1" ] ||
        problem "metrics: $(grep -E 'circuit|upstream' "$WORK/metrics" | grep -v '#')"
    room_again && problem "a sixth connection"
    stop "$BG" -KILL # what it held is not lost for ever
    until_ok 40 room_again
    stop "$a"
}

slow() { # how many of 60 connects went to the one that does not answer
    local n=0 i
    for i in 1 2 3; do
        n=$((n + $($RUN python3 "$E2E/outlier.py" slow 16590 20)))
    done
    echo "$n"
}
latency() {
    local n
    reload peak_ewma ""
    kill -STOP "$REDIS2"
    n=$(slow)
    echo "peak_ewma: $n of 60 connects went to the stopped server" >>"$WORK/seen"
    [ "$n" -le 8 ] || problem "peak_ewma: $n of 60 connects went to the stopped server"
    kill -CONT "$REDIS2"
}

oracle() { # HOW PORT
    bg "oracle$2" env LIBMESH_SERVICE=oracle $RUN python3 "$E2E/outlier.py" "$1" "$2"
    listening "$2"
}
spurned() {
    local n
    oracle spurn 16595 && oracle serve 16596 || return
    n=$($RUN python3 "$E2E/outlier.py" ask 16594 40)
    echo "resets: $n of 40 requests had no answer" >>"$WORK/seen"
    [ "$n" = 3 ] || problem "three resets in a row eject; $n of 40 requests had no answer"
    [ "$(ask json endpoints | /usr/bin/python3 "$E2E/outlier.py" state 127.0.0.1:16595 ejected)" = yes ] ||
        problem "who resets each connection is not ejected"
}

wrong() { # MESSAGE SETTINGS
    conf random "$2" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q "$1" "$WORK/meshd.log"
}

body() {
    local i
    if [ "$HALF" = bare ]; then
        redis 0 || return 1
    else
        for i in 1 2 3; do redis $i || return 1; done
    fi
    $RUN redis-cli -p 16590 get k
    under_load
    if [ "$HALF" = mesh ]; then
        breaker
        latency
        spurned
        wrong "meshd.conf:3: error: outlier_detection: max_ejection_time of service 'cache' is shorter" \
            'outlier_detection = { base_ejection_time = "10m"; };'
        wrong "meshd.conf:3: error: consecutive_5xx: 0 is out of range" 'outlier_detection = { consecutive_5xx = 0; };'
        wrong "meshd.conf:3: error: unknown key 'max_connection'" 'circuit_breaker = { max_connection = 3; };'
    fi
}
meshed() { cat "$WORK/seen"; }
e2e
