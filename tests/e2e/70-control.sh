#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Operating services: an endpoint is drained and taken back while clients go on; `drain --wait` returns when
# the last connection is gone and not before, over a restart of meshd; servers are restarted gracefully
# (nginx -s quit, redis SIGTERM) under load, no connect fails, and with one attempt for each none is refused; stat,
# edges, top and check show what happened. Bare, one server each listens at the address and nothing is
# restarted.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark python3 nginx curl
ports 17511 17512 17513 17501 17502 17503
marker mark-e2e-control-9b27
limit 300
WIRE_BARE=

config() {
    cat <<'C'
allow_requested_service = true;
services = (
  { name = "cache"; addresses = ("127.0.0.1:17510"); load_balancer = "round_robin"; },
  { name = "shop"; addresses = ("127.0.0.1:17500"); max_connect_attempts = 1; }
);
C
}

redis() { # N
    bg "redis$1" env LIBMESH_SERVICE=cache $RUN redis-server --port 1751"$1" --bind 127.0.0.1 --save '' \
        --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1751"$1"
}
web() { # N
    cat >"$WORK/n$1.conf" <<N
daemon off; worker_processes 2; error_log $WORK/n$1.err error; pid $WORK/n$1.pid;
events { worker_connections 128; }
http { access_log off; $(nginx_paths)
  server { listen 127.0.0.1:1750$1; location / { return 200 "ok\n"; } } }
N
    bg "web$1" env LIBMESH_SERVICE=shop $RUN nginx -c "$WORK/n$1.conf"
    eval "WEB$1=$BG"
    listening 1750"$1"
}
ctl() { "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" "$@"; }
served() { redis-cli -s "$WORK/s$1" info stats | awk -F: '/^total_connections_received/ { print $2 + 0 }'; }
ask_port() { $RUN redis-cli -p "$1" config get port | tail -1; }

rounds() { cat "$WORK/$1.n"; }
more() { [ "$(rounds "$1" | cut -d' ' -f1)" -ge "$2" ]; }
wait_rounds() { # LOAD: has made ten rounds more
    until_ok 60 more "$1" $(($(rounds "$1" | cut -d' ' -f1) + 10))
}
load() { # NAME PORT KIND
    echo 0 0 0 >"$WORK/$1.n"
    bg "$1" $RUN python3 "$E2E/services.py" load "$2" "$WORK/$1.n" "$WORK/end" "$3"
    LOADS+=("$BG")
    wait_rounds "$1"
}

drained_gets_nothing() {
    local i
    ctl drain 127.0.0.1:17511 >"$WORK/drain.out" || problem "drain: $(cat "$WORK/drain.out")"
    for i in {1..6}; do [ "$(ask_port 17510)" = 17512 ] || problem "a draining endpoint was chosen"; done
    [ "$(ask_port 17511)" = 17511 ] || problem "its own address does not lead to it"
    ctl endpoints | grep -q '17511 .* yes$' || problem "endpoints does not show it: $(ctl endpoints)"
    ctl undrain 127.0.0.1:17511 >/dev/null
    [ "$(for i in 1 2 3 4; do ask_port 17510; done | sort | uniq -c | tr -s ' \n' ' ')" = " 2 17511 2 17512 " ] ||
        problem "after undrain it does not get its share"
    ctl drain cache >/dev/null
    $RUN redis-cli -p 17510 ping 2>&1 | grep -q 'No route to host' || problem "all draining: the connect went somewhere"
    [ "$(ask sum no_healthy_upstream)" -gt 0 ] || problem "all draining: the reason was not counted"
    ctl undrain cache >/dev/null
}

