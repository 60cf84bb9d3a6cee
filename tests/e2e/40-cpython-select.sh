#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# CPython's own tests of select, poll, epoll, selectors, socketserver and http.client, every loopback
# connection meshed: the set of passing tests is the same as bare (but for cpython-exceptions).
. "$(dirname "$0")/lib.sh"
need python3.11 /usr/lib/python3.11/test/test_socket.py
limit 1200
ports any
WIRE_BARE=''

body() { python3.11 "$E2E/cpython.py" test.test_select test.test_selectors test.test_poll test.test_epoll \
    test.test_socketserver test.test_httplib test.test_httpservers test.test_urllib2_localnet; }
meshed() { [ "$(ask sum handshakes)" -gt 20 ]; }
e2e
