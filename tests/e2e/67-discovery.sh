#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A service whose endpoints are SRV records of a real DNS server (dnsmasq), with a TTL of one second. They
# are three redis-servers with certificates of their own, as on other hosts: nothing registers here.
# Under load records are added, removed and weighted anew, the DNS server is killed, and meshd too: new
# connections follow the records, and none fails. Then the name goes, and with it the endpoints. A file
# that comes into conf.d is taken without a signal. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark python3 dnsmasq openssl curl
ports 16391 16392 16393
marker mark-e2e-discovery-4b77
limit 240
WIRE_BARE=

NAME_SRV=_redis._tcp.cache.test
RESOLVER=127.0.0.1:16353
config() {
    cat <<C
admin = { listen = "127.0.0.1:16399"; };
services = ( {
    name = "cache"; addresses = ("127.0.0.1:16390"); load_balancer = "round_robin";
    dns = { name = "$NAME_SRV"; type = "srv"; refresh = "200ms"; resolvers = ("$RESOLVER"); };
} );
C
}

# zone RECORD...: target,port,priority,weight. dnsmasq reads its records when it starts.
zone() {
    local r i
    [ -z "${DNS:-}" ] || stop "$DNS"
    {
        printf '%s\n' no-resolv no-hosts "port=${RESOLVER#*:}" listen-address=127.0.0.1 bind-interfaces \
            local-ttl=1 local=/cache.test/ user=root
        for i in 1 2 3; do echo "host-record=r$i.cache.test,127.0.0.1"; done
        for r in "$@"; do echo "srv-host=$NAME_SRV,$r"; done
    } >"$WORK/dns.conf"
    bg dns dnsmasq --keep-in-foreground -C "$WORK/dns.conf"
    DNS=$BG
}

redis() { # N: with TLS of its own when meshed
    local tls=()
    [ "$HALF" = bare ] || tls=(--port 0 --tls-port "1639$1" --tls-cert-file certs/cache.crt
        --tls-key-file certs/cache.key --tls-ca-cert-file certs/bundle.crt --tls-auth-clients yes
        --tls-protocols TLSv1.3)
    bg "redis$1" redis-server --port "1639$1" --bind 127.0.0.1 --save '' --unixsocket "$WORK/s$1" "${tls[@]}"
    eval "REDIS$1=$BG"
    OFF_MESH=1 listening "1639$1"
}
seen_by() { redis-cli -s "$WORK/s$1" info stats | awk -F: '/^total_connections_received/ { print $2 + 0 }'; }
answers() { redis-cli -s "$WORK/s$1" ping; }

# "PORT*WEIGHT/PRIORITY ..." of the service's endpoints, by port
listed() {
    ask json endpoints | /usr/bin/python3 -c 'import json, sys
rows = [e for e in json.load(sys.stdin)["endpoints"] if e["service"] == sys.argv[1] and e["source"].startswith(sys.argv[2])]
print(" ".join(sorted("%d*%d/%d" % (e["port"], e["weight"], e["priority"]) for e in rows)))' "$@"
}
are() { [ "$(listed cache dns:$NAME_SRV)" = "$1" ]; }
becomes() { until_ok 20 are "$1" || problem "endpoints: $(listed cache dns:), wanted $1"; }
failures() { curl -s http://127.0.0.1:16399/metrics | awk '/^libmesh_dns_failures_total/ { print $2 }'; }
failed_more() { [ "$(failures)" -ge $(($1 + $2)) ]; }

rounds() { cut -d' ' -f1 "$WORK/py.n"; }
went_on() { [ "$(rounds)" -ge $(($1 + 40)) ]; }
wait_rounds() { until_ok 60 went_on "$(rounds)"; }

follows() { # WHICH...: these servers get connections, and no other one
    local i was=() new
    wait_rounds # what was begun before the change has ended
    for i in 1 2 3; do was[i]=$(seen_by $i); done
    wait_rounds
    for i in 1 2 3; do
        new=$(($(seen_by $i) - was[i] - 1)) # this question was a connection, too
        case " $* " in
        *" $i "*) [ $new -gt 0 ] || problem "r$i is listed ($(listed cache dns:)) and gets no connections" ;;
        *) [ $new = 0 ] || problem "r$i is not listed ($(listed cache dns:)) and gets $new connections" ;;
        esac
    done
}

