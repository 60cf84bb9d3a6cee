#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Python: http.server (a thread for each connection) with urllib, and an asyncio echo server with
# fifty asyncio clients at once, half-close included. Also in one process: both ends in one loop.
. "$(dirname "$0")/lib.sh"
need python3
ports 18110 18111 18112
marker mark-e2e-python-3b6d
pair python3 python3

body() {
    local rc=0
    mkdir www
    echo mark-e2e-python-3b6d >www/hello
    bytes 4000000 4 >www/big
    cat >echo.py <<'P'
import asyncio, sys
async def serve(r, w):
    while data := await r.read(65536):
        w.write(data); await w.drain()
    w.write_eof(); w.close()
async def client(n, port):
    r, w = await asyncio.open_connection('127.0.0.1', port)
    data = (b'mark-e2e-python-3b6d %d ' % n) * (1 + n * 400)
    w.write(data); w.write_eof()
    back = await r.read(-1)
    w.close(); await w.wait_closed()
    return back == data
async def main(what, port):
    if what in ('server', 'both'):
        server = await asyncio.start_server(serve, '127.0.0.1', port)
        if what == 'server': await server.serve_forever()
    print(what, sum(await asyncio.gather(*[client(n, port) for n in range(50)])))
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
P
    cat >get.py <<'P'
import hashlib, urllib.request, urllib.error, http.client
u = 'http://127.0.0.1:18110/'
print(urllib.request.urlopen(u + 'hello').read())
print(hashlib.sha256(urllib.request.urlopen(u + 'big').read()).hexdigest()[:16])
try: urllib.request.urlopen(u + 'missing')
except urllib.error.HTTPError as e: print(e.code, e.reason)
try: urllib.request.urlopen('http://127.0.0.1:18119/')
except urllib.error.URLError as e: print(e.reason)
c = http.client.HTTPConnection('127.0.0.1', 18110)
c.request('HEAD', '/big'); r = c.getresponse(); print(r.status, r.getheader('Content-Length'))
P
    bg http $RUN python3 -m http.server 18110 --bind 127.0.0.1 --directory www
    bg echo $RUN python3 echo.py server 18111
    listening 18110 && listening 18111 || return 1
    $RUN python3 get.py || rc=1
    $RUN python3 echo.py client 18111 || rc=1
    $RUN python3 echo.py both 18112 || rc=1
    grep -c '"GET' http.log
    return $rc
}
e2e
