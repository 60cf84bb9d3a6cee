#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Under each load balancing algorithm that meshd knows, three redis-servers that stay listed are killed and
# restarted, one after the other, under load of redis-cli and asyncio: no connect fails. Bare, one server listens at
# the address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli python3
ports 17991 17992 17993
marker mark-e2e-algorithms-2a90
limit 240
WIRE_BARE=

policy() { # LB: what it chooses by, if it needs that
    case $1 in ring_hash | maglev) echo 'hash_policy = ( { field = "source_identity"; } );' ;; esac
}
conf() { # LB
    cat <<C
allow_requested_service = true;
services = ({ name = "cache"; addresses = ("127.0.0.1:17990"); load_balancer = "$1"; $(policy "$1")
  endpoints = ({ addr = "127.0.0.1:17991"; }, { addr = "127.0.0.1:17992"; }, { addr = "127.0.0.1:17993"; }); });
C
}
config() { conf least_request; }
algorithms() {
    "$E2E_BUILD/meshd" --dump-defaults | awk '/^ *#load_balancer =/ { print text; exit }
        /^ *# / { sub(/^ *# /, ""); text = text " " $0; next } { text = "" }' |
        sed 's/.* One of //' | grep -o '"[a-z_]*"' | tr -d '"'
}
is_balanced_by() { ask json services | grep -q "\"load_balancer\": \"$1\""; }

redis() { # N
    bg "redis$1" env LIBMESH_SERVICE=cache $RUN redis-server --port 1799"$1" --bind 127.0.0.1 --save '' --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
    listening 1799"$1"
    redis-cli -s "$WORK/s$1" set k mark-e2e-algorithms-2a90 >/dev/null
}

cli_load() {
    local n=0 failed=0
    until [ -e "$WORK/end" ]; do
        $RUN redis-cli -p 17990 get k >"$WORK/cli.last" 2>&1
        ! grep 'Could not connect' "$WORK/cli.last" >&2 || failed=$((failed + 1))
        n=$((n + 1))
        echo "$n $failed" >"$WORK/cli.new"
        mv "$WORK/cli.new" "$WORK/cli.n"
    done
}
made() { echo "$(cut -d' ' -f1 "$WORK/cli.n") $(cut -d' ' -f1 "$WORK/py.n")"; }
failed() { echo $(($(cut -d' ' -f2 "$WORK/cli.n") + $(cut -d' ' -f2 "$WORK/py.n"))); }
went_on() { # each load has made some more
    local now
    read -ra now <<<"$(made)"
    [ "${now[0]}" -ge $(($1 + 6)) ] && [ "${now[1]}" -ge $(($2 + 60)) ]
}
# shellcheck disable=SC2046
rounds() { until_ok 60 went_on $(made); }

under() { # LB
    local i was bad retries
    conf "$1" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 is_balanced_by "$1"
    bad=$(failed) retries=$(ask sum connect_retries) was=$(made)
    for i in 1 2 3; do
        eval "stop \$REDIS$i -KILL"
        rounds
        redis $i || return
        rounds
    done
    retries=$(($(ask sum connect_retries) - retries))
    echo "$1: $(made) connects of redis-cli and asyncio, before: $was; $(($(failed) - bad)) failed, $retries attempts repeated" >>"$WORK/seen"
    [ "$(failed)" = "$bad" ] || problem "$(tail -1 "$WORK/seen")"
    [ $retries -gt 0 ] || problem "$1: nothing was tried again, so nothing was shown"
}

body() {
    local all=() lb
    if [ "$HALF" = bare ]; then
        redis 0 || return 1
    else
        redis 1 && redis 2 && redis 3 || return 1
    fi
    $RUN redis-cli -p 17990 get k
    echo 0 0 >"$WORK/cli.n"; echo 0 0 0 >"$WORK/py.n"
    cli_load & all+=($!)
    bg asyncio $RUN python3 "$E2E/services.py" load 17990 "$WORK/py.n" "$WORK/end"
    all+=("$BG")
    PIDS+=("${all[@]}")
    rounds
    if [ "$HALF" = mesh ]; then
        algorithms >"$WORK/algorithms"
        grep -qx peak_ewma "$WORK/algorithms" && grep -qx round_robin "$WORK/algorithms" ||
            problem "which algorithms are there? $(cat "$WORK/algorithms")"
        for lb in $(cat "$WORK/algorithms"); do under "$lb"; done
    fi
    : >"$WORK/end"
    wait "${all[@]}"
    echo "$(failed) connects failed"
}
meshed() { cat "$WORK/seen"; }
e2e
