# SPDX-License-Identifier: Apache-2.0
"""S5, S6: handshakes, alone and as part of a connection for each request, which proxies spare their servers."""
from bench.lib.row import Row, added, driven, ratio, value
from bench.lib.servers import Meshload

from .common import Command, numbers, timed

SYSTEMS = ('bare', 'own', 'mesh', 'haproxy', 'haproxy-http', 'envoy-http', 'nginx', 'stunnel')


def http(b):
    return Meshload(b.build, 'http', 1024)


FRESH = ('--protocol', 'http', '--fresh', '--connections', 16)
WARM = 0.3  # seconds at least: nothing is open before time begins

TLS = {
    'known_peer': r'handshake, known peer +engine.*ratio ([\d.]+)', 'new_peer': r'handshake, new peer +engine.*ratio ([\d.]+)',
    'per_second': r'handshake, known peer +engine +(\d+)/s', 'new_per_second': r'handshake, new peer +engine +(\d+)/s',
    'resumed': r'handshake, resumed +engine.*ratio ([\d.]+)', 'resumed_per_second': r'handshake, resumed +engine +(\d+)/s',
    'seal_16k': r'seal +16384 B.*ratio ([\d.]+)', 'open_16k': r'open +16384 B.*ratio ([\d.]+)',
    'seal_64': r'seal +64 B.*ratio ([\d.]+)', 'open_64': r'open +64 B.*ratio ([\d.]+)',
}


def primitives(b, verified, limits=None):
    """Seconds that both sides together cannot do without: key shares, a signature, and on each side so many
    verified: the peer's own signature, and those in its chain that were not seen before. None: a ticket stands for them."""
    ns = {k: v['ns'] for k, v in (limits or b.calibration).items()}
    return 2 * (ns['x25519 new key'] + ns['x25519 derive'] + bool(verified) * ns['p-256 sign'] + verified * ns['p-256 verify']) / 1e9


def exchanges_limit(peer):
    """What is left of bare's rate when each connection costs its key exchange and nothing else: four multiplications,
    two a side, each side on its own processor. None of them can be spared, a ticket or not, while every connection has keys of its own."""
    def limit(b, mids):
        seconds = 2 * min(b.ns('x25519 new key') + b.ns('x25519 derive'), 2 * b.ns('x25519 derive')) / 1e9
        return 1 / (1 / mids['bare']['rate'] + seconds / 2) / mids[peer]['rate']
    return limit


class Tls(Command):
    """bench_tls; its chain has an authority in between, so a new peer means three signatures."""

    def __init__(self, bench, system, layout):
        super().__init__(bench, system, numbers(**TLS), bench.build + '/bench_tls', bench.build + '/libmesh-engine.so')

    def measure(self):
        """The primitives in the same round, before and after: a processor's pace changes within minutes, by a third and more."""
        before = self.bench.calibrate('x25519', 'p-256')
        v = super().measure()
        least = (primitives(self.bench, 3, before) + primitives(self.bench, 3, self.bench.calibrate('x25519', 'p-256'))) / 2
        return dict(v, known_share=v['per_second'] * least, new_share=v['new_per_second'] * least)


ROWS = [
    Row('S5', 'full mutual handshakes and records in memory, beside OpenSSL used plainly', ('mesh',),
        Tls,
        [value('known_peer', 1.2, 2, high=True, unit='x', what="handshakes with a known peer / OpenSSL's"),
         value('new_peer', high=True, unit='x', what="handshakes with a new peer / OpenSSL's"),
         value('per_second', high=True, unit='/s', what='handshakes, both sides on one core', limit=lambda b, m: 1 / primitives(b, 1)),
         value('known_share', None, 1.2, high=True, unit='x', what='known peer: time of its primitives with all verified / its time'),
         value('new_share', 0.6, 0.85, high=True, unit='x', what='new peer: time of its primitives / its time'),
         value('resumed', 1.2, 2, high=True, unit='x', what="S5r: handshakes by a ticket, with a key exchange / OpenSSL's"),
         value('resumed_per_second', high=True, unit='/s', what='S5r: handshakes by a ticket, both sides on one core',
               limit=lambda b, m: 1 / primitives(b, 0)),
         value('seal_16k', 0.75, 0.9, high=True, unit='x', what='16 KB sealed / raw EVP'),
         value('open_16k', 0.75, 0.9, high=True, unit='x', what='16 KB opened / raw EVP'),
         value('seal_64', high=True, unit='x', what='64 B sealed / raw EVP'),
         value('open_64', high=True, unit='x', what='64 B opened / raw EVP')],
        pairs=2, seconds=lambda b: 9, metrics=tuple(TLS) + ('known_share', 'new_share')),
    Row('S6', 'a connection for each request, HTTP/1.1 of 1 KB, 16 at a time', SYSTEMS,
        driven(http, *timed(*FRESH, '--max', warm=WARM)),
        [ratio('rate', 'haproxy-http', 0.7, 1.5, what='requests/s', limit=exchanges_limit('haproxy-http')),
         ratio('rate', 'envoy-http', what='requests/s'), ratio('rate', 'haproxy', what='requests/s'),
         ratio('rate', 'own', what='requests/s'), ratio('rate', 'bare', what='requests/s', limit=exchanges_limit('bare'))],
        losing=True, also=('own',)),
    Row('S6-connect', 'the same at 100 a second: until the connection can be used', SYSTEMS,
        driven(http, *timed(*FRESH, '--rate', 100, warm=WARM)),
        [added('connect_p50_us', 'bare', 600, 150, what='connect takes longer by (p50)',
               limit=lambda b, m: primitives(b, 1) * 1e6),
         added('p50_us', 'bare', what='the whole request takes longer by (p50)'),
         ratio('p50_us', 'haproxy-http', high=False, what='p50 of the whole request'),
         ratio('p50_us', 'own', high=False, what='p50 of the whole request')],
        layout='spin', losing=True, also=('haproxy-http',), metrics=('connect_p50_us', 'p50_us', 'p99_us', 'cpu_us')),
]
