#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Where connections to a service's address go: split between subsets and changed under load without a failed
# connect; a client's service and user sent elsewhere; the near zone while it lives, then the far one; another
# service when none is left; past an endpoint that answers nothing; to a subset of servers that register by
# themselves. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli python3 ip
ports 17391 17392 17393 17394
marker mark-e2e-routing-9b1f
limit 240
WIRE_BARE=

BLACKHOLE=10.77.9.2 # behind an interface that swallows everything

# conf SPLIT [MORE]: three servers; 1 is v1 in zone a, 2 is v2 in zone a, 3 is v2 in zone b
conf() {
    cat <<C
zone = "a"; region = "here"; allow_requested_service = true; access_log = { path = "$WORK/access.log"; };
workloads = ( { exe = "/usr/bin/redis-check-rdb"; service = "cache"; }, { exe = "$WORK/v3/*"; service = "cache"; labels = ("version=v3"); },
  { user = "nobody"; service = "batch"; } );
services = ( { name = "cache"; addresses = ("127.0.0.1:17390"); connect_timeout = "6s";
  endpoints = (
    { addr = "127.0.0.1:17391"; zone = "a"; region = "here"; labels = ("version=v1"); },
    { addr = "127.0.0.1:17392"; zone = "a"; region = "here"; labels = ("version=v2"); },
    { addr = "127.0.0.1:17393"; zone = "b"; region = "here"; labels = ("version=v2"); } ${2:-});
  subsets = ( { name = "v1"; labels = ("version=v1"); }, { name = "v2"; labels = ("version=v2"); }, { name = "v3"; labels = ("version=v3"); } );
  ${3:-}
  $1
}, { name = "spare"; redirect = "cache"; addresses = ("127.0.0.1:17389"); } );
C
}
split() { echo "split = ( { subset = \"v1\"; weight = $1; }, { subset = \"v2\"; weight = $2; } );"; }
config() { conf "$(split 90 10)"; }

redis() { # N [PROGRAM]
    bg "redis$1" $RUN "${2:-redis-server}" --port 1739"$1" --bind 127.0.0.1 --save '' --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1739"$1"
    [ "$HALF" = bare ] || redis-cli -s "$WORK/s$1" set who "mark-e2e-routing-9b1f server$1" >/dev/null
}
generation() { ask sum reloads status; }
is_newer() { [ "$(generation)" != "$1" ]; }
reload() { # conf's arguments
    local was
    was=$(generation)
    conf "$@" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 is_newer "$was"
}
who() { $RUN redis-cli -p "${1:-17390}" get who 2>&1 | grep -o 'server[0-9]' || echo failed; }
whos() { # N [PORT]: who answered N connections, counted: "server1=7 server2=3"
    local i
    for ((i = 0; i < $1; i++)); do who "${2:-}"; done | sort | uniq -c | awk '{ printf "%s%s=%s", s, $2, $1; s = " " } END { print "" }'
}
expect() { # WHAT WANTED GOT
    [ "$2" = "$3" ] || problem "$1: wanted $2, got $3"
}

logged() { # WHAT KEY=VALUE...: the access log has a line with these
    until_ok 15 in_log "${@:2}" || problem "access log, $1: $(tail -3 "$WORK/access.log")"
}
in_log() { [ "$(/usr/bin/python3 "$E2E/observe.py" count "$WORK/access.log" "$@")" -gt 0 ]; }

refused() { # LINE-AND-MESSAGE SETTINGS: and what was before goes on
    conf "$2" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q "meshd.conf:$1" "$WORK/meshd.log" || problem "$(grep error "$WORK/meshd.log" | tail -1)"
    expect "after a wrong configuration" "server4=3" "$(whos 3)"
}
load() { # one asyncio client that never stops connecting
    bg load $RUN python3 "$E2E/services.py" load 17390 "$WORK/py.n" "$WORK/end"
    LOAD=$BG
}
went_on() { [ "$(cut -d' ' -f1 "$WORK/py.n")" -ge $(($1 + 100)) ]; }
load_goes_on() { until_ok 60 went_on "$(cut -d' ' -f1 "$WORK/py.n")"; }

