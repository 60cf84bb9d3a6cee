# SPDX-License-Identifier: Apache-2.0
"""S2, S2k, S3: what a request is held up by, and what it costs everybody together."""
from bench.lib import load
from bench.lib.row import Row, added, driven, ratio, tax, windows
from bench.lib.servers import Meshload

from .common import aead, latency_limit, timed

L4 = ('bare', 'off', 'own', 'mesh', 'haproxy', 'nginx', 'stunnel', 'envoy', 'ghostunnel', 'ztunnel')
L7 = ('bare', 'own', 'mesh', 'haproxy', 'haproxy-http', 'envoy', 'envoy-http')


def echo(size):
    return lambda b: Meshload(b.build, 'echo', size)


def http(b):
    return Meshload(b.build, 'http', 1024)


def latency_goals(peers, p50=(10, 3), p99=(50, 10)):
    return [added('p50_us', 'bare', *p50, limit=latency_limit(1350)),
            added('p99_us', 'bare', *p99, limit=latency_limit(1350)),
            added('p999_us', 'bare')] + [ratio(m, s, high=False, what=m) for s in peers for m in ('p50_us', 'p99_us')]


LATENCY = ('p50_us', 'p90_us', 'p99_us', 'p999_us', 'max_us', 'late_p99_us', 'cpu_us')
ECHO = ('--size', 1024, '--connections', 16)
HTTP = ('--protocol', 'http', '--connections', 16)


class AtKnee:
    """At a share of what this system itself can do."""

    def __init__(self, running, share):
        self.running = running
        self.rate = share * load.run(running, *ECHO, '--max', '--warmup', 0.3, '--window', 2)['rate']

    def measure(self):
        return dict(load.run(self.running, *ECHO, '--rate', self.rate, '--warmup', 0.5, '--window', self.running.bench.window),
                    offered=self.rate)

    def end(self):
        self.running.end()


def knee(percent):
    return Row('S2k-%d' % percent, 'echo of 1 KB at %d %% of each system\'s own most' % percent, L4,
               lambda b, system, layout: AtKnee(b.up(system, echo(1024)(b), layout), percent / 100),
               [added('p999_us', 'bare', 100, 30), added('p50_us', 'bare'), added('p99_us', 'bare')], layout='spin', quick=False,
               seconds=lambda b: 0.6 + b.window, opening=lambda b: 3, metrics=('offered',) + LATENCY)


def cost(rate, quick=True):
    """Of everybody: the generator sleeps between requests, or its own time would be counted."""
    return Row('S3-%dk' % (rate // 1000), 'processor time of everything at %d requests/s: echo of 256 bytes, 16 connections' % rate,
               L4, driven(echo(256), *timed('--size', 256, '--connections', 16, '--rate', rate)),
               [added('cpu_us', 'bare', 3, 1.5, what='CPU-seconds added for a million requests', unit='s',
                      limit=lambda b, mids: 2 * aead(b, 256) / 1e3),
                tax('haproxy', 1 / 5, 1 / 10), tax('envoy', 1 / 10, 1 / 20)] + [
                    tax(s) for s in ('nginx', 'stunnel', 'ghostunnel', 'ztunnel', 'own')],
               quick=quick, metrics=('cpu_us', 'rate', 'p50_us', 'p99_us'))


ROWS = [
    Row('S2-echo', 'echo of 1 KB, 1,000 requests/s with jitter, 16 connections: what is added', L4,
        driven(echo(1024), *timed(*ECHO, '--rate', 1000, times=2)), latency_goals(('own', 'haproxy', 'envoy')), layout='spin',
        also=('haproxy', 'envoy'), seconds=windows(2), metrics=LATENCY),
    Row('S2-http', 'HTTP/1.1 of 1 KB, 1,000 requests/s with jitter, 16 connections: what is added', L7,
        driven(http, *timed(*HTTP, '--rate', 1000, times=2)), latency_goals(('own', 'haproxy-http', 'envoy-http')), layout='spin',
        also=('haproxy-http', 'envoy-http'), seconds=windows(2), metrics=LATENCY),
    Row('S2-free', 'the same echo, all on any processor, the generator asleep between requests', L4,
        driven(echo(1024), *timed(*ECHO, '--rate', 1000, times=2)), latency_goals(('own', 'haproxy', 'envoy')), layout='free',
        quick=False, seconds=windows(2), metrics=LATENCY),
    knee(30), knee(50), knee(70),
    cost(5000), cost(20000, quick=False),
    Row('S3-http', 'processor time of everything at 5,000 requests/s: HTTP/1.1 of 1 KB, 16 connections', L7,
        driven(http, *timed(*HTTP, '--rate', 5000)),
        [tax('haproxy-http', 1 / 5, 1 / 10), tax('envoy-http', 1 / 15, 1 / 40)], quick=False,
        metrics=('cpu_us', 'rate', 'p50_us', 'p99_us')),
]
