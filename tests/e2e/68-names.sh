#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Services by their names, in programs whose configuration knows nothing else: redis-cli, curl, psql,
# Python, node and Java, and three servers behind each name, one of which is killed. Bare, /etc/hosts has
# the names; meshed it leads elsewhere, as a DNS that lies would, and so would the route for virtual
# addresses: nobody may be met there.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli curl python3 initdb postgres psql node java javac mount ip
ports 16479 18080 15450 15451 15452 15453
marker mark-e2e-names-3c8e
limit 200
[ -n "$ROOT" ] || LACKS="$LACKS root"

conf() {
    cat <<C
allow_requested_service = true;
services = (
  { name = "cache"; hosts = ("cache.internal"${1:-}); },
  { name = "orders"; },
  { name = "db"; hosts = ("db.internal:15450"); }
);
C
}
config() { conf; }

names() { # ADDRESS
    printf '127.0.0.1 localhost\n%s cache cache.internal orders orders.mesh db.internal\n' "$1" >"$WORK/hosts"
    mount --bind "$WORK/hosts" /etc/hosts
}
redis() { # N ADDRESS
    bg "redis$1" env LIBMESH_SERVICE=cache $RUN redis-server --port 16479 --bind "$2" --save '' --unixsocket "$WORK/s$1"
    eval "REDIS$1=$BG"
}
web() { # N ADDRESS
    bg "web$1" env LIBMESH_SERVICE=orders $RUN python3 -m http.server --bind "$2" --directory "$WORK/www" 18080
}
database() { # N PORT
    cp -a pg "pg$1"
    bg "db$1" as postgres env LIBMESH_SERVICE=db $RUN postgres -D "$WORK/pg$1" -p "$2" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$WORK/tmp" -c fsync=off
    until_ok 60 psql "host=$WORK/tmp port=$2 user=postgres" -c 'SELECT 1'
}
are_there() { # SERVICE N
    [ "$(ask json services | python3 -c "
import json, sys
print(*[s['endpoints'] for s in json.load(sys.stdin)['services'] if s['name'] == '$1'])")" = "$2" ]
}
answers() { [ "$(redis-cli -s "$WORK/s$1" ping)" = PONG ]; }
connections() { redis-cli -s "$WORK/s$1" info stats | sed -n 's/^total_connections_received:\([0-9]*\).*/\1/p'; }

servers() {
    local i
    mkdir -p "$WORK/www" pg
    echo mark-e2e-names-3c8e >"$WORK/www/page"
    chown postgres pg
    as postgres initdb -D "$WORK/pg" -U postgres -A trust -E UTF8 --locale=C -N >initdb.log 2>&1 || return 1
    if [ "$HALF" = bare ]; then
        names 127.0.0.1
        redis 1 127.0.0.1 && web 1 127.0.0.1 && database 1 15450 && listening 16479 && listening 18080
        return
    fi
    names 127.0.0.99
    ip route add 240.0.0.0/4 dev lo
    for i in 1 2 3; do redis $i 127.0.1.$i && web $i 127.0.2.$i && database $i 1545$i || return 1; done
    for i in 1 2 3; do until_ok 20 answers $i; done
    for i in cache orders db; do until_ok 20 are_there $i 3; done
}

