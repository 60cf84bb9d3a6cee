#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clients: what 76-breakers.sh, 77-clients.sh and 78-tiers.sh need of programs that connect.

clients.py slices PORT WHO SECONDS N    connects to redis without pause and asks "GET who"; prints for each of N
                                        slices of that many seconds how many answers there were and how many from
                                        WHO. Exit 1 unless that share is small first, is higher in each slice
                                        than in the last but one, and in the end that of one of two
clients.py whos PORT N                  N such connections, one after the other: who answered how often
clients.py asyncio PORT N               N connects at once, each with a request for /page: a line for each with
                                        its milliseconds, or "failed"
clients.py hits MS LIMIT                from such lines on stdin: how many connects took MS or more; exit 1 unless
                                        some did, some did not, and none failed or took LIMIT
clients.py postgres PORT FILE END       psycopg2: connects, in turn blocking and not, and asks for the server's
                                        port, again and again until END exists; FILE holds: connects, how many
                                        failed, the last answer
"""
import asyncio
import os
import select
import socket
import sys
import time


def who(port):
    with socket.create_connection(('127.0.0.1', port)) as s:
        s.sendall(b'GET who\r\n')
        with s.makefile() as f:
            f.readline()
            return f.readline().strip()


def whos(port, n):
    got = [who(port) for _ in range(n)]
    print(' '.join('%s=%d' % (w, got.count(w)) for w in sorted(set(got))))


def slices(port, name, seconds, n):
    got = [[0, 0] for _ in range(n)]
    begin = time.monotonic()
    while (i := int((time.monotonic() - begin) / seconds)) < n:
        got[i][0] += 1
        got[i][1] += who(port) == name
    share = [b / a if a else 0 for a, b in got]
    print('slow start: in slices of %d s %s: %s' % (seconds, name, ', '.join(
        '%d of %d (%.0f %%)' % (b, a, 100 * s) for (a, b), s in zip(got, share))))
    grows = all(share[i] < share[i + 2] for i in range(n - 3))
    return 0 if grows and share[0] < 0.27 and share[-1] > 0.44 else 1


async def page(port):
    begin = time.monotonic()
    try:
        r, w = await asyncio.open_connection('127.0.0.1', port)
        took = time.monotonic() - begin
        w.write(b'GET /page HTTP/1.0\r\n\r\n')
        answer = await r.read()
        w.close()
        print('%d' % (took * 1000) if b' 200 ' in answer else 'failed: %r' % answer[:40])
    except OSError as e:
        print('failed:', e)


async def pages(port, n):
    await asyncio.gather(*(page(port) for _ in range(n)))


def hits(least, limit):
    lines = [line.strip() for line in sys.stdin]
    took = sorted(int(float(line)) for line in lines if line.replace('.', '').isdigit())
    slow = [t for t in took if t >= least]
    failed = len(lines) - len(took)
    print('%d connects, %d failed, %d took %d ms or more, the longest of them %d ms' %
          (len(lines), failed, len(slow), least, max(slow, default=0)))
    return 0 if slow and len(slow) < len(took) and slow[-1] < limit and not failed else 1


def wait_pg(c):
    """[psycopg2, asynchronous support]"""
    from psycopg2 import extensions
    while (state := c.poll()) != extensions.POLL_OK:
        fds = [c.fileno()]
        select.select(fds if state == extensions.POLL_READ else [], fds if state == extensions.POLL_WRITE else [], [])


def ask_pg(port, nonblocking):
    import psycopg2
    dsn = 'host=127.0.0.1 port=%d user=postgres connect_timeout=60' % port
    c = psycopg2.connect(dsn, async_=nonblocking)
    if nonblocking:
        wait_pg(c)
    q = c.cursor()
    q.execute('SHOW port')
    if nonblocking:
        wait_pg(c)
    answer = q.fetchone()[0]
    c.close()
    return answer


def postgres(port, path, end):
    import psycopg2
    n = failed = 0
    answer = '-'
    while not os.path.exists(end):
        n += 1
        try:
            answer = ask_pg(port, n % 2)
        except psycopg2.Error as e:
            # A server that is killed, or starts, has answered the connect: that is no failed one.
            answered = any(w in str(e) for w in ('FATAL', 'server closed'))
            refused = 'connection to server' in str(e) and not answered
            failed += refused
            print('connect' if refused else 'cut', n % 2, e, flush=True)
        with open(path + '.new', 'w') as f:
            print(n, failed, answer, file=f)
        os.rename(path + '.new', path)


if __name__ == '__main__':
    what, args = sys.argv[1], sys.argv[2:]
    if what == 'slices':
        sys.exit(slices(int(args[0]), args[1], int(args[2]), int(args[3])))
    elif what == 'whos':
        whos(int(args[0]), int(args[1]))
    elif what == 'asyncio':
        asyncio.run(pages(int(args[0]), int(args[1])))
    elif what == 'hits':
        sys.exit(hits(int(args[0]), int(args[1])))
    else:
        postgres(int(args[0]), args[1], args[2])
