#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# No meshd at all: the first TCP connect or listen waits LIBMESH_WAIT, fails with ENETDOWN and one
# line on stderr; everything that is not TCP goes on at once; LIBMESH_FALLBACK=pass passes through;
# LIBMESH=off is inert; and a meshd that comes during the wait is found. Also the launcher's errors.
. "$(dirname "$0")/lib.sh"
need python3 openssl
NO_MESHD=1 NO_COMPARE=1

# expect NAME 'PATTERN' MIN MAX CMD...: what it prints, and the seconds it takes.
expect() {
    local name=$1 pattern=$2 min=$3 max=$4 start end
    shift 4
    start=$(date +%s%N)
    "$@" >"$name.out" 2>"$name.err"
    end=$(((($(date +%s%N) - start) / 1000000)))
    grep -qxE "$pattern" "$name.out" ||
        problem "$name: wanted '$pattern', got: $(cat "$name.out" "$name.err" | tail -3)"
    [ $end -ge $min ] && [ $end -le $max ] || problem "$name: took $end ms, not $min to $max"
}
one_line() {
    [ "$(wc -l <"$1.err")" = "$2" ] || problem "$1: wanted $2 lines on stderr: $(cat "$1.err")"
}

body() {
    cat >try.py <<'P'
import errno, os, socket, sys
def name(f):
    try: f(); return 'ok'
    except OSError as e: return errno.errorcode[e.errno]
def connect(): socket.create_connection(('127.0.0.1', 18301)).close()
def listen():
    s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
def udp():
    a = socket.socket(type=socket.SOCK_DGRAM); a.bind(('127.0.0.1', 0))
    a.sendto(b'x', a.getsockname()); a.recv(1)
def unix():
    s = socket.socket(socket.AF_UNIX); s.bind('\0e2e-%d' % os.getpid()); s.listen()
    c = socket.socket(socket.AF_UNIX); c.connect(s.getsockname())
    a, b = socket.socketpair(); a.send(b'x'); b.recv(1)
print(' '.join(name(globals()[w]) for w in sys.argv[1:]))
P
    # Something that listens, outside of any mesh.
    bg plain python3 -m http.server 18301 --bind 127.0.0.1
    OFF_MESH=1 listening 18301 || return 1
    expect bare 'ok ok ok ok' 0 2000 python3 try.py connect listen udp unix
    [ "$HALF" = mesh ] || return 0

    local e=$PRELOAD
    mkdir -p "$RUN_DIR"
    expect connect ENETDOWN 700 2500 $e LIBMESH_WAIT=700ms python3 try.py connect
    one_line connect 1
    expect listen ENETDOWN 700 2500 $e LIBMESH_WAIT=700ms python3 try.py listen
    one_line listen 1
    expect default ENETDOWN 3000 5500 $e python3 try.py connect
    # The wait is the process's, not each call's.
    expect twice 'ENETDOWN ENETDOWN ENETDOWN' 700 2000 $e LIBMESH_WAIT=700ms python3 try.py connect connect listen
    one_line twice 1
    expect others 'ok ok' 0 600 $e LIBMESH_WAIT=20s python3 try.py udp unix
    one_line others 0
    expect pass 'ok ok' 700 2500 $e LIBMESH_WAIT=700ms LIBMESH_FALLBACK=pass python3 try.py connect listen
    expect off 'ok ok ok ok' 0 1000 $e LIBMESH=off python3 try.py connect listen udp unix
    one_line off 0

    # The launcher says what is missing, in one line, and runs nothing.
    local l=$WORK/lib/mesh-run
    $l --run-dir "$RUN_DIR" true 2>l1 && problem 'launcher: no meshd.sock, and yet it ran'
    grep -q 'meshd.sock is missing' l1 || problem "launcher: $(cat l1)"
    $l --run-dir "$WORK/nowhere" true 2>l2 && problem 'launcher: no directory, and yet it ran'
    LIBMESH_LIB=$WORK/nothing.so $l --run-dir "$RUN_DIR" true 2>l3 && problem 'launcher: no library'
    grep -q 'nothing.so is not there' l3 || problem "launcher: $(cat l3)"
    [ "$(cat l1 l2 l3 | wc -l)" = 3 ] || problem "launcher: one line each: $(cat l1 l2 l3)"
    [ "$(LIBMESH=off $l echo ran)" = ran ] || problem 'launcher: LIBMESH=off does not run'

    # meshd comes while a program waits for it.
    $e LIBMESH_WAIT=20s python3 try.py listen connect >late.out 2>late.err &
    local late=$!
    until_ok 10 grep -q libmesh.so /proc/$late/maps
    start_meshd || return 1
    wait $late
    grep -qx 'ok ok' late.out || problem "late: $(cat late.out late.err)"
    # And one that was there before goes on without a meshd.
    $RUN true || problem "launcher with meshd: $?"
    LD_PRELOAD=$LIBMESH_LIB $l --run-dir "$RUN_DIR" sh -c 'echo $LD_PRELOAD' >twice.out
    [ "$(tr ': ' '\n\n' <twice.out | grep -c libmesh.so)" = 1 ] || problem "twice: $(cat twice.out)"
}
e2e
