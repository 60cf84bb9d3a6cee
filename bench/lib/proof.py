# SPDX-License-Identifier: Apache-2.0
"""That what is compared is the same thing: before a system counts, its wire is tried. Plaintext gets no answer, nor
does TLS without a certificate; TLS is 1.3 with AES-128-GCM (SUITES has who else takes what); and what two proxies agree
on between themselves is read from the wire, with the key exchange."""
import os
import socket
import ssl

from . import wire as tls

REFUSALS = (b'', b'HTTP/1.1 400', b'HTTP/1.0 400', b'\x15\x03')
BARE = ('bare', 'off', 'unmeshed')
AES128, AES256 = 'TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384'
SUITES = {'ztunnel': AES256}  # it takes no other from its own kind


class NotProved(Exception):
    pass


def answered(talk, ask):
    """Whether what was asked is served. Reset, end, alert, silence and 400 (no certificate) are none."""
    try:
        talk.sendall(ask)
        reply = talk.recv(4096)
    except OSError:
        return False
    return not any(reply == r if r == b'' else reply.startswith(r) for r in REFUSALS)


def plain(address, ask, patience=5):
    with socket.create_connection(address, patience) as s:
        s.settimeout(2)
        return answered(s, ask)


def reached(address, ask):
    """Whether anybody answers there: none need listen."""
    try:
        return plain(address, ask, 1)
    except OSError:
        return False


def without_certificate(address, ask):
    """(answered, version, cipher); a server may refuse before the handshake is over."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address, 5) as s:
        s.settimeout(2)
        try:
            with ctx.wrap_socket(s) as t:
                version, cipher = t.version(), t.cipher()[0]
                return answered(t, ask), version, cipher
        except OSError:
            return False, None, None


def prove(running, server):
    """What was found, for the report: all wires of a system are alike."""
    own = server.prove_own(running) if running.name == 'own' else None
    found = own or [prove_wire(running.name, wire, server.ask) for wire in running.wires][0]
    for address in running.closed:
        if reached(address, server.ask):
            raise NotProved('plaintext is answered at %s:%d, beside the proxies' % address)
    if running.pair and os.environ.get('BENCH_OWN_NET'):
        found['between'] = between(running, server.ask)
    return found


def between(running, ask):
    """The proxies' own handshake, while something is asked through both."""
    try:
        capture = tls.Capture()
    except OSError:
        return None
    try:
        if not plain(running.address, ask):
            raise NotProved('no answer through both proxies')
        hello = capture.hello_from(running.wire[1])
    finally:
        capture.close()
    if hello != ('TLSv1.3', SUITES.get(running.name, AES128), 'X25519'):
        raise NotProved('between the proxies: %s' % (hello,))
    return hello


def prove_wire(name, wire, ask):
    if name in BARE:
        if not plain(wire, ask):
            raise NotProved('bare, and no answer')
        return {'plain': True}
    if plain(wire, ask):
        raise NotProved('plaintext is answered on its wire')
    served, version, cipher = without_certificate(wire, ask)
    if served:
        raise NotProved('TLS without a certificate is answered')
    # BoringSSL takes what its client names first, which is AES-128 for Envoy's own, and not for ours.
    if version != 'TLSv1.3' or cipher != SUITES.get(name, AES128) and not name.startswith('envoy'):
        raise NotProved('its wire is %s %s' % (version, cipher))
    return {'plain': False, 'without_certificate': False, 'version': version, 'cipher': cipher}
