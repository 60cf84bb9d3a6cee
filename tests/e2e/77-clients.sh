#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# asyncio, Node, Java's selectors and nginx's upstream connect without waiting to a service of which one endpoint
# answers nothing: each connect that meets it comes up at the next one when its attempt's part of the time is over,
# and not one fails; the others do not wait for it. Then psycopg2, blocking and not, at a service of two PostgreSQL
# servers, the second of which is for when the first is down; and past one that answers nothing. Bare, one server
# listens at each address.
. "$(dirname "$0")/lib.sh"
need python3 node java javac nginx curl initdb postgres psql ip
/usr/bin/python3 -c 'import psycopg2' 2>/dev/null || LACKS="$LACKS python3-psycopg2"
ports 17702 17703 17710 17751 17752
marker mark-e2e-clients-8b3f
limit 200
WIRE_BARE=
[ -n "$ROOT" ] || LACKS="$LACKS root"

HOLE=10.77.7.2 # behind an interface that swallows everything
PART=$((2 * SLOW)) # seconds: an attempt's
config() {
    cat <<C
allow_requested_service = true;
services = (
  { name = "web"; addresses = ("127.0.0.1:17700"); load_balancer = "round_robin";
    connect_timeout = "$((3 * PART))s"; max_connect_attempts = 3;
    endpoints = ({ addr = "$HOLE:17701"; }, { addr = "127.0.0.1:17702"; }, { addr = "127.0.0.1:17703"; }); },
  { name = "db"; addresses = ("127.0.0.1:17750", "127.0.0.1:17760"); connect_timeout = "$((3 * PART))s";
    endpoints = ({ addr = "127.0.0.1:17751"; labels = ("kind=pg"); }, { addr = "127.0.0.1:17752"; labels = ("kind=pg"); priority = 1; },
      { addr = "$HOLE:17753"; labels = ("kind=hole"); });
    subsets = ({ name = "pg"; labels = ("kind=pg"); }, { name = "hole"; labels = ("kind=hole"); });
    routes = ({ port = 17760; split = ({ subset = "hole"; }); }); split = ({ subset = "pg"; }); failover = ({ subset = "pg"; }); }
);
C
}

web() { # N
    bg "web$1" env LIBMESH_SERVICE=web $RUN python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" 1770"$1"
    listening 1770"$1"
}
database() { # N
    rm -f "$WORK/pg$1/postmaster.pid"
    bg "db$1" as postgres env LIBMESH_SERVICE=db $RUN postgres -D "$WORK/pg$1" -p 177"$1" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$WORK/tmp" -c fsync=off
    eval "DB$1=$BG"
    listening 177"$1"
    until_ok 60 psql "host=$WORK/tmp port=177$1 user=postgres" -c 'SELECT 1'
}