changes() {
    local n
    zone r1.cache.test,16391,10,5 r2.cache.test,16392,10,5
    becomes '16391*5/0 16392*5/0'
    follows 1 2
    zone r1.cache.test,16391,10,5 r2.cache.test,16392,10,5 r3.cache.test,16393,10,5
    becomes '16391*5/0 16392*5/0 16393*5/0'
    follows 1 2 3
    zone r2.cache.test,16392,10,5 r3.cache.test,16393,10,5
    becomes '16392*5/0 16393*5/0'
    follows 2 3
    zone r1.cache.test,16391,20,0 r2.cache.test,16392,10,10 r3.cache.test,16393,10,30
    becomes '16391*1/1 16392*10/0 16393*30/0'
    n=$(failures)
    kill -STOP "$DNS" # silent: a question ends by time
    until_ok 60 failed_more "$n" 1
    becomes '16391*1/1 16392*10/0 16393*30/0'
    n=$(failures)
    stop "$DNS" -KILL # refuses
    until_ok 60 failed_more "$n" 3
    becomes '16391*1/1 16392*10/0 16393*30/0'
    follows 2 3 # r1 is for when they are gone
    stop "$MESHD" -KILL # and the next one cannot ask: what DNS said last holds for it, too
    start_meshd || return 1
    becomes '16391*1/1 16392*10/0 16393*30/0'
    follows 2 3
    zone r2.cache.test,16392,10,10 r3.cache.test,16393,10,30
    becomes '16392*10/0 16393*30/0'
}

idle_clients() {
    [ "$(for s in "$WORK"/s[23]; do redis-cli -s "$s" client list; done | grep -c 'laddr=127')" -ge 60 ]
}
weights() {
    bg idle $RUN redis-benchmark -p 16390 -c 60 -I
    until_ok 30 idle_clients
    /usr/bin/python3 "$E2E/services.py" spread round_robin 1:3 "$WORK"/s[23] >"$WORK/spread" ||
        problem "spread: $(cat "$WORK/spread")"
    stop "$BG"
}

gone() {
    zone
    until_ok 20 grep -q "$NAME_SRV of cache: has no addresses any more, asked again; its 2 endpoints stay" "$WORK/meshd.log"
    becomes ''
    ! $RUN redis-cli -p 16390 ping 2>&1 || problem "connected, and there is no endpoint"
    zone r1.cache.test,16391,0,0
    becomes '16391*1/0'
    $RUN redis-cli -p 16390 ping
}

drop_in() {
    mkdir "$WORK/conf.d"
    printf 'services = (\n  { name = "more"; endpoints = (\n    { addr = "127.0.0.9:9"; priority = 2; } ); } );\n' \
        >"$WORK/conf.d/more.conf"
    until_ok 20 eval '[ "$(listed more "$WORK/conf.d/more.conf:3")" = "9*1/2" ]' || problem 'conf.d: not taken'
    echo 'services = ( { name = "more"; endpoints = ( { addr = "127.0.0.9:9"; priority = 128; } ); } );' \
        >"$WORK/conf.d/more.new"
    mv "$WORK/conf.d/more.new" "$WORK/conf.d/more.conf"
    until_ok 20 grep -q 'more.conf:1: error: priority: 128 is out of range 0 to 127' "$WORK/meshd.log"
    [ "$(listed more /)" = '9*1/2' ] || problem 'conf.d: a wrong file was taken'
    rm "$WORK/conf.d/more.conf"
    until_ok 20 eval '[ -z "$(listed more /)" ]'
    are '16391*1/0' || problem "a reload changed what DNS said: $(listed cache dns:)"
}

body() {
    local i
    if [ "$HALF" = bare ]; then
        redis 0 || return 1
        $RUN redis-cli -p 16390 set k mark-e2e-discovery-4b77
    else
        svid cache
        for i in 1 2 3; do
            redis $i || return 1
            until_ok 20 answers $i
        done
        zone r1.cache.test,16391,0,0
        becomes '16391*1/0'
        $RUN redis-cli -p 16390 set k mark-e2e-discovery-4b77
    fi
    echo 0 0 0 >"$WORK/py.n"
    bg asyncio $RUN python3 "$E2E/services.py" load 16390 "$WORK/py.n" "$WORK/end"
    local load=$BG
    wait_rounds
    [ "$HALF" = bare ] || changes
    : >"$WORK/end"
    wait "$load"
    echo "asyncio: $(cut -d' ' -f2 "$WORK/py.n") connects failed, $(cut -d' ' -f3 "$WORK/py.n") cut"
    [ "$HALF" = bare ] || { weights; gone >/dev/null; drop_in; }
}
meshed() { cat "$WORK/spread"; grep -c . "$WORK/meshd.log"; }
e2e
