#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# ring_hash and maglev over three redis-servers behind one address, by user id: processes of twenty users, each always
# served by the same one. One is killed, and only its users move; started again it has them back. The same with a
# drain, with meshd itself started anew, and, by maglev, with an endpoint that is taken out of the configuration.
# `meshctl why` says beforehand where each goes. Then bounded loads: one key, and no endpoint has more than its share
# times the factor. Bare, one server listens at the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli setpriv socat
[ -n "$ROOT" ] || LACKS="$LACKS root"
ports 16791 16792 16793
marker mark-e2e-hash-41d7
limit 240
WIRE_BARE=

USERS=$(seq 3001 3020)
ALL='{ addr = "127.0.0.1:16791"; }, { addr = "127.0.0.1:16792"; }, { addr = "127.0.0.1:16793"; }'

conf() { # LB ENDPOINTS MORE
    cat <<C
allow_requested_service = true;
services = (
  { name = "cache"; addresses = ("127.0.0.1:16790"); load_balancer = "$1";
    hash_policy = ( { field = "source_ip"; terminal = true; }, { field = "uid"; }, { field = "source_identity"; } );
    endpoints = ($2); ${3:-} }
);
C
}
config() { conf ring_hash "$ALL"; }

redis() { # N
    bg "redis$1" env LIBMESH_SERVICE=cache $RUN redis-server --port 1679"$1" --bind 127.0.0.1 --protected-mode no --save '' \
        --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1679"$1"
    redis-cli -s "$WORK/s$1" set who "mark-e2e-hash-41d7 $1" >/dev/null
}

reloads=0
reload() { # LB ENDPOINTS MORE
    conf "$@" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    reloads=$((reloads + 1))
    until_ok 10 reloaded
}
reloaded() { [ "$(grep -c 'configuration reloaded' "$WORK/meshd.log")" -ge $reloads ]; }
ctl() { "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" "$@"; }

of_user() { # UID: who serves it
    $RUN setpriv --reuid="$1" --regid="$1" --clear-groups redis-cli -p 16790 get who 2>&1
}
map() { # FILE: "UID SERVER" for each; what failed is there, too
    local u
    for u in $USERS; do
        echo "$u $(of_user "$u" | sed 's/^"*mark-e2e-hash-41d7 \([1-3]\)"*$/\1/')"
    done >"$WORK/map.$1"
}
same() { # FILE FILE WHEN
    cmp -s "$WORK/map.$1" "$WORK/map.$2" || problem "$3: $(diff "$WORK/map.$1" "$WORK/map.$2" | tr '\n' ' ')"
}
# Of the users of the first file's server $3 each is served by another one now, all others as before.
only_moved() { # FILE FILE SERVER WHEN
    paste -d " " "$WORK/map.$1" "$WORK/map.$2" | awk -v lost="$3" '
        $4 !~ /^[1-3]$/ || $4 == lost || ($2 != lost && $2 != $4) { bad = 1; print }
        $2 == lost { moved++ } END { exit bad || !moved }' >"$WORK/moved" || problem "$4: $(cat "$WORK/moved")"
}
told() { # FILE: what `why` says, as map does
    local u
    for u in $USERS; do
        ctl why redis-cli,uid="$u" cache >"$WORK/why"
        grep -q "^hash: 0x[0-9a-f]\{16\}$" "$WORK/why" &&
            grep -q "^key: source_ip=?, uid=$u, source_identity=spiffe://mesh.local/ns/default/sa/redis-cli$" "$WORK/why" ||
            problem "why: $(cat "$WORK/why")"
        echo "$u $(sed -n 's/^decision: mutual TLS with 127.0.0.1:1679\([1-3]\), by .*/\1/p' "$WORK/why")"
    done >"$WORK/map.$1"
}

by() { # LB
    local n
    map "$1.a"
    n=$(cut -d' ' -f2 "$WORK/map.$1.a" | sort | uniq -c | awk '{ printf "%s%s: %s", s, $2, $1; s = ", " }')
    echo "$1: users of each server: $n" >>"$WORK/seen"
    [ "$(cut -d' ' -f2 "$WORK/map.$1.a" | sort -u | tr -d '\n')" = 123 ] || problem "$1: users of each server: $n"
    told "$1.told"
    same "$1.a" "$1.told" "$1: why says otherwise"
    stop "$REDIS2" -KILL
    map "$1.killed"
    only_moved "$1.a" "$1.killed" 2 "$1: killed"
    redis 2
    map "$1.b"
    same "$1.a" "$1.b" "$1: started again"
    ctl drain 127.0.0.1:16793 >/dev/null || problem "drain"
    map "$1.drained"
    only_moved "$1.a" "$1.drained" 3 "$1: drained"
    told "$1.told"
    same "$1.drained" "$1.told" "$1: why says otherwise of a drained one"
    ctl undrain 127.0.0.1:16793 >/dev/null
    map "$1.b"
    same "$1.a" "$1.b" "$1: undrained"
    ask json services >"$WORK/services"
    ctl services >>"$WORK/services"
    grep -q "\"load_balancer\": \"$1\"" "$WORK/services" && grep -q "^cache .* $1" "$WORK/services" ||
        problem "services: $(cat "$WORK/services")"
}

