#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# egress = "registry_only": servers of the mesh are reached; an address of this host where nothing
# listens refuses as ever; a listener outside the mesh is not reached, and does not learn of it, unless the
# program was told its address for a name that egress_allow lists: by any of libc's look-ups, also in a child;
# not for another name, another port, in another image, nor when the name is not listed any more.
. "$(dirname "$0")/lib.sh"
need python3 curl mount
ports 18421
pair python3 python3
limit 90
[ -n "$ROOT" ] || LACKS="$LACKS root"

conf() { # HOST...
    local h
    echo 'egress = "registry_only"; egress_allow = ('
    for h in "$@"; do printf '{ host = "%s"; port = 18422; }%s\n' "$h" "$([ "$h" = "${!#}" ] || echo ,)"; done
    echo ');'
}
config() { conf api.outside.test '*.cdn.test'; }
generation() { ask sum reloads status; }
is_newer() { [ "$(generation)" != "$1" ]; }
reload() { # HOST...
    local was
    was=$(generation)
    conf "$@" >"$MESHD_CONF"
    kill -HUP "$MESHD"
    until_ok 10 is_newer "$was"
}

write_programs() {
    cat >server.py <<'P'
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    c, _ = s.accept()
    print('accepted', flush=True)
    c.sendall(c.recv(100)); c.close()
P
    cat >client.py <<'P'
import errno, select, socket, sys
at = (sys.argv[1], int(sys.argv[2]))
for block in True, False:
    s = socket.socket(); s.setblocking(block)
    r = s.connect_ex(at)
    if r == errno.EINPROGRESS:
        select.select([], [s], [], 10); r = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if r == 0:
        s.setblocking(True); s.sendall(b'hello'); print(s.recv(100))
    else: print(errno.errorcode[r])
P
    cat >names.py <<'P'
import ctypes, errno, os, socket, subprocess, sys, time
PORT = 18422
def get(a, port=PORT):
    s = socket.socket()
    r = s.connect_ex((a, port))
    if r == 0:
        s.sendall(b'hello'); r = s.recv(100) and 0
    s.close()
    return errno.errorcode.get(r, 'reached')
class gaicb(ctypes.Structure):
    _fields_ = [('name', ctypes.c_char_p), ('service', ctypes.c_char_p), ('hints', ctypes.c_void_p),
                ('result', ctypes.c_void_p), ('rest', ctypes.c_int * 6)]
def look_up_a(name):
    libc = ctypes.CDLL(None)
    c = gaicb(name=name.encode())
    array = (ctypes.POINTER(gaicb) * 1)(ctypes.pointer(c))
    libc.getaddrinfo_a(1, array, 1, None)
    while libc.gai_error(ctypes.byref(c)) == -100: libc.gai_suspend(array, 1, None) # EAI_INPROGRESS
    assert libc.gai_error(ctypes.byref(c)) == 0
print('never asked:', get('127.0.0.11'))
socket.getaddrinfo('other.test', PORT)
print('another name:', get('127.0.0.19'))
socket.getaddrinfo('API.outside.test', PORT)
print('getaddrinfo:', get('127.0.0.11'), get('127.0.0.11', 18423))
socket.gethostbyname_ex('a.b.cdn.test')
print('gethostbyname_r:', get('127.0.0.12'))
ctypes.CDLL(None).gethostbyname(b'c.cdn.test')
print('gethostbyname:', get('127.0.0.13'))
print('before getaddrinfo_a:', get('127.0.0.14'))
look_up_a('d.cdn.test')
print('getaddrinfo_a:', get('127.0.0.14'))
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    print('child:', get('127.0.0.11'), flush=True); os._exit(0)
os.waitpid(pid, 0)
print('image:', subprocess.run([sys.executable, 'client.py', '127.0.0.11', str(PORT)], capture_output=True, text=True).stdout.split())
def until(name):
    print('waits for', name, flush=True)
    while not os.path.exists(name): time.sleep(0.02)
until('unlisted')
print('not listed any more:', get('127.0.0.11'), 'still:', get('127.0.0.12'), flush=True)
until('listed')
print('again:', get('127.0.0.11'))
P
}

outside() { # ADDRESS
    bg "outside$1" python3 server.py "127.0.0.$1" 18422
}
waits_for() { grep -q "waits for $1" names.log; }

names() {
    local i
    printf '127.0.0.1 localhost\n127.0.0.11 api.outside.test\n127.0.0.12 a.b.cdn.test\n127.0.0.13 c.cdn.test
127.0.0.14 d.cdn.test\n127.0.0.19 other.test\n' >hosts
    mount --bind hosts /etc/hosts
    for i in 11 12 13 14 19; do outside $i; done
    until_ok 20 is_listening 18422 || return 1
    bg other python3 server.py 127.0.0.11 18423
    until_ok 20 is_listening 18423 || return 1
    [ "$($RUN curl -s --http0.9 -m 20 http://api.outside.test:18422/ | head -c 3)" = GET ] || problem 'curl: not reached by its name'
    $RUN curl -s -m 20 http://127.0.0.11:18422/ && problem 'curl: reached by an address that nobody told it'
    bg names $RUN python3 names.py
    until_ok 60 waits_for unlisted || return 1
    reload '*.cdn.test'
    touch unlisted
    until_ok 20 waits_for listed || return 1
    reload api.outside.test
    touch listed
    wait "$BG"
    cat >names.wanted <<'W'
never asked: ECONNREFUSED
another name: ECONNREFUSED
getaddrinfo: reached ECONNREFUSED
gethostbyname_r: reached
gethostbyname: reached
before getaddrinfo_a: ECONNREFUSED
getaddrinfo_a: reached
child: reached
image: ['ECONNREFUSED', 'ECONNREFUSED']
waits for unlisted
not listed any more: ECONNREFUSED still: reached
waits for listed
again: reached
W
    cmp names.log names.wanted || problem "by names: $(diff names.wanted names.log)"
    "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" why python3 127.0.0.11:18422 >why 2>&1
    grep -q 'refused, but in processes that looked up a host' why || problem "why: $(cat why)"
    "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" why python3 API.outside.test:18422 >why 2>&1
    grep -q 'egress_allow has api.outside.test at .*meshd.conf:2' why || problem "why, a name: $(cat why)"
    ! "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" why python3 api.outside.test:1 >why 2>&1 || problem "why, a port: $(cat why)"
}

body() {
    write_programs
    bg meshed $RUN python3 server.py 127.0.0.1 18421
    listening 18421 || return 1
    $RUN python3 client.py 127.0.0.1 18421
    $RUN python3 client.py 127.0.0.1 18429
    $RUN python3 client.py 0.0.0.0 18429
    [ "$HALF" = mesh ] || return 0
    bg outside python3 server.py 127.0.0.1 18422
    until_ok 20 is_listening 18422 || return 1
    [ "$($RUN python3 client.py 127.0.0.1 18422 | sort -u)" = ECONNREFUSED ] ||
        problem 'the listener outside the mesh: not ECONNREFUSED'
    ! grep -q accepted outside.log || problem 'the listener outside the mesh was reached'
    stop "$BG"
    names
}
e2e
