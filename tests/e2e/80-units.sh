#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who a program is, and where it goes, by its systemd unit, without systemd: control groups of the names that
# systemd gives them are made by hand, and processes put into them. The canary's unit goes to v2, by its unit and by
# the identity that it has of it; other units, users' units of that name, and those who only say so, go to v1. The
# same by user. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli
ports 17591 17592
marker mark-e2e-units-0d5a
limit 120
WIRE_BARE=

# The hierarchies in which a unit is looked for: the unified one, and systemd's own of version 1.
hierarchies() { awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /(^|,)name=systemd(,|$)/) { print $2 }' /proc/self/mounts; }
UNITS='cache.service orders.service orders-canary.service user@1000.service/app.slice/orders-canary.service'
make_units() {
    local d u
    SLICES=
    for d in $(hierarchies); do
        d=$d/e2e-units-$$.slice
        SLICES="$SLICES $d"
        for u in $UNITS; do mkdir -p "$d/$u" 2>/dev/null && [ -w "$d/$u/cgroup.procs" ] || return 1; done
    done
    [ -n "$SLICES" ]
}
# Who was in there has ended; the kernel may take a moment to say so.
remove_units() {
    local d i
    for d in $SLICES; do
        for i in {1..100}; do
            [ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null || :
            [ -d "$d" ] || break
            read -rt 0.05 _ <> <(:) || :
        done
        [ ! -d "$d" ] || echo "# $d stays"
    done
}
if [ -z "$E2E_INNER" ]; then
    make_units || LACKS="$LACKS control groups that can be made"
    export SLICES
    trap remove_units EXIT
fi

conf() { # ROUTES
    cat <<C
workloads = (
  { unit = "cache.service"; service = "cache"; },
  { unit = "orders-canary.service"; service = "orders-canary"; },
  { unit = "*.service"; service = "orders"; }
);
services = ( { name = "cache"; addresses = ("127.0.0.1:17590", "127.0.0.1:17589", "127.0.0.1:17588");
  endpoints = (
    { addr = "127.0.0.1:17591"; labels = ("version=v1"); },
    { addr = "127.0.0.1:17592"; labels = ("version=v2"); } );
  subsets = ( { name = "v1"; labels = ("version=v1"); }, { name = "v2"; labels = ("version=v2"); } );
  routes = ( $1 { port = 17589; source = "orders-canary"; split = ( { subset = "v2"; } ); },
    { port = 17588; user = "nobody"; split = ( { subset = "v2"; } ); } );
  split = ( { subset = "v1"; } ); } );
C
}
config() { conf '{ port = 17590; unit = "*-canary.service"; split = ( { subset = "v2"; } ); },'; }

redis() { # N
    bg "redis$1" "$WORK/in-unit" cache.service $RUN redis-server --port 1759"$1" --bind 127.0.0.1 --save '' --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1759"$1"
    redis-cli -s "$WORK/s$1" set who "mark-e2e-units-0d5a server$1" >/dev/null
}
expect() { # WHAT SERVER PORT CMD...: who answered five connections
    local got
    got=$(for _ in 1 2 3 4 5; do "${@:4}" $RUN redis-cli -p "$3" get who 2>&1; done | sed 's/.*\(server\)/\1/' | sort | uniq -c | tr -s ' \n' ' ')
    echo "$1: $got" >>"$WORK/seen"
    [ "$got" = " 5 $2 " ] || problem "$1: wanted $2, got $got"
}
reloaded() { [ "$(grep -c 'configuration reloaded' "$WORK/meshd.log")" -ge 1 ]; }
principal() { echo "spiffe://mesh.local/ns/default/sa/$1"; }
shows() { # SERVICE CMD...: its connection has that identity
    bg hold "${@:2}" $RUN redis-cli -p 17590 subscribe news
    until_ok 10 ask pair "$(principal "$1")" "$(principal cache)" || problem "$1: $(ask pair "$(principal "$1")" "$(principal cache)")"
    stop "$BG"
}

by_unit() {
    local users=user@1000.service/app.slice/orders-canary.service in=$WORK/in-unit
    expect 'no unit' server1 17590
    expect 'another unit' server1 17590 "$in" orders.service
    expect 'the unit' server2 17590 "$in" orders-canary.service
    expect "a user's unit of that name" server1 17590 "$in" $users
    expect 'no identity of it' server1 17589
    expect 'who only says so' server1 17589 env LIBMESH_SERVICE=orders-canary
    expect 'the identity of it' server2 17589 "$in" orders-canary.service
    expect "the identity of a user's unit" server1 17589 "$in" $users
    expect 'another user' server1 17588
    expect 'the user' server2 17588 as nobody
    shows orders-canary "$in" orders-canary.service
    shows orders "$in" orders.service
    shows redis-cli
    shows redis-cli "$in" $users
    conf '' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 reloaded
    expect 'the unit, without that rule' server1 17590 "$in" orders-canary.service
    expect 'the identity, still' server2 17589 "$in" orders-canary.service
}

body() {
    cat >in-unit <<'S'
#!/bin/sh
# in-unit UNIT CMD...
for d in $SLICES; do echo 0 >"$d/$1/cgroup.procs" || exit 1; done
shift
exec "$@"
S
    chmod +x in-unit
    if [ "$HALF" = bare ]; then
        redis 0 || return 1
        ln s0 s1
    else
        redis 1 && redis 2 || return 1
    fi
    "$WORK/in-unit" orders-canary.service $RUN redis-cli -p 17590 ping
    $RUN redis-cli -p 17590 set k mark-e2e-units-0d5a
    [ "$HALF" = bare ] || by_unit
}
meshed() { cat "$WORK/seen"; }
e2e