python_clients() {
    $RUN python3 - <<'P'
import asyncio, socket, urllib.request
def ping(s):
    s.sendall(b'PING mark-e2e-names-3c8e\r\n')
    f = s.makefile()
    return f.readline() and f.readline().strip()
for name in 'cache', 'CACHE.internal', 'cache':
    with socket.create_connection((name, 16479)) as s:
        print(name, ping(s), s.getpeername()[1],
              s.getpeername()[0] in {a[4][0] for a in socket.getaddrinfo(name, 16479)})
async def several():
    async def one(i):
        r, w = await asyncio.open_connection('orders', 18080)
        w.write(b'GET /page HTTP/1.0\r\n\r\n')
        text = await r.read()
        w.close()
        return text.split(b'\r\n')[-1]
    print({t for t in await asyncio.gather(*map(one, range(12)))})
asyncio.run(several())
print(urllib.request.urlopen('http://orders.mesh:18080/page').read())
try:
    socket.create_connection(('orders', 18099))
except OSError as e:
    print(e.strerror)
P
}
node_clients() {
    cat >names.js <<'J'
const net = require('net'), http = require('http'), dns = require('dns');
const page = host => new Promise((ok, no) => http.get({ host, port: 18080, path: '/page' }, r => {
  let t = ''; r.on('data', d => t += d); r.on('end', () => ok(r.statusCode + ' ' + t.trim()));
}).on('error', no));
const ping = host => new Promise((ok, no) => {
  const s = net.connect(16479, host, () => s.write('PING\r\n'));
  s.on('data', d => { ok(d.toString().trim()); s.end(); }); s.on('error', no);
});
(async () => {
  for (const t of await Promise.all([...Array(12).keys()].map(i => page(i % 2 ? 'orders' : 'orders.mesh')))) console.log(t);
  console.log(await Promise.all(['cache', 'cache.internal', 'cache'].map(ping)));
  console.log((await dns.promises.lookup('cache', { family: 4 })).family);
})().catch(e => { console.log(e.message); process.exit(1); });
J
    $RUN node names.js
}
java_clients() {
    cat >Names.java <<'J'
import java.io.*;
import java.net.*;
public class Names {
    public static void main(String[] args) throws Exception {
        for (int i = 0; i < 6; i++) {
            InetAddress a = InetAddress.getByName(i % 2 == 0 ? "cache" : "cache.internal");
            try (Socket s = new Socket(a, 16479)) {
                s.getOutputStream().write("PING\r\n".getBytes());
                System.out.println(a.getHostName() + " " + new BufferedReader(new InputStreamReader(s.getInputStream())).readLine()
                        + " " + s.getInetAddress().equals(a));
            }
        }
        try (InputStream in = new URL("http://orders.mesh:18080/page").openStream()) {
            System.out.print(new String(in.readAllBytes()));
        }
        try {
            new Socket("orders", 18099).close();
        } catch (ConnectException e) {
            System.out.println("refused");
        }
    }
}
J
    javac Names.java && $RUN java -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 Names
}

clients() {
    local i
    for i in {1..9}; do $RUN redis-cli -h cache -p 16479 ping; done
    $RUN redis-cli -h cache.internal -p 16479 echo mark-e2e-names-3c8e
    for i in orders orders.mesh ORDERS.mesh; do $RUN curl -sS "http://$i:18080/page"; done
    for i in 4 6; do [ $HALF$i = bare6 ] || $RUN curl -sS -$i http://orders:18080/page -o "page$i" -w '%{num_connects}\n'; done | tail -1
    for i in {1..6}; do
        $RUN psql 'host=db.internal port=15450 user=postgres dbname=postgres' -Atc "SELECT 'mark-e2e-names-3c8e'"
    done
    $RUN redis-cli -h cache -p 16480 ping 2>&1 | grep -c 'Connection refused'
    python_clients
    node_clients
    java_clients
}