subscribed() { [ "$(redis-cli -s "$WORK/s$1" pubsub numsub news | tail -1)" = "$2" ]; }
waiting() { ctl --json draining 127.0.0.1:17511 | grep -q '"connections":1.*"drained":false'; }
wait_lasts() {
    local sub waiter rc
    ctl drain 127.0.0.1:17512 >/dev/null # so that it goes to the first one
    bg sub $RUN redis-cli -p 17510 subscribe news
    sub=$BG
    until_ok 20 subscribed 1 1
    ctl undrain 127.0.0.1:17512 >/dev/null
    bg waiter "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" --timeout 300 drain 127.0.0.1:17511 --wait=300
    waiter=$BG
    until_ok 20 waiting
    stop "$MESHD" -KILL # the order and the wait outlive it
    start_meshd || return 1
    until_ok 20 waiting
    kill -0 "$waiter" 2>/dev/null || problem "--wait returned with a connection left: $(cat "$WORK/waiter.log")"
    ctl drain 127.0.0.1:17511 --wait=0.3 >/dev/null 2>&1 && problem "--wait=0.3 says drained"
    stop "$sub"
    wait "$waiter"
    rc=$?
    [ $rc = 0 ] && grep -q '^drained' "$WORK/waiter.log" || problem "--wait: $rc, $(cat "$WORK/waiter.log")"
    ctl undrain 127.0.0.1:17511 >/dev/null
}

# While connects go on without a pause, an order is acknowledged, and from then on the server gets nothing.
drained_under_load() {
    local n
    ctl drain 127.0.0.1:17511 --wait=300 >"$WORK/drain.out" 2>&1 || problem "under load: $(cat "$WORK/drain.out")"
    n=$(served 1)
    wait_rounds cache
    [ $(($(served 1) - n)) = 1 ] || problem "after --wait it got $(($(served 1) - n - 2)) connections" # one is our look
    ctl undrain 127.0.0.1:17511 >/dev/null
}

restarts() {
    local i
    for i in 1 2 1 2 1 2; do
        eval "stop \$WEB$i -QUIT; stop \$REDIS$i -TERM"
        wait_rounds shop
        web $i && redis $i || return 1
        wait_rounds shop
        wait_rounds cache
    done
}

shows() {
    ctl stat >"$WORK/stat"
    ctl edges >"$WORK/edges"
    ctl top --once --interval 0.5 >"$WORK/top"
    ctl check >"$WORK/check" || problem "check: $(grep '^fail' "$WORK/check")"
    grep -Eq '^shop +127.0.0.1:1750[12] +yes' "$WORK/stat" || problem "stat: $(cat "$WORK/stat")"
    grep -Eq '^python[^ ]* +cache +mutual_tls' "$WORK/edges" || problem "edges: $(cat "$WORK/edges")"
    grep -Eq '^python[^ ]* +[0-9]+ +[1-9]' "$WORK/top" || problem "top: $(cat "$WORK/top")"
    ctl stat nix 2>/dev/null && problem "stat of an unknown service"
    ask has none edges && problem "edges: something is not secured"
}

LOADS=()
body() {
    local i
    if [ "$HALF" = bare ]; then
        redis 0 && web 0 || return 1
    else
        for i in 1 2; do redis $i && web $i || return 1; done
        for i in 1 2; do redis-cli -s "$WORK/s$i" set k mark-e2e-control-9b27; done >/dev/null
        drained_gets_nothing
        wait_lasts || return 1
    fi
    $RUN redis-cli -p 17510 set k mark-e2e-control-9b27
    load cache 17510 redis
    load shop 17500 http
    if [ "$HALF" = mesh ]; then
        drained_under_load
        restarts || return 1
        shows
    fi
    : >"$WORK/end"
    wait "${LOADS[@]}"
    for i in cache shop; do
        rounds $i | cut -d' ' -f2 >"$WORK/$i.failed"
    done
    echo "cache: $(cat cache.failed) connects failed"
    # What the kernel had taken and nginx never accepted is reset, with or without us: a second attempt is for that.
    echo "shop: $(grep -c 'Errno 111' shop.log) connects refused"
    ! grep -h '^connect' cache.log >&2
}
meshed() { printf '%s\n' "$(cat "$WORK/stat")" "$(cat "$WORK/edges")" "$(cat "$WORK/top")"; }
e2e
