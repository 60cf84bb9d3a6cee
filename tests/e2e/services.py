#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""services: what 65-services.sh needs of clients.

services.py spread LB W1:W2:... SOCKET...   how the connections that each redis-server has now lie
                                            against the weights; exit 1 when that is out of bounds
services.py load PORT FILE END [http]       asyncio: connects, asks redis (or HTTP), closes, again and again
                                            until END exists; FILE holds: rounds, connects that failed, connections
                                            that were cut
"""
import asyncio
import os
import socket
import sys

# Two degrees of freedom: beyond this once in a million.
CHI_MOST = 27.6


def clients(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b'INFO clients\r\n')
        text = s.recv(65536).decode()
    return int(text.split('connected_clients:')[1].split()[0]) - 1


def spread(lb, weights, paths):
    weights = [int(w) for w in weights.split(':')]
    got = [clients(p) for p in paths]
    want = [sum(got) * w / sum(weights) for w in weights]
    chi = sum((g - w) ** 2 / w for g, w in zip(got, want))
    off = max(abs(g - w) for g, w in zip(got, want))
    print('%s, weights %s: %s connections, chi-square %.2f, at most %.1f off' %
          (lb, weights, got, chi, off))
    if sum(got) < 50:
        return 1
    # least_request: two choices leave a little chance; round_robin: one that begins in the middle.
    # Processes with one connection each, that did not share their counts, would be random.
    return {'random': chi > CHI_MOST, 'least_request': off > 6, 'round_robin': off > 2.01,
            'many processes': off > 3}[lb]


ASK = {'redis': (b'PING\r\n', b'+PONG\r\n'), 'http': (b'GET / HTTP/1.0\r\n\r\n', b'HTTP/1.1 200 OK\r\n')}


async def once(port, kind):
    """0: answered, 1: the connect failed, 2: cut."""
    try:
        r, w = await asyncio.open_connection('127.0.0.1', port)
    except OSError as e:
        print('connect:', e, flush=True)
        return 1
    try:
        w.write(ASK[kind][0])
        answer = await r.readline()
        w.close()
        return 0 if answer == ASK[kind][1] else 2
    except OSError:
        return 2


async def load(port, path, end, kind):
    count = [0, 0, 0]
    while not os.path.exists(end):
        for how in await asyncio.gather(*[once(port, kind) for _ in range(4)]):
            count[how] += 1
        with open(path + '.new', 'w') as f:
            print(sum(count), count[1], count[2], file=f)
        os.rename(path + '.new', path)


if sys.argv[1] == 'spread':
    sys.exit(spread(sys.argv[2], sys.argv[3], sys.argv[4:]))
asyncio.run(load(int(sys.argv[2]), sys.argv[3], sys.argv[4], (sys.argv[5:] or ['redis'])[0]))
