#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The socket parts of CPython's own asyncio tests, its TLS tests included (TLS inside our TLS): the
# set of passing tests is the same as bare (but for cpython-exceptions).
. "$(dirname "$0")/lib.sh"
need python3.11 /usr/lib/python3.11/test/test_socket.py
limit 1200
ports any
WIRE_BARE=''

body() { python3.11 "$E2E/cpython.py" test.test_asyncio.test_sock_lowlevel test.test_asyncio.test_streams \
    test.test_asyncio.test_server test.test_asyncio.test_sendfile \
    test.test_asyncio.test_buffered_proto test.test_asyncio.test_selector_events \
    test.test_asyncio.test_unix_events test.test_asyncio.test_events test.test_asyncio.test_ssl; }
meshed() { [ "$(ask sum handshakes)" -gt 20 ]; }
e2e
