#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Socket activation: systemd-socket-activate listens and executes the service at the first connection,
# with the listener as descriptor 3 (LISTEN_FDS), or for each connection with it as standard input and
# output (--inetd -a); the same with a launcher that is not in the mesh itself (then the port is known
# only when the service has started). The service gives up root.
. "$(dirname "$0")/lib.sh"
need systemd-socket-activate python3.11 curl socat
ports 18770 18771 18772
marker mark-e2e-activation-4f4c
pair curl python3.11
pair socat systemd-socket-activate

body() {
    local rc=0 p py=/usr/bin/python3.11 lib=''
    bytes 500000 5 >data
    cat >serve.py <<'END'
import http.server, os, socket
assert os.environ['LISTEN_FDS'] == '1' and int(os.environ['LISTEN_PID']) == os.getpid()
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H, bind_and_activate=False)
s.socket = socket.socket(fileno=3)
if os.getuid() == 0:
    os.setuid(65534)
s.serve_forever()
END
    bg first $RUN systemd-socket-activate -l 127.0.0.1:18770 $py "$WORK/serve.py"
    listening 18770
    bg each $RUN systemd-socket-activate -l 127.0.0.1:18771 --inetd -a /usr/bin/cat
    listening 18771
    # Only the service is in the mesh, as with systemd itself.
    [ "$HALF" = bare ] || lib="-E LD_PRELOAD=$LIBMESH_LIB -E LIBMESH_RUN_DIR=$RUN_DIR"
    OFF_MESH=1
    bg plain systemd-socket-activate -l 127.0.0.1:18772 $lib $py "$WORK/serve.py"
    listening 18772
    : </dev/tcp/127.0.0.1/18772 # not a byte: it starts the service, which registers
    OFF_MESH=
    listening 18772
    echo mark-e2e-activation-4f4c | $RUN curl -sS --data-binary @- http://127.0.0.1:18770/
    for p in 18770 18772; do
        $RUN curl -sS --data-binary @data http://127.0.0.1:$p/ | cmp - data && echo "$p: same" || rc=1
    done
    $RUN socat -t 60 - TCP:127.0.0.1:18771 <data | cmp - data && echo 'cat: same' || rc=1
    return $rc
}
e2e
