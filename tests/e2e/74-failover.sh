#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Node and Java's selectors, which connect without waiting, to a service of three web servers that are killed and
# restarted one after the other; psql to a service of two PostgreSQL servers, of which the second is for when the
# first is down: no connect fails. Bare, one server listens at each address.
. "$(dirname "$0")/lib.sh"
need node java javac python3 initdb postgres psql
ports 17601 17602 17603 17651 17652
marker mark-e2e-failover-b6d2
limit 240
WIRE_BARE=

config() {
    cat <<C
allow_requested_service = true;
services = (
  { name = "web"; addresses = ("127.0.0.1:17600"); },
  { name = "db"; addresses = ("127.0.0.1:17650");
    endpoints = ( { addr = "127.0.0.1:17651"; }, { addr = "127.0.0.1:17652"; priority = 1; } ); }
);
C
}

web() { # N
    bg "web$1" env LIBMESH_SERVICE=web $RUN python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" 1760"$1"
    eval "WEB$1=$BG"
    listening 1760"$1"
}
database() { # N
    rm -f "$WORK/pg$1/postmaster.pid"
    bg "db$1" as postgres env LIBMESH_SERVICE=db $RUN postgres -D "$WORK/pg$1" -p 1765"$1" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$WORK/tmp" -c fsync=off
    eval "DB$1=$BG"
    listening 1765"$1"
    until_ok 60 psql "host=$WORK/tmp port=1765$1 user=postgres" -c 'SELECT 1'
}

node_load() {
    cat >load.js <<'J'
const net = require('net'), fs = require('fs');
const [port, counts, end] = process.argv.slice(2);
let n = 0, failed = 0;
const once = () => {
  if (fs.existsSync(end)) return;
  let up = false;
  const s = net.connect({ port, host: '127.0.0.1' }, () => { up = true; s.write('GET /page HTTP/1.0\r\n\r\n'); });
  s.on('data', () => {});
  s.on('error', e => { if (!up) { failed++; console.error('connect:', e.code); } });
  s.on('close', () => {
    fs.writeFileSync(counts + '.new', ++n + ' ' + failed + '\n');
    fs.renameSync(counts + '.new', counts);
    setImmediate(once);
  });
};
for (let i = 0; i < 3; i++) once();
J
    bg node $RUN node "$WORK/load.js" 17600 "$WORK/node.n" "$WORK/end"
}
# What libpq asks when connect() failed, and only then: a server that is starting up, or is stopped before it has answered,
# was reached.
psql_load() {
    local n=0 failed=0
    until [ -e "$WORK/end" ]; do
        n=$((n + 1))
        $RUN psql 'host=127.0.0.1 port=17650 user=postgres' -Atc 'SHOW port' >"$WORK/psql.last" 2>"$WORK/psql.err" ||
            { grep -q 'Is the server running' "$WORK/psql.err" && failed=$((failed + 1)) && cat "$WORK/psql.err" >&2; }
        echo "$n $failed" >"$WORK/psql.new"
        mv "$WORK/psql.new" "$WORK/psql.n"
    done
}
went_on() { # each load has made so many connections more
    local i was=("$@")
    for i in node java psql; do
        [ "$(cut -d' ' -f1 "$WORK/$i.n")" -ge $((was[0] + 8)) ] || return 1
        was=("${was[@]:1}")
    done
}
rounds() {
    # shellcheck disable=SC2046
    until_ok 60 went_on $(cut -d' ' -f1 "$WORK/node.n" "$WORK/java.n" "$WORK/psql.n")
}
answered_by() { [ "$(cat "$WORK/psql.last")" = "$1" ]; }

body() {
    local i all=()
    mkdir -p www pg1
    echo mark-e2e-failover-b6d2 >www/page
    [ "$(id -u)" != 0 ] || chown postgres pg1
    javac -d classes "$E2E/NioLoad.java" || return 1
    as postgres initdb -D "$WORK/pg1" -U postgres -A trust -E UTF8 --locale=C -N >initdb.log 2>&1 || return 1
    cp -a pg1 pg2
    if [ "$HALF" = bare ]; then
        cp -a pg1 pg0
        web 0 && database 0 || return 1
    else
        for i in 1 2 3; do web $i || return 1; done
        for i in 1 2; do database $i || return 1; done
    fi
    for i in node java psql; do echo 0 0 >"$WORK/$i.n"; done
    node_load; all+=("$BG")
    bg java $RUN java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$WORK/classes" NioLoad 17600 "$WORK/java.n" "$WORK/end"
    all+=("$BG")
    psql_load & all+=($!)
    PIDS+=("${all[@]}")
    rounds
    if [ "$HALF" = mesh ]; then
        for i in 1 2 3; do
            eval "stop \$WEB$i -KILL"
            rounds
            web "$i" || return 1
            rounds
        done
        until_ok 20 answered_by 17651
        stop "$DB1" -QUIT
        until_ok 20 answered_by 17652
        rounds
        database 1 || return 1
        until_ok 20 answered_by 17651
        rounds
    fi
    : >"$WORK/end"
    wait "${all[@]}"
    for i in node java psql; do echo "$i: $(cut -d' ' -f2 "$WORK/$i.n") connects failed"; done
    cat "$WORK/node.log" "$WORK/java.log" >&2
}
e2e
