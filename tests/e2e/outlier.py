#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""outlier: what 72-outlier.sh needs of clients, and of what the status socket says.

outlier.py slow PORT N            connects N times, closes; prints how many connects took 1.2 s or more
outlier.py hold PORT N            N connections that are answered, one after the other, each in words ("up" or
                                  the errno's name); then stays until it is killed
outlier.py spurn PORT             a server that reads what a client asks and resets its connection
outlier.py serve PORT             one that answers
outlier.py ask PORT N             N connections, a request each; prints how many had no answer
outlier.py state ADDR KEY         from `endpoints json` on stdin: what it says of that endpoint's KEY
"""
import errno
import json
import signal
import socket
import struct
import sys
import time


def slow(port, n):
    late = 0
    for _ in range(n):
        t = time.monotonic()
        with socket.create_connection(('127.0.0.1', port)):
            late += time.monotonic() - t >= 1.2
    print(late)


def hold(port, n):
    held = []
    for _ in range(n):
        try:
            s = socket.create_connection(('127.0.0.1', port))
            s.sendall(b'PING\r\n')
            print('up' if s.recv(100) else 'ended', flush=True)
            held.append(s)
        except OSError as e:
            print(errno.errorcode.get(e.errno, e.errno), flush=True)
    print('done', flush=True)
    signal.pause()


def serve(port, answers):
    with socket.create_server(('127.0.0.1', port), backlog=64) as listener:
        while True:
            s, _ = listener.accept()
            with s:
                s.recv(100)
                if answers:
                    s.sendall(b'yes\n')
                else:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def ask(port, n):
    without = 0
    for _ in range(n):
        try:
            with socket.create_connection(('127.0.0.1', port)) as s:
                s.sendall(b'well?\n')
                without += s.recv(100) != b'yes\n'
        except OSError:
            without += 1
    print(without)


def state(addr, key):
    rows = [e for e in json.load(sys.stdin)['endpoints'] if e['addr'] == addr and e['pid'] == 0]
    print(*[e[key] for e in rows])


if __name__ == '__main__':
    what, args = sys.argv[1], sys.argv[2:]
    if what == 'state':
        state(*args)
    elif what in ('serve', 'spurn'):
        serve(int(args[0]), what == 'serve')
    else:
        {'slow': slow, 'hold': hold, 'ask': ask}[what](int(args[0]), int(args[1]))
