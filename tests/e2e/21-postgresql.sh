#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# PostgreSQL over TCP: a process for each connection, forked after accept. psql (SSL probed and
# declined first), COPY of 5 MB both ways, an error, LISTEN and NOTIFY, a cancelled query (a second
# connection), pgbench with eight clients, and pgbench with a connection for each transaction.
. "$(dirname "$0")/lib.sh"
need initdb postgres psql pgbench
ports 15432
marker mark-e2e-postgres-4e77
pair psql postgres
pair pgbench postgres

cancelled_soon() { # cancels a query that would sleep, by SIGINT to psql once the server runs it
    $RUN psql "$1" -c 'SELECT pg_sleep(100) /* to cancel */' >cancel.out 2>&1 &
    local p=$!
    until_ok 20 sh -c "psql '$2' -Atc \"SELECT 1 FROM pg_stat_activity WHERE query LIKE '%sleep(100) /* to%' AND pid <> pg_backend_pid()\" | grep -q 1"
    kill -INT $p
    wait $p
    echo "cancelled: $?"
    cat cancel.out
}

body() {
    local rc=0 db='host=127.0.0.1 port=15432 user=postgres dbname=postgres' local
    local="host=$WORK/tmp port=15432 user=postgres dbname=postgres"
    mkdir -p pg && { [ "$(id -u)" != 0 ] || chown postgres pg; }
    as postgres initdb -D "$WORK/pg" -U postgres -A trust -E UTF8 --locale=C -N >initdb.log 2>&1 ||
        { tail -3 initdb.log >&2; return 1; }
    bg server as postgres $RUN postgres -D "$WORK/pg" -p 15432 -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$WORK/tmp" -c fsync=off
    listening 15432 || return 1
    until_ok 30 psql "$local" -c 'SELECT 1' || return 1
    $RUN psql "$db" -At <<'S' || rc=1
CREATE TABLE t (n int, s text);
INSERT INTO t SELECT i, 'mark-e2e-postgres-4e77 ' || i FROM generate_series(1, 20000) i;
SELECT count(*), sum(n), md5(string_agg(s, '' ORDER BY n)) FROM t;
SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();
SELECT inet_server_addr(), inet_server_port(), inet_client_addr();
SELECT length(repeat('x', 3000000)), md5(repeat('x', 3000000));
S
    $RUN psql "$db" -At -c "SELECT repeat('mark-e2e-postgres-4e77', 200000)" | sum
    seq 100000 | sed 's/$/\tmark-e2e-postgres-4e77 in a row that is copied/' >rows
    $RUN psql "$db" -At -c 'COPY t FROM STDIN' <rows || rc=1
    $RUN psql "$db" -At -c "COPY (SELECT * FROM t WHERE s LIKE '%copied') TO STDOUT" | cmp - rows &&
        echo 'copy: same' || rc=1
    $RUN psql "$db" -c 'SELECT * FROM missing' 2>&1
    echo $?
    $RUN psql "$db" -At -c 'LISTEN news' -c "NOTIFY news, 'payload'" | sed 's/PID.*/PID/'
    cancelled_soon "$db" "$local"
    $RUN pgbench -q -i -s 1 "$db" 2>&1 | grep -c . >/dev/null
    $RUN pgbench -n -c 8 -j 2 -t 100 "$db" 2>bench.err | grep -E 'actually|failed'
    $RUN pgbench -n -S -C -c 4 -t 50 "$db" 2>>bench.err | grep -E 'actually|failed'
    $RUN psql "$db" -Atc 'SELECT count(*) FROM pgbench_history'
    $RUN psql 'host=127.0.0.1 port=15499 dbname=x' -c 'SELECT 1' 2>&1 | head -1
    return $rc
}
e2e
