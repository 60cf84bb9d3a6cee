#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# CPython's own tests of multiprocessing over TCP, in its three ways to make a process (fork, spawn:
# fork and exec, forkserver: by a process that gets its work over a Unix socket): listeners, clients,
# connections passed on as descriptors, waiting; and of subprocess, with and without posix_spawn and
# vfork. The set of passing tests is the same as bare.
. "$(dirname "$0")/lib.sh"
need python3.11 /usr/lib/python3.11/test/_test_multiprocessing.py
limit 600
ports any
pair python3.11 python3.11

body() {
    local m c names=()
    for m in fork spawn forkserver; do
        for c in WithProcessesTestListener WithProcessesTestListenerClient \
            WithThreadsTestListenerClient WithProcessesTestPicklingConnections \
            TestWait.test_wait_socket TestTimeouts; do
            names+=("test.test_multiprocessing_$m.$c")
        done
    done
    python3.11 "$E2E/cpython.py" "${names[@]}" test.test_subprocess.ProcessTestCase \
        test.test_subprocess.POSIXProcessTestCase
}
e2e
