#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wire.py FILE.pcap --expect tls13|plain [--ports A,B] [--marker TEXT]... [--gaps-ok] [--first-line]

Says what a capture holds. Every TCP stream with payload on one of the ports (default: all) is
reassembled in both directions and is one of

  tls13       nothing but well-formed TLS records from the first byte to the last, the server's
              hello selects 0x0304 (supported_versions), everything after the hellos encrypted
  unfinished  a ClientHello that was not answered, or answered by an alert; a client that ends without a byte,
              and the alert with which a server of TLS regrets that
  tls12       TLS records, but the server's hello does not select TLS 1.3
  plain       anything else

--expect tls13: every stream is tls13 (or unfinished), at least one is tls13, and no marker is in
any payload of the whole capture, other ports included. --expect plain: no stream is tls13, and
every marker is there. Exit status 0 if so, 1 with the offending streams on stdout if not.
--first-line prints the first readable line of a plain stream (for the demo).
"""
import argparse, mmap, os, socket, struct, sys

SUPPORTED_VERSIONS = 43
MARKED = 49                           # length of the record before an urgent byte's mark
MAX_RECORD = (1 << 14) + 256          # [RFC8446 5.2]
CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
PENDING_MAX = 4096                    # segments held for a hole before it counts as lost


class Direction:
    """One direction of a stream: reassembly, then a walk from record header to record header."""

    def __init__(self, isn):
        self.next = isn
        self.pending = {}
        self.bytes = 0
        self.gap = False
        self.bad = None               # (offset, first bytes) of what is no TLS record
        self.first = b''              # first payload bytes, to show
        self.need = 0                 # bytes of the current record's body still to come
        self.head = b''               # an incomplete record header
        self.type = 0
        self.marked = False           # behind such a record an urgent byte 0 may stand
        self.urgent = set()           # sequence numbers of bytes that were sent as urgent
        self.hello = b''              # bodies of plaintext handshake records
        self.alerts = 0
        self.encrypted = False
        self.late = None              # (offset, bytes) of an unencrypted record after encrypted ones
        self.tail = b''

    def feed(self, seq, data, seen):
        delta = (seq - self.next) & 0xffffffff
        if delta >= 0x80000000:                       # a retransmission, maybe with something new
            data = data[0x100000000 - delta:]
            if not data:
                return
        elif delta:
            self.pending[seq] = data
            if len(self.pending) > PENDING_MAX:
                self.lose(seen)
            return
        self.take(data, seen)
        while self.next in self.pending:
            self.take(self.pending.pop(self.next), seen)

    def lose(self, seen):
        """The capture missed a segment: go on with what is there, but only look for markers."""
        self.gap = True
        for seq in sorted(self.pending, key=lambda s: (s - self.next) & 0xffffffff):
            self.tail = b''
            self.next = seq
            self.take(self.pending[seq], seen)
        self.pending = {}

    def take(self, data, seen):
        self.next = (self.next + len(data)) & 0xffffffff
        if len(self.first) < 200:
            self.first += data[:200 - len(self.first)]
        if seen.markers:
            text = self.tail + data
            for m in seen.markers:
                if m in text:
                    seen.found.add(m)
            self.tail = text[-(seen.longest - 1):] if seen.longest > 1 else b''
        if not self.gap and self.bad is None:
            self.walk(data)
        self.bytes += len(data)

    def walk(self, data):
        at, end = 0, len(data)
        while at < end:
            if self.need:
                n = min(self.need, end - at)
                if self.type == HANDSHAKE:
                    self.hello += data[at:at + n]
                self.need -= n
                at += n
                continue
            if self.marked and not self.head and data[at] == 0 and (self.next - end + at) & 0xffffffff in self.urgent:
                self.marked = False           # the mark, which is not in the receiver's stream [shim/flow/mark.h]
                at += 1
                continue
            n = min(5 - len(self.head), end - at)
            self.head += data[at:at + n]
            at += n
            if len(self.head) < 5:
                return
            kind, version, length = struct.unpack('>BHH', self.head)
            if (not CCS <= kind <= DATA or version not in (0x0301, 0x0303) or
                    not 0 < length <= MAX_RECORD):
                self.bad = (self.bytes + at - 5, self.head + data[at:at + 16])
                return
            if self.encrypted and kind not in (DATA, CCS) and not self.late:
                self.late = (self.bytes + at - 5, self.head + data[at:at + 16])
            self.encrypted = self.encrypted or kind == DATA
            self.alerts += kind == ALERT
            self.type, self.need, self.head = kind, length, b''
            self.marked = kind == DATA and length == MARKED


class Stream:
    def __init__(self, a, b):
        self.a, self.b = a, b                          # client and server address
        self.dir = {}

    def kind(self):
        c, s = self.dir.get(self.a), self.dir.get(self.b)
        size = [d.bytes if d else 0 for d in (c, s)]
        if not any(size):
            return 'empty'
        if not size[0] and is_one_alert(s):
            return 'unfinished'
        if c is None or not size[0] or c.bad or (s and s.bad) or c.hello[:1] != b'\x01':
            return 'plain'
        if not size[1] or (s.alerts and not s.hello):
            return 'unfinished'
        version = selected_version(s.hello)
        if version is None:
            return 'plain'
        if version != 0x0304:
            return 'tls12'
        # Only hellos travel in clear in TLS 1.3 [RFC8446 4]: one per message, no certificate.
        if c.late or s.late or not messages(c.hello) <= {1} or not messages(s.hello) <= {2}:
            return 'plain'
        return 'tls13'


def is_one_alert(d):
    return d.bytes == 7 and d.alerts == 1 and d.bad is None and not d.need and not d.gap


def messages(body):
    """The types of the handshake messages in body."""
    types, at = set(), 0
    while at + 4 <= len(body):
        types.add(body[at])
        at += 4 + int.from_bytes(body[at + 1:at + 4], 'big')
    return types


def selected_version(body):
    """The version that a ServerHello selects, or None if body does not start with one."""
    try:
        if body[0] != 2:
            return None
        at = 4 + 2 + 32
        at += 1 + body[at] + 3                         # session id, cipher suite, compression
        end = at + 2 + int.from_bytes(body[at:at + 2], 'big') if at < len(body) else at
        at += 2
        while at + 4 <= end:
            kind, length = struct.unpack_from('>HH', body, at)
            if kind == SUPPORTED_VERSIONS and length == 2:
                return struct.unpack_from('>H', body, at + 4)[0]
            at += 4 + length
        return 0x0303
    except (IndexError, struct.error):
        return None


class Capture:
    def __init__(self, markers, ports):
        self.markers = [m.encode() for m in markers]
        self.longest = max(map(len, self.markers), default=0)
        self.found = set()
        self.ports = ports
        self.open = {}
        self.streams = []
        self.cut = 0

    def read(self, path):
        with open(path, 'rb') as f:
            if os.fstat(f.fileno()).st_size < 24:
                raise SystemExit('wire: %s is empty' % path)
            m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        order = '<' if m[:4] in (b'\xd4\xc3\xb2\xa1', b'\x4d\x3c\xb2\xa1') else '>'
        link = struct.unpack_from(order + 'I', m, 20)[0] & 0xffff
        skip = {1: 14, 101: 0, 113: 16, 276: 20}.get(link)
        if skip is None:
            raise SystemExit('wire: link type %d is not known' % link)
        at, head = 24, struct.Struct(order + 'IIII')
        while at + 16 <= len(m):
            _, _, kept, full = head.unpack_from(m, at)
            at += 16
            self.packet(m[at + skip:at + kept])
            self.cut += kept < full
            at += kept
        for s in self.streams:
            for d in s.dir.values():
                if d.pending:
                    d.lose(self)

    def packet(self, p):
        if len(p) < 40:
            return
        if p[0] >> 4 == 4:
            if p[9] != 6:
                return
            ihl = (p[0] & 15) * 4
            size = struct.unpack_from('>H', p, 2)[0] or len(p)
            src, dst = p[12:16], p[16:20]
        elif p[0] >> 4 == 6 and p[6] == 6:
            ihl = 40
            size = 40 + struct.unpack_from('>H', p, 4)[0] if p[4] or p[5] else len(p)
            src, dst = p[8:24], p[24:40]
        else:
            return
        sport, dport, seq, _, off, flags, _, _, urgent = struct.unpack_from('>HHIIBBHHH', p, ihl)
        data = p[ihl + (off >> 4) * 4:size]
        a, b = (src, sport), (dst, dport)
        if flags & 2:                                  # SYN
            seq = (seq + 1) & 0xffffffff
            if not flags & 16:
                self.start(a, b).dir[a] = Direction(seq)
                return
        s = self.open.get((a, b)) or self.open.get((b, a))
        if s is None:                                  # began before the capture did
            if not data:
                return
            s = self.start(b, a) if sport in self.ports else self.start(a, b)
        if a not in s.dir:
            s.dir[a] = Direction(seq)
        if flags & 32:                                 # URG: points behind the urgent byte [tcp(7)]
            s.dir[a].urgent.add((seq + urgent - 1) & 0xffffffff)
        if data:
            s.dir[a].feed(seq, data, self)

    def start(self, client, server):
        s = Stream(client, server)
        self.open.pop((server, client), None)
        self.open[(client, server)] = s
        self.streams.append(s)
        return s

    def wanted(self):
        return [s for s in self.streams
                if not self.ports or s.a[1] in self.ports or s.b[1] in self.ports]


def show(end):
    family = socket.AF_INET if len(end[0]) == 4 else socket.AF_INET6
    return '%s:%d' % (socket.inet_ntop(family, end[0]), end[1])


def complain(s, kind):
    print('wire: %s > %s is %s' % (show(s.a), show(s.b), kind))
    for name, end in (('client', s.a), ('server', s.b)):
        d = s.dir.get(end)
        if d and d.bytes:
            at, raw = d.bad or d.late or (0, d.first[:32])
            print('wire:   %s sent %d bytes; at %d: %s %r' % (name, d.bytes, at, raw.hex(' '), raw))


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument('file')
    ap.add_argument('--expect', choices=('tls13', 'plain'), required=True)
    ap.add_argument('--ports', default='')
    ap.add_argument('--marker', action='append', default=[])
    ap.add_argument('--gaps-ok', action='store_true')
    ap.add_argument('--first-line', action='store_true')
    o = ap.parse_args()
    cap = Capture(o.marker, {int(x) for x in o.ports.split(',') if x})
    cap.read(o.file)

    count = dict.fromkeys(('tls13', 'unfinished', 'tls12', 'plain', 'empty'), 0)
    allowed = {'tls13': ('tls13', 'unfinished', 'empty'),
               'plain': ('plain', 'tls12', 'unfinished', 'empty')}[o.expect]
    wrong, gaps, size = [], 0, 0
    for s in cap.wanted():
        kind = s.kind()
        count[kind] += 1
        gaps += any(d.gap for d in s.dir.values())
        size += sum(d.bytes for d in s.dir.values())
        if kind not in allowed:
            wrong.append((s, kind))
        if o.first_line and kind == 'plain':
            line = s.dir[s.a].first.split(b'\n')[0].decode('ascii', 'replace').strip()
            print('wire: readable: %s' % line)
            o.first_line = False
    ok = not wrong
    for s, kind in wrong[:5]:
        complain(s, kind)
    if o.expect == 'tls13':
        if not count['tls13']:
            print('wire: no TLS 1.3 stream at all')
            ok = False
        for m in cap.found:
            print('wire: the marker %r is readable' % m.decode())
            ok = False
    else:
        if not count['plain'] + count['tls12']:
            print('wire: no stream with payload at all')
            ok = False
        for m in set(cap.markers) - cap.found:
            print('wire: the marker %r is not readable: this capture would prove nothing'
                  % m.decode())
            ok = False
    if (gaps or cap.cut) and not o.gaps_ok:
        print('wire: the capture is incomplete: %d streams with holes, %d packets cut'
              % (gaps, cap.cut))
        ok = False
    print('wire: %s %d bytes, %s' % ('ok' if ok else 'NOT ok', size,
                                     ', '.join('%d %s' % (n, k) for k, n in count.items() if n)))
    return 0 if ok else 1


if __name__ == '__main__':
    sys.exit(main())
