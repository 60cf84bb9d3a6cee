#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# SRV priorities of a real DNS server (dnsmasq) as tiers: two redis-servers of the first, one of the second. Under
# load one of the first is killed: what it cannot bear goes to the second; both: all of it, without a further try
# at the dead ones as soon as their health checks have failed; back again when they are. No connect fails.
# Then the records' TTL changes, and so does how often they are asked for. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli python3 dnsmasq openssl
ports 17891 17892 17893
marker mark-e2e-tiers-c07d
limit 200
WIRE_BARE=

SRV=_redis._tcp.cache.test
config() {
    cat <<C
services = (
  { name = "cache"; addresses = ("127.0.0.1:17890"); load_balancer = "round_robin";
    dns = { name = "$SRV"; type = "srv"; refresh = "200ms"; resolvers = ("127.0.0.1:17853"); };
    health_check = { type = "tls"; interval = "300ms"; timeout = "2s"; unhealthy_threshold = 2; no_traffic_interval = "300ms"; }; },
  { name = "beat"; dns = { name = "beat.test"; port = 9; refresh = "200ms"; resolvers = ("127.0.0.1:17854"); }; }
);
C
}

dns() { # PORT TTL LINE...: dnsmasq reads its records when it starts
    eval "[ -z \"\${DNS$1:-}\" ] || stop \$DNS$1"
    printf '%s\n' no-resolv no-hosts "port=$1" listen-address=127.0.0.1 bind-interfaces "local-ttl=$2" \
        local=/test/ user=root log-queries log-facility="$WORK/queries.$1" "${@:3}" >"$WORK/dns$1.conf"
    bg "dns$1" dnsmasq --keep-in-foreground -C "$WORK/dns$1.conf"
    eval "DNS$1=$BG"
}
zone() { # TTL RECORD...: target,port,priority,weight
    local i lines=()
    for i in 1 2 3; do lines+=("host-record=r$i.cache.test,127.0.0.1"); done
    for i in "${@:2}"; do lines+=("srv-host=$SRV,$i"); done
    dns 17853 "$1" "${lines[@]}"
}
R1=r1.cache.test,17891,10,5 R2=r2.cache.test,17892,10,5 R3=r3.cache.test,17893,20,5

redis() { # N: with TLS of its own when meshed, as on another host
    local tls=()
    [ "$HALF" = bare ] || tls=(--port 0 --tls-port "1789$1" --tls-cert-file certs/cache.crt
        --tls-key-file certs/cache.key --tls-ca-cert-file certs/bundle.crt --tls-auth-clients yes
        --tls-protocols TLSv1.3)
    bg "redis$1" redis-server --port "1789$1" --bind 127.0.0.1 --save '' --unixsocket "$WORK/s$1" "${tls[@]}"
    eval "REDIS$1=$BG"
    OFF_MESH=1 listening "1789$1"
    until_ok 20 redis-cli -s "$WORK/s$1" set who "server$1"
}

listed() { # KEY: "PORT/KEY ..." of the endpoints that DNS named
    ask json endpoints | /usr/bin/python3 -c 'import json, sys
print(*sorted("%s/%s" % (e["port"], e[sys.argv[1]]) for e in json.load(sys.stdin)["endpoints"] if e["service"] == "cache"))' "$1"
}
are() { [ "$(listed "$1")" = "$2" ]; }
becomes() { until_ok 20 are "$@" || problem "endpoints: $(listed "$1"), wanted $2"; }
now_ms() { date +%s%3N; }

rounds() { cut -d' ' -f1 "$WORK/py.n"; }
went_on() { [ "$(rounds)" -ge $(($1 + 40)) ]; }
wait_rounds() { until_ok 60 went_on "$(rounds)"; }

# shares WHAT LOW1-HIGH1 LOW2-HIGH2 LOW3-HIGH3: what each server gets of 150 connections, in percent. New snapshots
# come in their time, so the first answers may be of the old one.
shares_are() {
    local got i n
    got=$($RUN python3 "$E2E/clients.py" whos 17890 150)
    echo "$got" >"$WORK/got"
    shift
    for i in 1 2 3; do
        n=$(grep -o "server$i=[0-9]*" <<<"$got" | cut -d= -f2)
        [ $((${n:-0} * 2 / 3)) -ge "${1%-*}" ] && [ $((${n:-0} * 2 / 3)) -le "${1#*-}" ] || return 1
        shift
    done
}
shares() {
    until_ok 30 shares_are "$@" || problem "$1: wanted ${*:2}, got $(cat "$WORK/got")"
    echo "$1: $(cat "$WORK/got")" >>"$WORK/seen"
}

