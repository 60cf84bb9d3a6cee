#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Redis: redis-cli (one command, pipelines of 10,000, a 5 MB value, a blocking pop, publish and
# subscribe), redis-benchmark with 50 connections, and a replica, which is a server that connects.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark
ports 16379 16380
marker mark-e2e-redis-77ab
pair redis-cli redis-server
pair redis-benchmark redis-server

replicated() { [ "$($RUN redis-cli -p 16380 get k)" = mark-e2e-redis-77ab ]; }
subscribed() { [ "$(redis-cli -s "$WORK/s1" pubsub numsub news | tail -1)" = 1 ]; }

body() {
    local rc=0 cli="$RUN redis-cli -p 16379" sub
    bg server $RUN redis-server --port 16379 --bind 127.0.0.1 --save '' --unixsocket "$WORK/s1"
    listening 16379 || return 1
    $cli set k mark-e2e-redis-77ab
    $cli get k
    $cli incrby n 41 && $cli incr n
    seq 10000 | sed 's/^/RPUSH list value/' | $cli | tail -1
    $cli lrange list 9997 -1
    seq 20000 | awk '{ printf "*3\r\n$3\r\nSET\r\n$%d\r\nkey%s\r\n$%d\r\nv%s\r\n", length($1) + 3, $1, length($1) + 1, $1 }' |
        $cli --pipe | tail -1
    bytes 5000000 3 | $cli -x set big
    $cli --no-raw strlen big
    $cli get big | sum
    $cli blpop queue 10 >blpop.out &
    sub=$!
    until_ok 10 sh -c "redis-cli -s '$WORK/s1' info clients | grep -q 'blocked_clients:1'"
    $cli lpush queue item
    wait $sub || rc=1
    cat blpop.out
    bg subscriber $RUN redis-cli -p 16379 subscribe news
    until_ok 10 subscribed
    $cli publish news 'read all about it'
    until_ok 10 grep -q 'read all' subscriber.log
    cat subscriber.log
    stop "$BG"
    $RUN redis-benchmark -p 16379 -c 50 -n 20000 -t set,get,lrange_100 --csv | cut -d, -f1 || rc=1
    $RUN redis-benchmark -p 16379 -c 20 -n 20000 -P 16 -d 3000 -t get --csv --threads 2 | cut -d, -f1
    bg replica $RUN redis-server --port 16380 --bind 127.0.0.1 --save '' --io-threads 2 \
        --replicaof 127.0.0.1 16379
    listening 16380 && until_ok 30 replicated || rc=1
    $RUN redis-cli -p 16380 strlen big
    $cli wait 1 5000
    $RUN redis-cli -p 16999 ping 2>&1
    return $rc
}
meshed() { ask pair "$(spiffe redis-server)" "$(spiffe redis-server)"; }
e2e