routing() {
    local i n
    echo 0 0 0 >"$WORK/py.n"
    load
    load_goes_on
    n=$(whos 100 | grep -o 'server1=[0-9]*' | cut -d= -f2)
    [ "$n" -ge 75 ] && [ "$n" -lt 100 ] || problem "90/10: $n of 100 went to v1"
    reload "$(split 0 100)"
    load_goes_on
    expect "0/100, near zone" "server2=30" "$(whos 30)"
    case $(whos 30 17389 | tee "$WORK/redirected") in
    *server3=* | *failed=*) problem "redirect, beyond the near zone: $(cat "$WORK/redirected")" ;;
    server1=*) ;; # as often as the other one is busy with the load
    *) problem "redirect, to all of the near zone: $(cat "$WORK/redirected")" ;;
    esac

    stop "$REDIS2" -KILL
    expect "the far zone when the near one is dead" "server3=30" "$(whos 30)"
    load_goes_on
    redis 2
    expect "the near one is back" "server2=10" "$(whos 10)"

    reload "$(split 1 0)" "" 'routes = ( { source = "batch"; split = ( { subset = "v2"; } ); },
        { uid = 65534; split = ( { subset = "v1"; } ); } );'
    expect "canary by source: the others" "server1=10" "$(whos 10)"
    RUN="env LIBMESH_SERVICE=batch $RUN" expect "canary by source" "server2=10" "$(RUN="env LIBMESH_SERVICE=batch $RUN" whos 10)"

    logged redirect 'requested_server_name=spare' 'route_name=spare/redirect' 'upstream_cluster=cache'
    logged split 'requested_server_name=cache' 'route_name=cache/split'
    logged canary 'requested_server_name=cache' 'route_name=cache/1' 'source_workload=batch'
    logged server 'reporter=destination' 'requested_server_name=null' 'route_name=null'

    "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" why batch 127.0.0.1:17390 >"$WORK/why" 2>&1
    grep -q 'service cache, rule 1 at .*meshd.conf:10' "$WORK/why" && grep -q '^127.0.0.1:17392 .* usable' "$WORK/why" &&
        ! grep -q '^127.0.0.1:17391' "$WORK/why" && grep -q 'decision: mutual TLS with one of 2 usable' "$WORK/why" ||
        problem "why: $(cat "$WORK/why")"

    reload "$(split 1 0)" "" 'failover = ( { subset = "v2"; } );'
    stop "$REDIS1" -KILL
    expect "failover to another subset" "server2=10" "$(whos 10)"
    load_goes_on
    redis 1

    ip link add sink type veth peer name drain && ip addr add 10.77.9.1/24 dev sink &&
        ip link set sink up && ip link set drain up
    ip neigh add "$BLACKHOLE" lladdr 02:00:00:00:00:01 dev sink
    reload 'split = ( { subset = "v1"; } );' ", { addr = \"$BLACKHOLE:17391\"; weight = 9; zone = \"a\"; region = \"here\"; labels = (\"version=v1\"); }"
    expect "past a blackhole" "server1=6" "$(whos 6)"
    load_goes_on
    [ "$(ask sum connect_retries)" -gt 0 ] || problem "nothing was tried again"

    mkdir v3 && cp "$(readlink -f "$(command -v redis-server)")" v3/redis-server
    redis 4 "$WORK/v3/redis-server"
    reload 'split = ( { subset = "v3"; } );'
    expect "a subset of those that register" "server4=10" "$(whos 10)"
    load_goes_on
    : >"$WORK/end"
    wait "$LOAD"
    echo "asyncio: $(cut -d' ' -f2 "$WORK/py.n") connects failed"

    refused "11: error: split: service 'cache' has no subset 'v9'" 'split = ( { subset = "v9"; } );'
    refused "4: error: redirect: from service 'cache' it leads back to it" 'redirect = "spare";'
    refused '11: error: address: "10.9.9.9/28" is no network' 'routes = ( { address = "10.9.9.9/28"; split = ( { subset = "v2"; } ); } );'
}

body() {
    if [ "$HALF" = bare ]; then
        bg redis0 redis-server --port 17390 --bind 127.0.0.1 --save ''
        listening 17390
        redis-cli -p 17390 set who mark-e2e-routing-9b1f >/dev/null
        redis-cli -p 17390 get who | grep -c mark-e2e
        echo "asyncio: 0 connects failed"
    else
        for i in 1 2 3; do redis "$i" || return 1; done
        $RUN redis-cli -p 17390 get who | grep -c mark-e2e
        routing
    fi
}
e2e