again() { # meshd comes back; nothing is known to it but its files
    stop "$MESHD" -KILL
    rm -f "$RUN_DIR/snapshot" "$RUN_DIR/snapshot.copy"
    start_meshd
    reloads=0
    grep -c 'configuration reloaded' "$WORK/meshd.log" >"$WORK/n" && reloads=$(cat "$WORK/n")
    map again
    same ring_hash.a again "meshd and its snapshot are new"
}

taken_out() { # from the configuration: the table is another one
    reload maglev '{ addr = "127.0.0.1:16793"; }, { addr = "127.0.0.1:16791"; }'
    stop "$REDIS2"
    map taken
    only_moved maglev.a taken 2 "taken out"
    redis 2
    reload maglev '{ addr = "127.0.0.1:16792"; }, { addr = "127.0.0.1:16793"; }, { addr = "127.0.0.1:16791"; }'
    map back
    same maglev.a back "put in again, in another order"
}

# A program that binds its socket is known by that address, whoever runs it: the term is terminal.
from() { # ADDRESS UID
    printf 'get who\r\nquit\r\n' | $RUN setpriv --reuid="$2" --regid="$2" --clear-groups \
        socat -,ignoreeof "TCP:127.0.0.1:16790,bind=$1" | sed -n 's/^mark-e2e-hash-41d7 \([1-3]\).*/\1/p'
}
bound() {
    local i a b said all=
    for i in 11 12 13 14 15 16; do
        a=$(from 127.0.0.$i 3001)
        b=$(from 127.0.0.$i 3004)
        said=$(ctl why "socat,uid=3001,source_ip=127.0.0.$i" cache | sed -n 's/^decision: .* 127.0.0.1:1679\([1-3]\), by .*/\1/p')
        [ -n "$a" ] && [ "$a" = "$b" ] && [ "$a" = "$said" ] || problem "from 127.0.0.$i: $a, another user $b, why $said"
        all="$all$a"
    done
    echo "bound to six addresses: $all" >>"$WORK/seen"
    [ "$(tr -d "${all:0:1}" <<<"$all")" != '' ] || problem "all addresses lead to one server"
}
executables() { # the same program under six names
    local i a said
    conf maglev "$ALL" | sed 's/hash_policy = .*/hash_policy = ( { field = "exe"; } );/' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    reloads=$((reloads + 1))
    until_ok 10 reloaded
    for i in 1 2 3 4 5 6; do
        cp "$(readlink -f "$(command -v redis-cli)")" "$WORK/tmp/cli$i"
        a=$($RUN "$WORK/tmp/cli$i" -p 16790 get who 2>&1 | sed 's/^"*mark-e2e-hash-41d7 \([1-3]\)"*$/\1/')
        said=$(ctl why "cli$i,exe=$WORK/tmp/cli$i" cache | sed -n 's/^decision: .* 127.0.0.1:1679\([1-3]\), by .*/\1/p')
        [ -n "$a" ] && [ "$a" = "$said" ] || problem "cli$i: $a, why $said"
        echo "exe: $i by $a" >>"$WORK/exes"
    done
    [ "$(cut -d' ' -f4 "$WORK/exes" | sort -u | wc -l)" -gt 1 ] || problem "exe: $(cat "$WORK/exes")"
}

held() { redis-cli -s "$WORK/s$1" client list | grep -c 'laddr=127'; }
all_held() { [ $(($(held 1) + $(held 2) + $(held 3))) = 12 ]; }
nothing_counted() { [ "$(ask sum connections_active endpoints)" = 0 ]; }
bounded() { # twelve of one user, each in a process of its own: 5 at most, when the factor is 125
    local i all=() counts
    reload ring_hash "$ALL" "hash_balance_factor = 125;"
    until_ok 30 nothing_counted
    for i in {1..12}; do
        bg sub$i $RUN redis-cli -p 16790 subscribe news
        all+=("$BG")
        until_ok 20 grep -q '^subscribe\|subscribe' "$WORK/sub$i.log"
    done
    until_ok 20 all_held
    counts=$(for i in 1 2 3; do held $i; done | sort -n | tr '\n' ' ')
    echo "12 connections of one key, factor 125: $counts" >>"$WORK/seen"
    [ "${counts##* 5 }" = "" ] && [ "${counts%% *}" -ge 2 ] || problem "hash_balance_factor: $counts"
    for i in "${all[@]}"; do stop "$i"; done
}

wrong() { # MESSAGE LB MORE
    conf "$2" "$ALL" "$3" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q "$1" "$WORK/meshd.log"
}

body() {
    if [ "$HALF" = bare ]; then
        redis 0 || return 1
        of_user 3001 | sed 's/ [0-9]//'
        return
    fi
    redis 1 && redis 2 && redis 3 || return 1
    of_user 3001 | sed 's/ [0-9]//'
    by ring_hash
    bound
    again
    reload maglev "$ALL"
    by maglev
    taken_out
    executables
    bounded
    reload maglev "$ALL"
    wrong "meshd.conf:3: error: maglev: table_size 65536 of service 'cache' is no prime; 65537 is one" maglev 'maglev = { table_size = 65536; };'
    wrong "meshd.conf:4: error: hash_policy: service 'cache' has neither" random ''
    wrong "meshd.conf:5: error: unknown key 'hash_polcy'" maglev 'hash_polcy = "x";'
    map after
    same maglev.a after "a configuration that is refused changes nothing"
}
meshed() { cat "$WORK/seen"; }
e2e
