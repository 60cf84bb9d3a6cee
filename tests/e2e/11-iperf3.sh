#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# iperf3: forward, reverse, both at once, four streams, and tiny blocks. Control connection and
# streams are non-blocking and select-driven; the server is one process for all runs. (The
# sizes keep within the capture's buffer; speed is `make bench`'s matter. iperf3's receiver stops
# counting when the sender says that it is done, so what it received is not compared.)
. "$(dirname "$0")/lib.sh"
need iperf3 python3
ports 15201
pair iperf3 iperf3

# The server takes one test at a time and is ready again a moment after the client's exit.
run() {
    local n=0
    until timeout 300 $RUN iperf3 -c 127.0.0.1 -p 15201 -J "$@" >out.json 2>&1 ||
        ! grep -q 'busy running a test' out.json || [ $((n += 1)) -gt 100 ]; do :; done
    /usr/bin/python3 - "$*" <<'P'
import json, sys
j = json.load(open('out.json')); e = j['end']
sums = [k for k in e if k.startswith('sum_') and isinstance(e[k], dict)]
got = all(e[k]['bytes'] > 0 for k in sums)
print(sys.argv[1], '|', j.get('error', 'no error'), '|', sorted(sums), got)
P
}
body() {
    bg server $RUN iperf3 -s -B 127.0.0.1 -p 15201
    listening 15201 || return 1
    run -n 24M
    run -n 24M -R
    run -n 10M --bidir
    run -n 16M -P 4
    run -n 4M -l 200 -N
}
e2e
