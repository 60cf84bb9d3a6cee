#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Meshed servers that speak TLS themselves, and clients outside the mesh, in the default mode: a hello that names
# the server or the protocol it wants is the program's own, also when it comes byte by byte, and who waits for the rest
# of one does not spin. Clients of the mesh are told from them. Strict takes none.
. "$(dirname "$0")/lib.sh"
need nginx curl wget openssl python3
pair curl nginx
pair curl python3

web() { echo "https://$1:18820/$2"; }
fetch() { # WHAT CMD...: what came of /proto, and of a larger file
    local what=$1
    shift
    echo "$what: $("$@" "$(web $HOST proto)" 2>&1 | tail -1) $("$@" "$(web $HOST big)" 2>/dev/null | sum)"
}
s_client() {
    rm -f said # at the end of its input it may end without a word
    until_ok 10 grep -q Verif said | openssl s_client -connect 127.0.0.1:18820 -CAfile cert.pem -brief "$@" >said 2>&1
    echo "s_client $*: $(grep -E 'Verif|version' said || cat said)"
}

body() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
        -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -days 2 2>/dev/null
    mkdir www
    bytes 1000000 6 >www/big
    cat >nginx.conf <<C
worker_processes 2;
pid $WORK/nginx.pid;
daemon off;
events { }
http {
    access_log off;
    ssl_certificate $WORK/cert.pem;
    ssl_certificate_key $WORK/key.pem;
    $(nginx_paths)
    server {
        listen 127.0.0.1:18820 ssl http2;
        ssl_protocols TLSv1.2 TLSv1.3;
        root $WORK/www;
        location /proto { return 200 "\$ssl_protocol \$server_protocol \$ssl_server_name\n"; }
    }
}
C
    cat >server.py <<'P'
import http.server, ssl
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = (self.connection.version() + '\n').encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
s = http.server.ThreadingHTTPServer(('127.0.0.1', 18821), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain('cert.pem', 'key.pem')
s.socket = c.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
s.serve_forever()
P
    # Who speaks first, in one thread that then waits for all that comes.
    cat >first.py <<'P'
import socket
l = socket.create_server(('127.0.0.1', 18822))
while True:
    s, _ = l.accept()
    s.sendall(b'220 ready\r\n')
    n = 0
    while d := s.recv(100): n += len(d)
    s.sendall(b'%d\n' % n)
    s.close()
P
    # The hello in pieces, each of them there before the next one goes; half of it, and a while; half, and the end.
    cat >pieces.py <<'P'
import os, socket, ssl, sys, time
port, pid, size = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
c = ssl.create_default_context(cafile='cert.pem')
def begin():
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    t = c.wrap_bio(i, o, server_hostname='localhost')
    try: t.do_handshake()
    except ssl.SSLWantReadError: pass
    s = socket.create_connection(('127.0.0.1', port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s, t, i, o, o.read()
def run(s, i, o, step):
    while True:
        try: return step()
        except ssl.SSLWantReadError:
            s.sendall(o.read())
            i.write(s.recv(65536))
def spins():
    before, at = spent(), time.monotonic()
    time.sleep(1) # what it does meanwhile is judged
    return spent() - before > 0.5 * (time.monotonic() - at)
def spent():
    with open('/proc/%d/stat' % pid) as f: return sum(map(int, f.read().rsplit(')')[1].split()[11:13])) / os.sysconf('SC_CLK_TCK')
s, t, i, o, hello = begin()
if port == 18822:
    s.sendall(hello[:size])
    print('spins', spins())
    s.sendall(hello[size:])
    s.shutdown(socket.SHUT_WR)
    got = b''
    while d := s.recv(100): got += d
    print(got == b'220 ready\r\n%d\n' % len(hello))
    sys.exit()
for k in range(0, 50):
    s.sendall(hello[k * size:(k + 1) * size])
    while s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28] != bytes(4): time.sleep(0.001) # tcpi_unacked
s.sendall(hello[50 * size:])
run(s, i, o, t.do_handshake)
t.write(b'GET /proto HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
s.sendall(o.read())
print(run(s, i, o, lambda: t.read(65536)).split()[1].decode())
s, t, i, o, hello = begin()
s.sendall(hello[:len(hello) // 2])
print('spins', spins())
s.shutdown(socket.SHUT_WR)
print('end', s.recv(100))
P
    bg nginx $RUN nginx -e "$WORK/nginx.err" -p "$WORK/" -c "$WORK/nginx.conf"
    listening 18820 || return 1
    bg server $RUN python3 server.py
    local server=$BG worker
    listening 18821 || return 1
    bg first $RUN python3 first.py
    local first=$BG
    listening 18822 || return 1
    worker=$(ps -o pid= --ppid "$(cat nginx.pid)" | head -1)
    local HOST=localhost ca="--cacert cert.pem"
    for HOST in localhost 127.0.0.1; do
        fetch curl curl -sS $ca
        fetch http/1.1 curl -sS $ca --http1.1
        fetch tls1.2 curl -sS $ca --tls-max 1.2
    done
    HOST=localhost
    fetch 'only a name' curl -sS $ca --no-alpn
    fetch wget wget -qO- --ca-certificate cert.pem
    s_client -servername localhost
    s_client -alpn h2
    echo "python: $(curl -sS $ca https://localhost:18821/) $(wget -qO- --ca-certificate cert.pem https://localhost:18821/)"
    echo "plain: $(curl -sS http://127.0.0.1:18820/ | grep -o '<title>.*</title>')"
    local size
    for size in 1 4 10; do
        echo "by $size: $(python3 pieces.py 18820 "$worker" $size 2>&1 | tr '\n' ' ')"
    done
    for size in 1 3 100; do
        echo "first $size: $(python3 pieces.py 18822 "$first" $size 2>&1 | tr '\n' ' ')"
    done
    echo "by 7: $(python3 pieces.py 18821 "$server" 7 2>&1 | tr '\n' ' ')"
    # Clients of the mesh, theirs inside of ours.
    fetch meshed $RUN curl -sS $ca
    echo "python: $($RUN curl -sS $ca https://localhost:18821/)"
}

meshed() {
    [ "$(ask sum plaintext_in)" -gt 20 ] || problem "plaintext_in: $(ask sum plaintext_in)"
    # Who names nothing cannot be told from a client of the mesh.
    ! curl -sS --cacert cert.pem --no-alpn https://127.0.0.1:18820/proto 2>/dev/null || problem 'no name: was served'
}
e2e
