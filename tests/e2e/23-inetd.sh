#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The way of inetd: a server that hands each connection to a text tool or a shell as its standard
# input and output, which know nothing of sockets and speak stdio. The client is socat.
. "$(dirname "$0")/lib.sh"
need socat python3 bash gawk
ports 18160
marker mark-e2e-inetd-77a1
pair socat python3

body() {
    local rc=0 tool
    cat >inetd.py <<'P'
import signal, socket, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
s = socket.create_server(('127.0.0.1', 18160))
while True:
    c, _ = s.accept()
    tool = b''
    while not tool.endswith(b'\n'):
        tool += c.recv(1)
    subprocess.Popen(['/bin/bash', '-c', tool.decode()], stdin=c, stdout=c, stderr=c)
    c.close()
P
    { for i in {1..3000}; do echo "mark-e2e-inetd-77a1 line $((i * 7919 % 3001))"; done; } >text
    bg inetd $RUN python3 inetd.py
    listening 18160 || return 1
    for tool in 'exec cat' 'exec sed s/line/row/' 'exec grep "[05]\$"' 'exec sort' 'exec tr a-z A-Z' \
        'head -n 2500; exec cat >/dev/null' 'exec wc' 'exec uniq -c' 'exec gawk "{ n += \$3 } END { print n }"' \
        'exec tee /dev/null' 'exec cut -d" " -f2-' 'sort | uniq | wc -l' \
        'while read -r a b n; do ((n % 500)) || echo "$a: $n"; done; echo done' \
        'read -r x; echo "$x"; echo "to stderr" >&2; ls /nowhere; exec sed -n 5p' \
        'printf "%s\n" {1..20000}; exec tail -n 1'; do
        echo "$tool" | cat - text | $RUN socat -t 60 - TCP:127.0.0.1:18160 >got || rc=1
        echo "$tool: $(wc -c <got) bytes $(sha256sum <got | cut -c1-16) $(head -n 1 got | cut -c1-60)"
    done
    return $rc
}
e2e
