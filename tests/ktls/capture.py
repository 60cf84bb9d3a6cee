#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# capture.py FILE COMMAND...: runs COMMAND while everything on the loopback interface goes to FILE
# (pcap, each packet once). Exit status: the command's.

import socket
import struct
import subprocess
import sys
import threading

OUTGOING = 4  # PACKET_OUTGOING: loopback shows every packet going out and coming in


def collect(sock, out, done):
    while True:
        try:
            data, addr = sock.recvfrom(1 << 17)
        except TimeoutError:
            if done.is_set():
                return
            continue
        if addr[2] != OUTGOING:
            out.write(struct.pack("<IIII", 0, 0, len(data), len(data)) + data)


def main():
    done = threading.Event()
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
    sock.bind(("lo", 0))
    sock.settimeout(0.5)
    with open(sys.argv[1], "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 1 << 17, 1))
        t = threading.Thread(target=collect, args=(sock, out, done))
        t.start()
        status = subprocess.call(sys.argv[2:])
        done.set()
        t.join()
    dropped = struct.unpack("II", sock.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
    if dropped:
        print("not ok capture lost %d packets" % dropped)
    return status


if __name__ == "__main__":
    sys.exit(main())
