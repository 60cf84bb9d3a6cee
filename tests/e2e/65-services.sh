#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A service behind one address that no program listens at: three redis-servers, and three web servers for
# nginx, which has one line for them. Connections spread by algorithm and weight; each server in turn is
# killed and restarted under load of redis-cli, asyncio and nginx: no connect fails. Bare, one server
# listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark python3 nginx curl
ports 16391 16392 16393 16401 16402 16403 16410
marker mark-e2e-services-61d0
limit 300
WIRE_BARE=

# conf LB [REDIS-ENDPOINTS]
conf() {
    cat <<C
allow_requested_service = true;
services = (
  { name = "cache"; addresses = ("127.0.0.1:16390"); load_balancer = "$1"; endpoints = (${2:-}); },
  { name = "web"; addresses = ("10.77.0.1:80", "127.0.0.1:16400"); }
);
C
}
config() { conf least_request; }

redis() { # N
    bg "redis$1" env LIBMESH_SERVICE=cache $RUN redis-server --port 1639"$1" --bind 127.0.0.1 --save '' \
        --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1639"$1"
}
web() { # N
    bg "web$1" env LIBMESH_SERVICE=web $RUN python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" 1640"$1"
    eval "WEB$1=$BG"
    listening 1640"$1"
}

reloaded() { ask json services >"$WORK/services" && grep -q "\"load_balancer\": \"$1\"" "$WORK/services"; }
reload() { # LB [ENDPOINTS]
    conf "$@" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 reloaded "$1"
}
weighted='{ addr = "127.0.0.1:16391"; weight = 10; }, { addr = "127.0.0.1:16392"; weight = 20; },
    { addr = "127.0.0.1:16393"; weight = 30; }'

idle_clients() { # N connections; redis-benchmark has one of its own besides
    [ "$(for s in "$WORK"/s[123]; do redis-cli -s "$s" client list; done | grep -c 'laddr=127')" -ge "$1" ]
}
# What a killed client held is given back when meshd has counted; until then new ones make up for it.
nothing_counted() { [ "$(ask sum connections_active endpoints)" = 0 ]; }
spread() { # LB WEIGHTS
    until_ok 30 nothing_counted
    bg idle $RUN redis-benchmark -p 16390 -c 60 -I
    until_ok 30 idle_clients 60
    /usr/bin/python3 "$E2E/services.py" spread "$1" "$2" "$WORK"/s[123] >>"$WORK/spread" ||
        problem "spread: $(tail -1 "$WORK/spread")"
    stop "$BG"
}

# One connection each, one after the other: what is counted must be the host's. At the same time they would
# choose by the same counts.
spread_processes() {
    local all=() i
    until_ok 30 nothing_counted
    for i in {1..60}; do
        bg sub $RUN redis-cli -p 16390 subscribe news
        all+=("$BG")
        until_ok 30 idle_clients "$i"
    done
    /usr/bin/python3 "$E2E/services.py" spread "many processes" 1:1:1 "$WORK"/s[123] >>"$WORK/spread" ||
        problem "spread: $(tail -1 "$WORK/spread")"
    for i in "${all[@]}"; do stop "$i"; done
}

cli_load() {
    local n=0
    until [ -e "$WORK/end" ]; do
        $RUN redis-cli -p 16390 get k >"$WORK/cli.last" 2>&1
        grep -q mark-e2e "$WORK/cli.last" || cat "$WORK/cli.last" >>"$WORK/cli.bad"
        n=$((n + 1))
        echo "$n" >"$WORK/cli.n"
    done
}
web_load() {
    local n=0
    until [ -e "$WORK/end" ]; do
        $RUN curl -s -o "$WORK/web.got" http://127.0.0.1:16410/page
        n=$((n + 1))
        echo "$n" >"$WORK/web.n"
    done
}
rounds() { echo $(($(cat "$WORK/cli.n") + 0)) $(($(cut -d' ' -f1 "$WORK/py.n") / 10)) $(($(cat "$WORK/web.n") + 0)); }
went_on() { # each load has made ten rounds more
    local was=("$@") now
    read -ra now <<<"$(rounds)"
    [ "${now[0]}" -ge $((was[0] + 10)) ] && [ "${now[1]}" -ge $((was[1] + 10)) ] && [ "${now[2]}" -ge $((was[2] + 10)) ]
}
wait_rounds() {
    # shellcheck disable=SC2046
    until_ok 60 went_on $(rounds)
}

