#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# No meshd at all: the first TCP connect or listen waits LIBMESH_WAIT, fails with ENETDOWN and one
# line on stderr; everything that is not TCP goes on at once; LIBMESH_FALLBACK=pass passes through;
# LIBMESH=off is inert; and a meshd that comes during the wait is found, also by a process that had attached and then
# lost it before it had its certificate. Also the launcher's errors.
. "$(dirname "$0")/lib.sh"
need python3 openssl
NO_MESHD=1 NO_COMPARE=1

# expect NAME 'PATTERN' MIN MAX CMD...: what it prints, and the milliseconds it takes. What must not wait is run with a
# wait that is longer than MAX, so that a busy machine does not look like one.
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

# lost WAIT 'WHAT IT PRINTS' CALL...: a program that has attached and pauses when its meshd is killed.
lost() {
    local wait=$1
    LOST_PRINTS=$2
    shift 2
    rm -f go lost.*
    mkfifo go
    exec 9<>go
    $PRELOAD LIBMESH_WAIT=$wait python3 try.py "$@" <go >lost.out 2>lost.err 9<&- &
    LOST=$!
    until_ok 10 grep -q paused lost.err || return 1
    stop "$MESHD" -KILL
    return 0
}
tell() { echo >&9; }
check_lost() { grep -qx "$LOST_PRINTS" lost.out || problem "lost: $(cat lost.out lost.err)"; }
# It tries again and again.
switches() { awk '/^voluntary/ { print $2 }' "/proc/$1/status"; }
tries() { [ "$(switches "$1")" -gt $((LOST_AT + 5)) ]; }

body() {
    cat >try.py <<'P'
import errno, os, socket, sys, time
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
def look_up(): socket.getaddrinfo('localhost', 1) # this attaches, no more
def pause(): print('paused', file=sys.stderr, flush=True); sys.stdin.readline()
def waited():
    at = time.monotonic()
    try: listen()
    except OSError as e: raise OSError(errno.ETIME if time.monotonic() - at > 0.69 else errno.EAGAIN, '') from e
print(' '.join(name(globals()[w]) for w in sys.argv[1:]))
P
    # Something that listens, outside of any mesh.
    bg plain python3 -m http.server 18301 --bind 127.0.0.1
    OFF_MESH=1 listening 18301 || return 1
    expect bare 'ok ok ok ok' 0 30000 python3 try.py connect listen udp unix
    [ "$HALF" = mesh ] || return 0

    local e=$PRELOAD
    mkdir -p "$RUN_DIR"
    expect connect ENETDOWN 700 15000 $e LIBMESH_WAIT=700ms python3 try.py connect
    one_line connect 1
    expect listen ENETDOWN 700 15000 $e LIBMESH_WAIT=700ms python3 try.py listen
    one_line listen 1
    expect default ENETDOWN 3000 20000 env -u LIBMESH_WAIT $e python3 try.py connect
    # The wait is the process's, not each call's.
    expect twice 'ENETDOWN ENETDOWN ENETDOWN' 5000 10000 $e LIBMESH_WAIT=5s python3 try.py connect connect listen
    one_line twice 1
    expect others 'ok ok' 0 30000 $e LIBMESH_WAIT=40s python3 try.py udp unix
    one_line others 0
    expect pass 'ok ok' 700 15000 $e LIBMESH_WAIT=700ms LIBMESH_FALLBACK=pass python3 try.py connect listen
    expect off 'ok ok ok ok' 0 30000 $e LIBMESH_WAIT=40s LIBMESH=off python3 try.py connect listen udp unix
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
    $e LIBMESH_WAIT=60s python3 try.py listen connect >late.out 2>late.err &
    local late=$!
    until_ok 10 grep -q libmesh.so /proc/$late/maps
    start_meshd || return 1
    wait $late
    grep -qx 'ok ok' late.out || problem "late: $(cat late.out late.err)"
    # It goes away between what attaches a program and what asks for its certificate.
    lost 700ms 'ok ok ETIME EAGAIN' look_up pause waited waited || return 1
    tell
    wait $LOST
    check_lost
    [ "$(grep -cv paused lost.err)" = 1 ] || problem "lost: one line: $(cat lost.err)"
    start_meshd || return 1
    lost 60s 'ok ok ok' look_up pause listen || return 1
    LOST_AT=$(switches $LOST)
    tell
    until_ok 10 tries $LOST || return 1
    start_meshd || return 1
    wait $LOST
    check_lost
    # And one that was there before goes on without a meshd.
    $RUN true || problem "launcher with meshd: $?"
    $PRELOAD $l --run-dir "$RUN_DIR" sh -c 'echo $LD_PRELOAD' >twice.out
    [ "$(tr ': ' '\n\n' <twice.out | grep -c libmesh.so)" = 1 ] || problem "twice: $(cat twice.out)"
}
e2e
