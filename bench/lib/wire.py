# SPDX-License-Identifier: Apache-2.0
"""What two proxies agree on between themselves: their server hello, read from the wire."""
import socket
import time

ETH_P_IP = 0x0800
TLS13, X25519 = 0x0304, 0x001d
SUITES = {0x1301: 'TLS_AES_128_GCM_SHA256', 0x1302: 'TLS_AES_256_GCM_SHA384', 0x1303: 'TLS_CHACHA20_POLY1305_SHA256'}
GROUPS = {X25519: 'X25519', 0x0017: 'P-256', 0x0018: 'P-384', 0x11ec: 'X25519MLKEM768'}


def number(b, at, n=2):
    if at + n > len(b):
        raise IndexError
    return int.from_bytes(b[at:at + n], 'big')


def extensions(b, at):
    end = at + 2 + number(b, at)
    at += 2
    while at < end:
        n = number(b, at + 2)
        if at + 4 + n > len(b):
            raise IndexError
        yield number(b, at), b[at + 4:at + 4 + n]
        at += 4 + n


def server_hello(b):
    """(version, suite, group) in words, of bytes that begin with a server hello's record; else None. [RFC8446 4.1.3]"""
    try:
        if b[0] != 0x16 or b[5] != 2:
            return None
        at = 9 + 2 + 32
        at += 1 + b[at]
        suite, version, group = number(b, at), number(b, 9), None
        for kind, value in extensions(b, at + 3):
            if kind == 43:
                version = number(value, 0)
            elif kind == 51:
                group = number(value, 0)
    except IndexError:
        return None
    return ('TLSv1.3' if version == TLS13 else hex(version), SUITES.get(suite, hex(suite)), GROUPS.get(group, str(group)))


def payload(packet, port):
    """Of an IPv4 packet from this TCP port; None of any other."""
    ip = 4 * (packet[0] & 15)
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP or len(packet) < ip + 20 or number(packet, ip) != port:
        return None
    return packet[ip + 4 * (packet[ip + 12] >> 4):number(packet, 2) or len(packet)]


class Capture:
    """What arrives in this network namespace, while it is open. None may be had without privilege: OSError."""

    def __init__(self):
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.s.settimeout(0.2)

    def hello_from(self, port, seconds=3):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                found = server_hello(payload(self.s.recv(65535), port) or b'\0')
            except OSError:
                continue
            if found:
                return found
        return None

    def close(self):
        self.s.close()
