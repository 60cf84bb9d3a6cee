#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# peers.py: OpenSSL against programs whose connections are in the kernel: each cipher suite, session
# tickets after the hand-over, alerts, KeyUpdate. The programs are this file under libmesh:
#   peers.py serve       echoes line by line; prints its port; says how each connection ended
#   peers.py ask PORT    sends a line, prints the answer and how the connection ended

import os
import select
import socket
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import meshtest  # noqa: E402

SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")


def serve():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            conn = listener.accept()[0]
            try:
                while data := conn.recv(65536):
                    conn.sendall(data)
                print("end", flush=True)
            except OSError as e:
                print(e.errno and os.strerror(e.errno), flush=True)
            conn.close()


def ask(port):
    with socket.create_connection(("127.0.0.1", port)) as s:
        try:
            for _ in range(3):
                s.sendall(b"hello\n")
                print(s.recv(100).decode().strip(), flush=True)
            s.shutdown(socket.SHUT_WR)
            print("end", len(s.recv(100)), flush=True)
        except OSError as e:
            print(os.strerror(e.errno), flush=True)


def forge(listener, port):
    """Forwards one connection to port; of an answer the last byte is another."""
    near = listener.accept()[0]
    far = socket.create_connection(("127.0.0.1", port))
    asked = 0
    while True:
        ready = select.select([near, far], [], [])[0][0]
        data = ready.recv(65536)
        if not data:
            break
        asked += ready is near and data[0] == 23
        if ready is far and asked == 2:  # the flight begins with ChangeCipherSpec
            data = data[:-1] + bytes([data[-1] ^ 1])
        (far if ready is near else near).sendall(data)
    near.close()
    far.close()


class Test:
    def __init__(self, *ports):
        at = ", ".join('{ addr = "127.0.0.1:%d"; }' % p for p in ports)
        self.meshd = meshtest.Meshd('kernel_tls = "always"; services = ({ name = "peer"; '
                                    'endpoints = (%s); });' % at)
        self.env = meshtest.mesh_env(self.meshd.dir)
        self.certs = os.path.join(self.meshd.dir, "certs")
        subprocess.check_call(["dash", os.path.join(os.path.dirname(HERE), "e2e", "svid"),
                               os.path.join(self.meshd.dir, "state"), self.certs, "peer"])
        crt = os.path.join(self.certs, "peer.")
        self.cert = ["-cert", crt + "crt", "-cert_chain", crt + "crt", "-key", crt + "key",
                     "-CAfile", os.path.join(self.certs, "bundle.crt"), "-verify_return_error"]

    def me(self, *args):
        return subprocess.Popen([sys.executable, __file__, *args], env=self.env, text=True,
                                stdout=subprocess.PIPE)

    def grew(self, name, before):
        try:
            return meshtest.wait_until(lambda: self.meshd.counter(name) > before, 20)
        except TimeoutError:
            return False

    def client(self, suite, lines, port):
        """What s_client shows after it has typed the lines one by one, each answered."""
        p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port,
                              "-ciphersuites", suite, *self.cert], text=True, bufsize=1,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        got = []
        for line, answer in lines:
            p.stdin.write(line + "\n")
            p.stdin.flush()
            while answer and answer not in (got[-1] if got else "") and (out := p.stdout.readline()):
                got.append(out)
            got.append("")
        p.stdin.close()
        got += p.stdout.readlines()
        p.wait()
        return "".join(got)


def result(ok, name, detail=""):
    print("%s %s" % ("ok" if ok else "not ok", name))
    if not ok:
        print("\n".join("  " + l for l in str(detail).splitlines()[-15:]))


def main():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    proxy = socket.create_server(("127.0.0.1", 0))
    t = Test(port, proxy.getsockname()[1])
    server = t.me("serve")
    listening = int(server.stdout.readline())
    meshtest.wait_until(lambda: str(listening) in str(t.meshd.ask("endpoints json")), 10)
    for suite in SUITES:
        before = t.meshd.counter("kernel_tls_connections")
        got = t.client(suite, [("one", "one"), ("two", "two"), ("Q", "")], listening)
        result("one\n" in got and "two\n" in got and suite in got, "peers %s" % suite, got)
        result(t.grew("kernel_tls_connections", before), "peers %s is in the kernel" % suite)
        result(server.stdout.readline() == "end\n", "peers close_notify is the end")

    got = t.client(SUITES[0], [("one", "one"), ("K", "KEYUPDATE"), ("two", "")], listening)
    end = server.stdout.readline()
    if "two\n" in got:  # Linux since 6.14
        result(end == "end\n", "peers KeyUpdate is followed", end)
    else:
        result(end == "Connection reset by peer\n", "peers KeyUpdate ends the connection", end)
        result(t.grew("kernel_tls", 0), "peers KeyUpdate is counted", t.meshd.ask("stats json"))

    s_server = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-rev",
                                 "-Verify", "3", *t.cert],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
    meshtest.wait_until(lambda: ":%04X 00000000:0000 0A" % port in open("/proc/net/tcp").read(), 20)
    before = t.meshd.counter("kernel_tls_connections")
    got = t.me("ask", str(port)).communicate()[0]
    result(got == "olleh\n" * 3 + "end 0\n", "peers tickets after the hand-over", got)
    result(t.grew("kernel_tls_connections", before), "peers the client is in the kernel")
    threading.Thread(target=forge, args=(proxy, port)).start()
    got = t.me("ask", str(proxy.getsockname()[1])).communicate()[0]
    result(got.endswith("Connection reset by peer\n"), "peers a forged record", got)
    result(t.grew("bad_mac", 0), "peers a forged record is counted")

    before = t.meshd.counter("eof_without_close_notify")
    got = t.me("ask", str(listening)).communicate()[0]
    result(got == "hello\n" * 3 + "end 0\n" and server.stdout.readline() == "end\n",
           "peers both in the kernel", got)
    result(t.meshd.counter("eof_without_close_notify") == before, "peers close_notify is sent")
    for p in (s_server, server):
        p.terminate()
        p.wait()
    t.meshd.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["ask"]:
        ask(int(sys.argv[2]))
    else:
        main()