kill_and_restart() {
    local i
    for i in 1 2 3; do
        eval "stop \$REDIS$i -KILL; stop \$WEB$i -KILL"
        wait_rounds
        redis "$i" && web "$i" || return 1
        redis-cli -s "$WORK/s$i" set k mark-e2e-services-61d0
        wait_rounds
    done
}

under_load() {
    echo 0 >"$WORK/cli.n"; echo 0 >"$WORK/web.n"; echo 0 0 0 >"$WORK/py.n"
    : >"$WORK/cli.bad"
    local all=()
    cli_load & all+=($!)
    web_load & all+=($!)
    bg asyncio $RUN python3 "$E2E/services.py" load 16390 "$WORK/py.n" "$WORK/end"
    all+=("$BG")
    PIDS+=("${all[@]}")
    wait_rounds
    [ "$HALF" = bare ] || kill_and_restart
    : >"$WORK/end"
    wait "${all[@]}"
    echo "redis-cli: $(grep -c 'Could not connect' "$WORK/cli.bad") connects failed"
    echo "asyncio: $(cut -d' ' -f2 "$WORK/py.n") connects failed"
    echo "nginx: $(grep -c 'connect() ' "$WORK/ngx.err") connects failed"
    head -3 "$WORK/cli.bad" >&2
    head -3 "$WORK/ngx.err" >&2
}

body() {
    local i
    mkdir -p "$WORK/www"
    echo mark-e2e-services-61d0 >"$WORK/www/page"
    if [ "$HALF" = bare ]; then
        redis 0 && web 0 || return 1
    else
        for i in 1 2 3; do redis $i && web $i || return 1; done
        for i in 1 2 3; do redis-cli -s "$WORK/s$i" set k mark-e2e-services-61d0; done >/dev/null
    fi
    $RUN redis-cli -p 16390 set k mark-e2e-services-61d0
    cat >ngx.conf <<N
daemon off; master_process off; error_log $WORK/ngx.err error; pid $WORK/ngx.pid;
events { worker_connections 64; }
http { access_log off; upstream web { server 127.0.0.1:16400; } $(nginx_paths)
  server { listen 127.0.0.1:16410; location / { proxy_pass http://web; } } }
N
    bg nginx $RUN nginx -c "$WORK/ngx.conf"
    listening 16410
    $RUN curl -s http://127.0.0.1:16410/page
    if [ "$HALF" = mesh ]; then
        reload round_robin && spread round_robin 1:1:1
        reload least_request "$weighted" && spread least_request 1:2:3
        reload random "$weighted" && spread random 1:2:3
        reload round_robin "$weighted" && spread round_robin 1:2:3
        reload least_request && spread least_request 1:1:1
        spread_processes
        ! conf random '{ addr = "127.0.0.1:16391"; weight = 0; }' >"$MESHD_CONF"
        kill -HUP "$MESHD"
        until_ok 10 grep -q "meshd.conf:3: error: endpoints: all of service 'cache' have weight 0" "$WORK/meshd.log"
        reloaded least_request || problem "a wrong configuration was taken"
        reload least_request
    fi
    under_load 2>"$WORK/load.err" | sed 's/set k.*//' | grep failed
    $RUN redis-benchmark -p 16390 -c 50 -n 20000 -t get,set --csv | cut -d, -f1
}
meshed() {
    cat "$WORK/spread"
}
e2e
