#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What libmesh does not reach: a static program with system calls of its own (as Go's have), as
# client and as server, under the launcher. As client of a meshed server: served and counted in
# permissive, refused in strict, unread. As server: it is in no registry, so meshed clients speak
# plaintext to it and that is counted, or with egress = "registry_only" may not connect at all. And what a
# daemon executes while its real and its effective user differ, without the preload: counted, too.
. "$(dirname "$0")/lib.sh"
need gcc socat python3.11
NO_MESHD=1 NO_COMPARE=1

conf() {
    case $1 in
    permissive) echo 'mode = "permissive"; detect_timeout = "200ms";' ;;
    strict) echo 'mode = "strict"; egress = "registry_only";' ;;
    esac
}

want() { # what 'pattern' command...
    local what=$1 pattern=$2 got
    shift 2
    got=$(echo "a secret word" | "$@" 2>&1 | tr -d '\0' | tail -1)
    [[ $got =~ ^($pattern)$ ]] || problem "$what: wanted '$pattern', got '$got'"
}
grew() { [ "$(ask sum "$1")" -gt "$2" ]; }

body() {
    local mode said='A SECRET WORD' no='(read|write|shutdown): [A-Z]*|closed'
    gcc -O2 -Wall -static -o static "$E2E/static.c" || return 1
    cat >upper.py <<'END'
import socket
listener = socket.create_server(('127.0.0.1', 18790))
while True:
    s, _ = listener.accept()
    try:
        while data := s.recv(4096):
            s.sendall(data.upper())
    except OSError:
        pass
    s.close()
END
    for mode in permissive strict; do
        if [ "$HALF" = mesh ]; then
            RUN_DIR=$WORK/run-$mode
            RUN="$WORK/lib/mesh-run --run-dir $RUN_DIR"
            PRELOAD="env LD_PRELOAD=$LIBMESH_LIB LIBMESH_RUN_DIR=$RUN_DIR"
            conf $mode >$mode.conf
            MESHD_CONF=$WORK/$mode.conf start_meshd || return 1
        fi
        bg meshed $RUN python3.11 upper.py
        local meshed=$BG
        listening 18790 || return 1
        OFF_MESH=1
        bg static $PRELOAD ./static server 18791
        local static=$BG
        listening 18791 || return 1
        OFF_MESH=
        want "$mode: static to static" "$said" $PRELOAD ./static client 18791
        if [ "$HALF" = bare ] || [ $mode = permissive ]; then
            want "$mode: from a static client" "$said" $PRELOAD ./static client 18790
            want "$mode: to a static server" "$said" $RUN socat -t 60 - TCP:127.0.0.1:18791
        else
            want "$mode: from a static client" "$no" $PRELOAD ./static client 18790
            want "$mode: to a static server" '.*(Permission denied|Connection refused|unreachable)' \
                $RUN socat -t 60 - TCP:127.0.0.1:18791
        fi
        want "$mode: meshed to meshed" "$said" $RUN socat -t 60 - TCP:127.0.0.1:18790
        if [ "$HALF" = mesh ] && [ "$(id -u)" = 0 ]; then
            # Capabilities are nothing new to root, and what is not there is not executed: neither counts.
            $RUN python3.11 -c 'import os, shutil, socket, struct, subprocess
socket.create_server(("127.0.0.1", 18792))
shutil.copy("/bin/true", "capable")
os.setxattr("capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
subprocess.run(["./capable"], check=True)
os.seteuid(65534)
try: subprocess.run(["/nonexistent"])
except OSError: pass
subprocess.run(["true"], check=True)
os.execv("/bin/true", ["true"])' || problem 'real and effective user: it failed'
            until_ok 5 grew execs_outside 1
            [ "$(ask sum execs_outside)" = 2 ] || problem "execs_outside: $(ask sum execs_outside)"
        fi
        if [ "$HALF" = mesh ] && [ $mode = permissive ]; then
            until_ok 5 grew plaintext_in 0
            until_ok 5 grew plaintext_out 0
        elif [ "$HALF" = mesh ]; then
            until_ok 5 grew plaintext_refused 0
            ! grew plaintext_in 0 || problem 'strict: plaintext came in'
        fi
        stop "$meshed"
        stop "$static"
        [ "$HALF" = bare ] || stop "$MESHD"
    done
    MESHD=
}
e2e
