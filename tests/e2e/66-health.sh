#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Health checks by meshd: three Redis (mutual TLS), three nginx (GET, over mutual TLS) and two Redis (a
# command) behind one address each. One is stopped, killed, answers 503, or its command says no: new
# connections, of processes that have run all the time too, go to the others, and come back. When all are
# unhealthy all are used. Bare, one server of each kind listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli nginx curl python3
ports 16691 16692 16693 16701 16702 16703 16721 16722
marker mark-e2e-health-7c41
limit 240
WIRE_BARE=

# The long interval holds until a program connects: that it does must be noticed. No timeout is so short that a
# busy machine meets it.
TIMES='interval = "200ms"; timeout = "2s"; no_traffic_interval = "1h";'
config() {
    cat <<C
allow_requested_service = true;
admin = { listen = "unix:$WORK/admin"; };
services = (
  { name = "cache"; addresses = ("127.0.0.1:16690"); load_balancer = "round_robin";
    endpoints = ({ addr = "127.0.0.1:16691"; }, { addr = "127.0.0.1:16692"; }, { addr = "127.0.0.1:16693"; });
    health_check = { type = "tls"; unhealthy_threshold = 2; $TIMES }; },
  { name = "web"; addresses = ("127.0.0.1:16700"); load_balancer = "round_robin";
    health_check = { type = "http"; path = "/healthz"; unhealthy_threshold = 1000; $TIMES }; },
  { name = "queue"; addresses = ("127.0.0.1:16720"); load_balancer = "round_robin";
    health_check = { type = "command"; command = ("$WORK/check", "$WORK/sick"); $TIMES }; }
);
C
}

redis() { # SERVICE PORT
    bg "redis$2" env LIBMESH_SERVICE="$1" $RUN redis-server --port "$2" --bind 127.0.0.1 --save '' \
        --unixsocket "$WORK/s$2"
    eval "PID$2=$BG"
    listening "$2"
    redis-cli -s "$WORK/s$2" set k "mark-e2e-health-7c41 $2" >/dev/null
}
web() { # PORT
    cat >"ngx$1.conf" <<N
daemon off; master_process off; error_log $WORK/ngx$1.err error; pid $WORK/ngx$1.pid;
events { worker_connections 64; }
http { access_log off; $(nginx_paths)
  server { listen 127.0.0.1:$1; root $WORK;
    location /healthz { if (-f $WORK/sick.$1) { return 503; } return 200; }
    location / { return 200 "mark-e2e-health-7c41 $1\n"; } } }
N
    bg "web$1" env LIBMESH_SERVICE=web $RUN nginx -c "$WORK/ngx$1.conf"
    listening "$1"
}
proxy() { # a process that is there all the time
    cat >ngx.conf <<N
daemon off; master_process off; error_log $WORK/ngx.err error; pid $WORK/ngx.pid;
events { worker_connections 64; }
http { access_log off; upstream web { server 127.0.0.1:16700; } $(nginx_paths)
  server { listen 127.0.0.1:16710; location / { proxy_pass http://web; } } }
N
    bg nginx $RUN nginx -c "$WORK/ngx.conf"
    listening 16710
}

is() { # PORT STATE [REASON]
    ask json endpoints >"$WORK/endpoints" && /usr/bin/python3 - "$WORK/endpoints" "$@" <<'P'
import json, sys
rows = [e for e in json.load(open(sys.argv[1]))['endpoints'] if e['port'] == int(sys.argv[2])]
sys.exit(not rows or any(e['health'] != sys.argv[3] for e in rows) or
         not (sys.argv[4:] and sys.argv[4] or '') in rows[0]['health_reason'])
P
}
becomes() { until_ok 60 is "$@"; }

# get KIND: the port of the server that answered one connection to the service's address
get() {
    case $1 in
    web) $RUN curl -s --max-time 30 http://127.0.0.1:16710/ ;;
    cache) $RUN redis-cli -p 16690 get k ;;
    queue) $RUN redis-cli -p 16720 get k ;;
    esac | sed -n 's/.*mark-e2e-health-7c41 //p'
}
avoided() { # KIND PORT
    local i got
    for i in {1..12}; do
        got=$(get "$1")
        [ -n "$got" ] || problem "$1: no answer without $2"
        [ "$got" != "$2" ] || return 1
    done
}
avoids() { until_ok 10 avoided "$@"; } # several changes of health may be one snapshot
# A service that nobody has used since meshd began is looked at once, and again in no_traffic_interval: an hour.
is_with_traffic() { # KIND PORT STATE
    get "$1" >/dev/null
    is "${@:2}"
}
reaches() { [ "$(get "$1")" = "$2" ]; }
comes_back() { becomes "$2" healthy && until_ok 60 reaches "$1" "$2"; }

