#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# memcached (four threads, libevent, connections handed between threads) and a client that speaks
# its text protocol over plain sockets from eight threads.
. "$(dirname "$0")/lib.sh"
need memcached python3
ports 21211
marker mark-e2e-memcached-c04e
pair python3 memcached

body() {
    local user=
    [ "$(id -u)" != 0 ] || user='-u nobody'
    bg server $RUN memcached -l 127.0.0.1 -p 21211 -U 0 -t 4 -I 4m -m 256 $user
    listening 21211 || return 1
    cat >client.py <<'P'
import hashlib, socket, threading
def line(f): return f.readline().decode().rstrip('\r\n')
def talk(n, out):
    s = socket.create_connection(('127.0.0.1', 21211)); f = s.makefile('rb')
    for i in range(200):
        v = b'mark-e2e-memcached-c04e %d' % (n * i)
        s.sendall(b'set k%d-%d 0 0 %d\r\n%s\r\n' % (n, i, len(v), v)); assert line(f) == 'STORED'
    s.sendall(b'get ' + b' '.join(b'k%d-%d' % (n, i) for i in range(200)) + b'\r\n')
    h = hashlib.sha256()
    while True:
        l = line(f)
        if l == 'END': break
        h.update(l.encode())
    out[n] = h.hexdigest()[:12]
    s.sendall(b'quit\r\n'); assert f.read() == b''
out = {}
ts = [threading.Thread(target=talk, args=(n, out)) for n in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
print(sorted(out.items()))
s = socket.create_connection(('127.0.0.1', 21211)); f = s.makefile('rb')
big = bytes(range(256)) * 12000
s.sendall(b'set big 0 0 %d\r\n' % len(big) + big + b'\r\n'); print(line(f))
s.sendall(b'get big\r\n'); print(line(f)); print(f.read(len(big)) == big, line(f), line(f))
s.sendall(b'incr nothing 1\r\nbogus\r\nversion\r\n'); print(line(f), line(f), line(f))
P
    $RUN python3 client.py
}
e2e
