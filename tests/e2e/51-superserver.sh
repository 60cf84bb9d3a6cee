#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Super-servers, xinetd and openbsd-inetd (whichever is installed): they accept, fork, and execute a
# service whose standard input, output and error are the connection. cat; a dash script that runs
# other programs on it; perl and python as nobody; a waiting service, which gets the listener itself;
# and busybox, static, which libmesh cannot be in: the relay carries it. Busybox as an HTTP server, too, and
# as what a shell runs on a connection of its own.
. "$(dirname "$0")/lib.sh"
need socat perl python3.11 busybox bash curl
command -v xinetd >/dev/null || need inetd
ports 18710 18711 18712 18713 18714 18715 18716
marker mark-e2e-inetd-83d1
for s in xinetd inetd; do # whose certificate the services show; a waiting service accepts itself
    ! command -v $s >/dev/null || pair socat $s
done
pair socat python3.11

services() {
    cat >greet.sh <<'END'
#!/bin/dash
read -r name
echo "hello $name, I am $(id -un)"
echo "to standard error" >&2
cat "$0" | dd status=none
exec cat
END
    cat >upper.pl <<'END'
$| = 1;
while (<STDIN>) { print uc; }
END
    cat >sum.py <<'END'
import os, socket, sys
s = socket.socket(fileno=0)
got = sys.stdin.buffer.read()
print(s.family.name, s.type.name, os.getuid() != 0, len(got), sum(got) % 9973, flush=True)
END
    cat >wait.py <<'END'
import socket
listener = socket.socket(fileno=0)
for i in range(3):
    s, _ = listener.accept()
    s.sendall(b'%d: ' % i + s.recv(100))
    s.close()
END
    # The shell's own reads take what busybox has asked for, and it goes on where they stopped.
    cat >shell.sh <<'END'
exec 3<>/dev/tcp/127.0.0.1/18716
busybox printf 'GET /data HTTP/1.0\r\n\r\n' >&3
while read -r line <&3 && [ "$line" != $'\r' ]; do echo "${line%%:*}"; done
busybox cat <&3 | busybox cmp - data && echo 'the rest: same'
END
    mkdir www && ln data www/
    chmod 755 greet.sh
}

# number user wait program arguments...
table() {
    local py=/usr/bin/python3.11
    "$1" 18710 root no /usr/bin/cat
    "$1" 18711 root no "$WORK/greet.sh"
    "$1" 18712 nobody no /usr/bin/perl "$WORK/upper.pl"
    "$1" 18713 nobody no $py "$WORK/sum.py"
    "$1" 18714 nobody yes $py "$WORK/wait.py"
    "$1" 18715 root no /usr/bin/busybox cat
    "$1" 18716 root no /usr/bin/busybox httpd -i -h "$WORK/www"
}
xinetd_line() {
    local args=${*:5}
    printf 'service s%s\n{\ntype = UNLISTED\nport = %s\nbind = 127.0.0.1\nsocket_type = stream\n' \
        "$1" "$1"
    printf 'protocol = tcp\nwait = %s\nuser = %s\nserver = %s\ninstances = UNLIMITED\n' "$3" "$2" "$4"
    [ -z "$args" ] || printf 'server_args = %s\n' "$args"
    printf '}\n'
}
inetd_line() {
    local wait=nowait
    [ "$3" = no ] || wait=wait
    printf '127.0.0.1:%s stream tcp %s %s %s %s\n' "$1" $wait "$2" "$4" "$(basename "$4") ${*:5}"
}

talk() { $RUN socat -t 60 - "TCP:127.0.0.1:$1"; }

clients() {
    local rc=0 p pids=()
    for p in 18710 18711 18712 18713 18714 18715 18716; do listening $p || return 1; done
    echo mark-e2e-inetd-83d1 | talk 18710
    talk 18710 <data | cmp - data && echo 'cat: same' || rc=1
    { echo world; echo 'and the rest'; } | talk 18711 2>&1
    printf 'one\ntwo\n' | talk 18712
    talk 18713 <data
    for p in a b c; do echo "waiting $p" | talk 18714; done
    echo 'static busybox' | talk 18715
    talk 18715 <data | cmp - data && echo 'busybox: same' || rc=1
    for p in 1 2; do
        $RUN curl -sS http://127.0.0.1:18716/data | cmp - data && echo 'busybox httpd: same' || rc=1
        $RUN bash shell.sh || rc=1
    done
    for p in 1 2 3 4 5 6 7 8; do
        talk 18710 <data >"many.$p" &
        pids+=($!)
    done
    wait "${pids[@]}"
    for p in 1 2 3 4 5 6 7 8; do cmp "many.$p" data || rc=1; done
    return $rc
}

body() {
    local rc=0
    bytes 600000 5 >data
    services
    if command -v xinetd >/dev/null; then
        table xinetd_line >xinetd.conf
        bg xinetd $RUN xinetd -dontfork -f "$WORK/xinetd.conf" -pidfile "$WORK/pid"
        clients || rc=1
        stop "$BG"
    fi
    if command -v inetd >/dev/null; then
        table inetd_line >inetd.conf
        bg inetd $RUN inetd -i "$WORK/inetd.conf"
        clients || rc=1
    fi
    return $rc
}
meshed() { [ "$(ask sum relays)" -ge 2 ] && [ "$(ask sum exec)" = 0 ]; }
e2e