sick_servers() {
    local retries p
    for p in 16691 16692 16693 16701 16702 16703 16721 16722; do becomes $p healthy; done
    # Stopped: the kernel still answers for it.
    kill -STOP "$PID16691"
    becomes 16691 unhealthy 'TLS timed out' && avoids cache 16691
    kill -CONT "$PID16691"
    comes_back cache 16691
    # Killed: it is avoided, not tried and left.
    stop "$PID16692" -KILL
    becomes 16692 unhealthy 'Connection refused'
    retries=$(ask sum connect_retries)
    avoids cache 16692
    [ "$(ask sum connect_retries)" = "$retries" ] || problem "killed: tried again instead of avoided"
    # A wrong configuration changes nothing; the same again, with another service, keeps what is known.
    config | sed 's,"http";,"htpt";,' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q 'meshd.conf:8: error: type: "htpt" is unknown; did you mean "http"?' "$WORK/meshd.log"
    is 16692 unhealthy || problem "a wrong configuration changed the health"
    config | sed 's,^);,\, { name = "more"; addresses = ("10.77.0.1:1"); } );,' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 ask has more services
    is 16692 unhealthy || problem "a reload forgot the health"
    avoids cache 16692
    redis cache 16692
    comes_back cache 16692
    # 503: once is enough. Then all of them: better than none.
    touch sick.16702
    becomes 16702 unhealthy 'status 503' && avoids web 16702
    touch sick.16701 sick.16703
    becomes 16701 unhealthy && becomes 16703 unhealthy
    for p in 16701 16702 16703; do until_ok 60 reaches web $p; done
    rm sick.1670[123]
    for p in 16701 16702 16703; do comes_back web $p; done
    touch sick.16722
    becomes 16722 unhealthy 'exit code is 7' && avoids queue 16722
    # A meshd that begins finds it out anew.
    kill -KILL "$MESHD"
    wait "$MESHD" 2>/dev/null
    start_meshd
    until_ok 60 is_with_traffic queue 16722 unhealthy && avoids queue 16722
    rm sick.16722
    comes_back queue 16722
}

body() {
    local p
    cat >check <<'C'
#!/bin/sh
[ "$MESH_ENDPOINT_SERVICE $MESH_ENDPOINT_ADDR" = "queue 127.0.0.1" ] || exit 8
[ ! -e "$1.$MESH_ENDPOINT_PORT" ] || exit 7
C
    chmod 755 check
    if [ "$HALF" = bare ]; then
        redis cache 16690 && web 16700 && redis queue 16720 || return 1
    else
        for p in 16691 16692 16693; do redis cache $p || return 1; done
        for p in 16701 16702 16703; do web $p || return 1; done
        for p in 16721 16722; do redis queue $p || return 1; done
    fi
    proxy
    for p in cache web queue; do
        [ -n "$(get $p)" ] && echo "$p answers"
    done
    [ "$HALF" = bare ] || sick_servers
    for p in cache web queue; do
        [ -n "$(get $p)" ] && echo "$p answers still"
    done
}
meshed() {
    grep ' health: ' "$WORK/meshd.log"
    curl -s --unix-socket "$WORK/admin" http://x/metrics | grep -E 'health_check|membership' >"$WORK/metrics"
    grep -q '^libmesh_membership_healthy{service="cache"} 3$' "$WORK/metrics" || problem "membership: $(cat "$WORK/metrics")"
    grep -q '^libmesh_health_check_success_total{service="web"} [1-9]' "$WORK/metrics" || problem "metrics: $(cat "$WORK/metrics")"
    ask json certs | grep -q 'sa/meshd"' || problem "the checks have no identity of their own"
}
e2e