tiers() {
    local begin failed
    becomes priority '17891/0 17892/0 17893/1'
    becomes health '17891/healthy 17892/healthy 17893/healthy'
    shares 'both of tier 0' 40-60 40-60 0-0
    stop "$REDIS1" -KILL
    becomes health '17891/unhealthy 17892/healthy 17893/healthy'
    # Half of it bears 70 %: the overprovisioning factor is 1.4.
    shares 'one of tier 0' 0-0 55-85 15-45
    wait_rounds
    stop "$REDIS2" -KILL
    begin=$(now_ms)
    becomes health '17891/unhealthy 17892/unhealthy 17893/healthy'
    echo "tier 0 is known to be dead after $(($(now_ms) - begin)) ms, by 2 checks 300 ms apart" >>"$WORK/seen"
    shares 'none of tier 0' 0-0 0-0 100-100
    failed=$(ask sum connect_failed)
    wait_rounds
    [ "$(ask sum connect_failed)" = "$failed" ] || problem "dead ones of tier 0 are tried: $failed, then $(ask sum connect_failed)"
    redis 1
    becomes health '17891/healthy 17892/unhealthy 17893/healthy'
    shares 'one of tier 0 is back' 55-85 0-0 15-45
    redis 2
    becomes health '17891/healthy 17892/healthy 17893/healthy'
    shares 'both are back' 40-60 40-60 0-0
    zone 1 r3.cache.test,17893,10,5 r1.cache.test,17891,20,5
    becomes priority '17891/1 17893/0'
    shares 'tiers changed' 0-0 0-0 100-100
    wait_rounds
}

asked() { grep -c "query\[$2\]" "$WORK/queries.$1"; }
asked_more() { [ "$(asked 17853 SRV)" -ge "$1" ]; }
# How often the other name, of TTL 1, is asked for while the records are asked for thrice.
beats() {
    local was now
    until_ok 60 asked_more $(($(asked 17853 SRV) + 1))
    was=$(asked 17854 A) now=$(asked 17853 SRV)
    until_ok 60 asked_more $((now + 2))
    echo $(($(asked 17854 A) - was))
}
ttl() {
    local quick slow again
    dns 17854 1 host-record=beat.test,127.0.0.9
    zone 1 "$R1" "$R3"
    becomes priority '17891/0 17893/1'
    quick=$(beats)
    zone 4 "$R1" "$R2"
    becomes priority '17891/0 17892/0'
    slow=$(beats)
    zone 1 "$R1" "$R2" "$R3"
    becomes priority '17891/0 17892/0 17893/1'
    again=$(beats)
    echo "in two terms of TTL 1, 4, 1 s a name of TTL 1 is asked for $quick, $slow, $again times" >>"$WORK/seen"
    [ "$slow" -ge 5 ] && [ "$quick" -le 4 ] && [ "$again" -le 4 ] || problem "$(tail -1 "$WORK/seen")"
}

body() {
    local i load
    if [ "$HALF" = bare ]; then
        redis 0 || return 1
    else
        svid cache
        zone 1 "$R1" "$R2" "$R3"
        for i in 1 2 3; do redis $i || return 1; done
        becomes priority '17891/0 17892/0 17893/1'
    fi
    $RUN redis-cli -p 17890 set k mark-e2e-tiers-c07d
    echo 0 0 0 >"$WORK/py.n"
    bg asyncio $RUN python3 "$E2E/services.py" load 17890 "$WORK/py.n" "$WORK/end"
    load=$BG
    wait_rounds
    [ "$HALF" = bare ] || tiers
    : >"$WORK/end"
    wait "$load"
    echo "asyncio: $(cut -d' ' -f2 "$WORK/py.n") connects failed"
    [ "$HALF" = bare ] || ttl
}
meshed() { cat "$WORK/seen"; }
e2e
