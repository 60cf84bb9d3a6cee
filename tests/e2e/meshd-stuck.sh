#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# meshd does not answer (SIGSTOP) just when a server that speaks first asks whether its silent client
# is one of the mesh: the server asks again, and greets in TLS. The client has begun to connect
# without blocking, and for now makes no call that libmesh would see.
. "$(dirname "$0")/lib.sh"
need python3 ss
ports 18411
marker GREETING-THAT-NOBODY-READS
pair python3 python3
limit 60

asked() { [ "$(ss -lxH | awk -v s="$RUN_DIR/meshd.sock" '$5 == s { print $3 }')" -ge "$1" ]; }

body() {
    cat >server.py <<'P'
import socket
s = socket.create_server(('127.0.0.1', 18411))
while True:
    c, _ = s.accept()
    c.sendall(b'GREETING-THAT-NOBODY-READS')
    print(c.recv(100), flush=True)
    c.close()
P
    cat >client.py <<'P'
import os, select, socket
def talk(s):
    s.setblocking(True)
    print(s.recv(100))
    s.sendall(b'thanks'); print(s.recv(100))
def until(path):
    while not os.path.exists(path): pass
talk(socket.create_connection(('127.0.0.1', 18411)))  # has all that it needs of meshd
os.mkdir('ready'); until('go')
s = socket.socket(); s.setblocking(False)
s.connect_ex(('127.0.0.1', 18411))
os.mkdir('connecting'); until('greeted')
select.select([], [s], [])
talk(s)
P
    bg server $RUN python3 server.py
    listening 18411 || return 1
    bg client $RUN python3 client.py
    local client=$BG
    until_ok 20 test -d ready || return 1
    [ "$HALF" = bare ] || kill -STOP "$MESHD"
    mkdir go
    until_ok 20 test -d connecting
    [ "$HALF" = bare ] || until_ok 20 asked 2
    [ "$HALF" = bare ] || kill -CONT "$MESHD"
    mkdir greeted
    wait "$client"
    echo "client: $?"
    cat client.log server.log
}
e2e
