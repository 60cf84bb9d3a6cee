#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# CPython's own test_socket: blocking, timeouts, non-blocking, recvmsg and sendmsg in all shapes,
# half-close, sendfile, connect then accept in one thread. The set of passing tests is the same as
# bare (but for cpython-exceptions).
. "$(dirname "$0")/lib.sh"
need python3.11 /usr/lib/python3.11/test/test_socket.py
limit 1200
ports any
marker 'Michael Gilfix was here'

body() { python3.11 "$E2E/cpython.py" test.test_socket; }
meshed() { [ "$(ask sum handshakes)" -gt 20 ]; }
e2e
