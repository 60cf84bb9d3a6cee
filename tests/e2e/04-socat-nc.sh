#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# socat (a child for each connection, select) and nc (poll): an echo of 3 MB with half-close, a
# one-way sender that closes at once, a port probe, and a connection refused.
. "$(dirname "$0")/lib.sh"
need socat nc
ports 18090 18091 18092
marker mark-e2e-socat-91c3
pair socat socat
pair nc nc

body() {
    local rc=0
    bytes 3000000 5 >data
    bg echo $RUN socat TCP-LISTEN:18090,bind=127.0.0.1,reuseaddr,fork EXEC:cat
    bg once $RUN socat TCP-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork \
        SYSTEM:'read x; echo "got $x"'
    bg sink bash -c "exec $RUN nc -l -k 127.0.0.1 18092 >sunk"
    listening 18090 && listening 18091 && listening 18092 || return 1
    $RUN socat -t 60 - TCP:127.0.0.1:18090 <data | cmp - data && echo 'echo: same' || rc=1
    echo mark-e2e-socat-91c3 | $RUN socat -t 60 - TCP:127.0.0.1:18091
    echo mark-e2e-socat-91c3 | $RUN nc -N 127.0.0.1 18091
    $RUN nc -N 127.0.0.1 18090 <data | cmp - data && echo 'echo: same' || rc=1
    $RUN nc -N 127.0.0.1 18092 <data || rc=1
    until_ok 20 cmp sunk data || rc=1
    echo 'second sender' | $RUN nc -N 127.0.0.1 18092
    until_ok 20 grep -qa 'second sender' sunk || rc=1
    $RUN nc -z -v 127.0.0.1 18092 2>&1
    $RUN nc -z -v 127.0.0.1 18099 2>&1
    echo "refused: $?"
    $RUN socat - TCP:127.0.0.1:18099 </dev/null 2>&1 | sed 's/.* [EW] //'
    return $rc
}
e2e
