#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# meshd is killed (SIGKILL) and started again, five times, while redis-benchmark runs over open
# connections and another one opens a connection for each request: nothing fails, the workloads
# attach again by themselves, and no counter goes back. Bare, nobody is killed.
. "$(dirname "$0")/lib.sh"
need redis-server redis-benchmark redis-cli
ports 16479
pair redis-benchmark redis-server
limit 180

alive() { kill -0 "$1" 2>/dev/null; }
handshakes() { ask sum handshakes; }
more_than() { [ "$(handshakes)" -gt "$1" ]; }
attached() { ask has "$(spiffe redis-server)"; }
served() { redis-cli -s "$WORK/s" info stats | awk -F: '/^total_commands_processed/ { print $2 + 0 }'; }
served_more_than() { [ "$(served)" -gt $(($1 + 2000)) ]; }

body() {
    local rc=0 open fresh before now i n
    export LIBMESH_WAIT=20s # programs that start in the gap wait for the next meshd
    bg server $RUN redis-server --port 16479 --bind 127.0.0.1 --save '' --unixsocket "$WORK/s"
    listening 16479 || return 1
    bg open bash -c 'exec $RUN redis-benchmark -p 16479 -c 20 -n 100000000 -t get -q'
    open=$BG
    bg fresh bash -c 'for i in 1 2 3 4 5 6 7 8 9 10; do
        $PRELOAD redis-benchmark -p 16479 -c 10 -n 500 -k 0 -t set -q || exit 1; done'
    fresh=$BG
    n=$(served)
    until_ok 20 served_more_than "$n" || return 1
    for i in 1 2 3 4 5; do
        if [ "$HALF" = mesh ]; then
            before=$(handshakes)
            stop "$MESHD" -KILL
        fi
        # Without meshd: requests on open connections and on new ones go on.
        n=$(served)
        until_ok 20 served_more_than "$n" || rc=1
        alive "$open" || { echo 'the benchmark over open connections ended'; rc=1; }
        [ "$HALF" = mesh ] || continue
        start_meshd || return 1
        until_ok 20 attached || rc=1
        until_ok 20 more_than $((before - 1)) || { now=$(handshakes); problem "handshakes: $before, now $now"; }
    done
    wait "$fresh" || { echo 'a benchmark with new connections failed'; rc=1; }
    alive "$open" || { echo 'the benchmark over open connections ended'; rc=1; }
    stop "$open"
    grep -hE 'Error|rror:|refused|reset' open.log fresh.log
    # A program that starts now is served as ever.
    $RUN redis-cli -p 16479 ping
    return $rc
}
e2e