# What bare cannot be asked for.
at_the_edge() {
    $RUN python3 - >"$WORK/edge" 2>&1 <<'P'
import errno, socket
def why(f, *a):
    try:
        f(*a)
        return 'no error'
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
v4 = socket.gethostbyname('cache')
v6 = socket.getaddrinfo('cache', 1, socket.AF_INET6)[0][4][0]
print(v4.split('.')[0] >= '240', v6.startswith('fdfc:de32:883e:'), socket.gethostbyaddr(v4)[0], socket.getnameinfo((v6, 80), 0)[0])
for a in (v4, 1), ('240.1.2.3', 80), (v6, 1), ('fdfc:de32:883e::1', 80):
    f = socket.AF_INET6 if ':' in a[0] else socket.AF_INET
    t, u = socket.socket(f), socket.socket(f, socket.SOCK_DGRAM)
    print(why(t.connect, a), why(u.connect, a), why(u.sendto, b'x', a), why(u.sendmsg, [b'x'], [], 0, a))
    t = socket.socket(f)
    t.setblocking(False)
    print(why(t.connect, a))
print(why(socket.gethostbyname, 'nobody.mesh'), why(socket.getaddrinfo, 'nobody.mesh.', 80))
P
    cat >"$WORK/edge.want" <<'W'
True True cache.mesh cache.mesh
ECONNREFUSED EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH
ECONNREFUSED
EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH
EHOSTUNREACH
ECONNREFUSED EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH
ECONNREFUSED
EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH
EHOSTUNREACH
-2 -2
W
    cmp "$WORK/edge.want" "$WORK/edge" >&2 || problem "at the edge:"$'\n'"$(diff "$WORK/edge.want" "$WORK/edge")"
}
# Addresses that a process was not told by a look-up of its own: each way in one that has not attached to meshd yet.
untold() {
    local v4 v6 to how
    read -r v4 v6 <<<"$($RUN python3 -c 'import socket
print(socket.gethostbyname("cache"), socket.getaddrinfo("cache", 1, socket.AF_INET6)[0][4][0])')"
    cat >datagram.py <<'P'
import errno, socket, sys
to, how = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
try:
    if how in ('connect', 'send'):
        s.connect((to, 9))
    if how == 'send':
        s.send(b'x')
    elif how == 'sendto':
        s.sendto(b'x', (to, 9))
    elif how == 'sendmsg':
        s.sendmsg([b'x'], [], 0, (to, 9))
    print('done')
except OSError as e:
    print(errno.errorcode[e.errno])
P
    for to in "$v4" "$v6" "::ffff:$v4" 127.0.0.1 ::1 255.255.255.255; do
        for how in connect sendto sendmsg send; do
            echo "$to $how $($RUN python3 datagram.py "$to" $how)"
        done
    done >"$WORK/untold"
    # shellcheck disable=SC2016
    echo "bash connect $($RUN bash -c 'echo x >/dev/udp/$0/9' "$v4" 2>&1 | grep -o 'No route to host' | head -1)" >>"$WORK/untold"
    for to in "$v4" "$v6" "::ffff:$v4"; do
        [ "$(grep -c "^$to .* EHOSTUNREACH$" "$WORK/untold")" = 4 ] || problem "datagrams to $to: $(cat "$WORK/untold")"
    done
    [ "$(grep -c ' done$' "$WORK/untold")" = 12 ] && grep -q '^bash connect No route' "$WORK/untold" ||
        problem "other datagrams: $(cat "$WORK/untold")"
}
spread() {
    local i n
    for i in 1 2 3; do
        n=$(connections $i)
        [ "${n:-0}" -ge 3 ] || problem "redis $i was met $n times"
    done
}
later_names() { # a reload, good and bad
    ! $RUN redis-cli -h late.internal -p 16479 ping >/dev/null 2>&1 || problem "late.internal was there too early"
    conf ', "late.internal", "db.internal"' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 grep -q "meshd.conf:5: error: hosts: db.internal is already a host of service 'cache' at" "$WORK/meshd.log"
    [ "$($RUN redis-cli -h cache.internal -p 16479 ping)" = PONG ] || problem "a wrong configuration was taken"
    conf ', "late.internal"' >"$MESHD_CONF"
    kill -HUP "$MESHD"
    late() { [ "$($RUN redis-cli -h late.internal -p 16479 ping)" = PONG ]; }
    until_ok 10 late
}

body() {
    local i
    servers || return 1
    clients
    if [ "$HALF" = mesh ]; then
        spread
        stop "$REDIS2" -KILL
        until_ok 10 are_there cache 2
        at_the_edge
        untold
        later_names
    fi
    for i in {1..20}; do $RUN redis-cli -h cache -p 16479 ping; done
    [ "$HALF" = bare ] || { stop "$REDIS1" -KILL; stop "$REDIS3" -KILL; until_ok 10 are_there cache 0; }
    [ "$HALF" = mesh ] || stop "$REDIS1" -KILL
    $RUN redis-cli -h cache -p 16479 ping 2>&1 | grep -c 'Connection refused'
}
meshed() {
    ask services
    end_capture
    ! tcpdump -nr "$WORK/lo.pcap" '(net 240.0.0.0/4 and not host 255.255.255.255) or net fdfc:de32:883e::/48 or host 127.0.0.99' 2>/dev/null | grep . ||
        problem "a packet to a virtual address, or where /etc/hosts leads"
}
e2e