node_client() { # N
    cat >connects.js <<'J'
const net = require('net');
for (let i = 0; i < +process.argv[2]; i++) {
  const begin = process.hrtime.bigint();
  let took, text = '';
  const s = net.connect({ port: 17700, host: '127.0.0.1' }, () => {
    took = Number((process.hrtime.bigint() - begin) / 1000000n);
    s.write('GET /page HTTP/1.0\r\n\r\n');
  });
  s.on('data', d => text += d);
  s.on('error', e => console.log('failed:', e.code));
  s.on('end', () => console.log(text.includes(' 200 ') ? took : 'failed: no answer'));
}
J
    $RUN node connects.js "$1"
}
nginx_client() { # N: what its upstream took, of which it has one try only
    local i all=()
    : >"$WORK/upstream"
    for ((i = 0; i < $1; i++)); do
        $RUN curl -s -o /dev/null http://127.0.0.1:17710/page & all+=($!)
    done
    wait "${all[@]}"
    until_ok 10 logged "$1"
    awk '{ print $1 == 200 ? int($2 * 1000) : "failed: " $0 }' "$WORK/upstream"
}
logged() { [ "$(wc -l <"$WORK/upstream")" -ge "$1" ]; }
start_nginx() {
    cat >ngx.conf <<N
daemon off; master_process off; error_log $WORK/ngx.err error; pid $WORK/ngx.pid;
events { worker_connections 64; }
http { log_format up '\$upstream_status \$upstream_connect_time'; access_log $WORK/upstream up;
  $(nginx_paths) upstream web { server 127.0.0.1:17700; }
  server { listen 127.0.0.1:17710; location / { proxy_pass http://web; proxy_next_upstream off; } } }
N
    bg nginx $RUN nginx -c "$WORK/ngx.conf"
    listening 17710
}

past_the_hole() { # NAME CMD...: nine connects, of which some meet it
    "${@:2}" 9 >"$WORK/$1.took" 2>"$WORK/$1.err"
    echo "$1: $(grep -vc failed "$WORK/$1.took") connects, $(grep -c failed "$WORK/$1.took") failed"
    cat "$WORK/$1.err" >&2
    [ "$HALF" = mesh ] || return
    echo "$1: $(/usr/bin/python3 "$E2E/clients.py" hits $((PART * 1000 - 5)) $((PART * 2000)) <"$WORK/$1.took")" >>"$WORK/seen"
    /usr/bin/python3 "$E2E/clients.py" hits $((PART * 1000 - 5)) $((PART * 2000)) <"$WORK/$1.took" >/dev/null ||
        problem "$1: $(tail -1 "$WORK/seen"): $(sort "$WORK/$1.took" | tr '\n' ' ')"
}

pg_went_on() { [ "$(cut -d' ' -f1 "$WORK/pg.n")" -ge $(($1 + 8)) ]; }
pg_rounds() { until_ok 60 pg_went_on "$(cut -d' ' -f1 "$WORK/pg.n")"; }
answered_by() { [ "$(cut -d' ' -f3 "$WORK/pg.n")" = "$1" ]; }
failover() {
    local load
    echo 0 0 - >"$WORK/pg.n"
    bg pg $RUN /usr/bin/python3 "$E2E/clients.py" postgres 17750 "$WORK/pg.n" "$WORK/end"
    load=$BG
    pg_rounds
    if [ "$HALF" = mesh ]; then
        until_ok 20 answered_by 17751
        stop "$DB51" -QUIT
        until_ok 20 answered_by 17752
        pg_rounds
        database 51 || return
        until_ok 20 answered_by 17751
        pg_rounds
        echo "psycopg2: $(cat "$WORK/pg.n") (connects, failed, last answer)" >>"$WORK/seen"
    fi
    : >"$WORK/end"
    wait "$load"
    echo "psycopg2: $(cut -d' ' -f2 "$WORK/pg.n") connects failed"
    cat "$WORK/pg.log" >&2
}

body() {
    mkdir -p www pg51
    echo mark-e2e-clients-8b3f >www/page
    javac -d classes "$E2E/Connects.java" || return 1
    chown postgres pg51
    as postgres initdb -D "$WORK/pg51" -U postgres -A trust -E UTF8 --locale=C -N >initdb.log 2>&1 || return 1
    cp -a pg51 pg52
    if [ "$HALF" = bare ]; then
        cp -a pg51 pg50 && cp -a pg51 pg60
        web 0 && database 50 && database 60 || return 1
    else
        ip link add sink type veth peer name drain && ip addr add 10.77.7.1/24 dev sink &&
            ip link set sink up && ip link set drain up
        ip neigh add $HOLE lladdr 02:00:00:00:00:01 dev sink
        web 2 && web 3 && database 51 && database 52 || return 1
    fi
    start_nginx || return 1
    past_the_hole asyncio $RUN python3 "$E2E/clients.py" asyncio 17700
    past_the_hole node node_client
    past_the_hole java $RUN java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$WORK/classes" Connects 17700
    past_the_hole nginx nginx_client
    failover
    : >"$WORK/end"
    $RUN psql 'host=127.0.0.1 port=17760 user=postgres' -Atc "SELECT 'past it'"
}
meshed() { cat "$WORK/seen"; }
e2e
