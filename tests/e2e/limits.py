#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""limits: what 71-limits.sh needs of a non-blocking client (asyncio): one line of what it saw.

limits.py once PORT BYTES     connects, SETs that many bytes in Redis, GETs them back; while a clock ticks
limits.py many PORT N         N connections at once that stay until all have asked: how many were answered
"""
import asyncio
import errno
import sys


def name(e):
    if isinstance(e, (asyncio.IncompleteReadError, EOFError)):
        return 'EOF'
    return errno.errorcode.get(e.errno, repr(e)) if isinstance(e, OSError) else repr(e)


async def clock(ticks):
    while True:
        await asyncio.sleep(0.02)
        ticks.append(1)


async def ask(port, size):
    r, w = await asyncio.open_connection('127.0.0.1', port)
    data = bytes(i % 251 for i in range(size))
    w.write(b'*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$%d\r\n%s\r\n' % (size, data))
    ok = await r.readexactly(5)
    w.write(b'*2\r\n$3\r\nGET\r\n$1\r\nb\r\n')
    size_line = await r.readline()
    if not size_line:
        raise EOFError
    back = await r.readexactly(size + 2)
    w.close()
    return ok == b'+OK\r\n' and size_line == b'$%d\r\n' % size and back[:-2] == data


async def once(port, size):
    ticks = []
    task = asyncio.ensure_future(clock(ticks))
    begin = asyncio.get_running_loop().time()
    try:
        saw = 'same' if await ask(port, size) else 'DIFFERENT'
    except (OSError, EOFError) as e:
        saw = name(e)
    took = asyncio.get_running_loop().time() - begin
    task.cancel()
    print(saw, 'ms %d' % (took * 1000), 'ticks %d' % len(ticks))


async def many(port, n):
    ends, asked = asyncio.Event(), []

    async def one():
        try:
            r, w = await asyncio.open_connection('127.0.0.1', port)
            w.write(b'PING\r\n')
            answer = await r.readline()
            asked.append('answered' if answer == b'+PONG\r\n' else 'EOF')
        except OSError as e:
            asked.append(name(e))
        if len(asked) == n:
            ends.set()
        await ends.wait()

    await asyncio.gather(*(one() for _ in range(n)))
    print(', '.join('%s %d' % (k, asked.count(k)) for k in sorted(set(asked))))


if __name__ == '__main__':
    what = {'once': once, 'many': many}[sys.argv[1]]
    asyncio.run(what(int(sys.argv[2]), int(sys.argv[3])))
