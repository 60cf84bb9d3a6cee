# SPDX-License-Identifier: Apache-2.0
"""S1, S1p, S7, S7b and the server half of S9: Redis, which has one thread."""
from bench.lib import load
from bench.lib.row import Row, added, driven, ratio, value
from bench.lib.servers import Redis

from .common import fill, half_rate, ratio_limit, resp, timed

EVERYBODY = ('bare', 'off', 'own', 'mesh', 'haproxy', 'nginx', 'stunnel', 'envoy', 'ghostunnel', 'ztunnel')


def redis(b):
    return Redis(b.build)


def goals(size, records, bare, own):
    return [ratio('rate', 'bare', *bare, what='requests/s', limit=ratio_limit(size, records)),
            ratio('rate', 'own', *own, what='requests/s'),
            ratio('rate', 'haproxy', 2, 3, what='requests/s')] + [
        ratio('rate', s, what='requests/s') for s in ('nginx', 'stunnel', 'envoy', 'ghostunnel', 'ztunnel')] + [
        ratio('cpu_us', s, high=False, what='CPU of a request') for s in ('bare', 'own', 'haproxy', 'envoy')]


def throughput(id, command, size, pipeline=1, quick=True, also=()):
    return Row(id, 'Redis %s of %d bytes, 50 connections, %d outstanding' % (command.upper(), size, pipeline), EVERYBODY,
               driven(redis, *timed(*resp(command, size, 50, pipeline), '--max'), prepare=fill(size)),
               goals(1350 if size > 1000 else 64, 2 if pipeline == 1 else 2 / pipeline, (0.85, 0.93 if pipeline == 1 else 0.92),
                     (1.05, 1.25)), quick=quick, also=also, opening=lambda b: 1)


class Disturbed:
    """A load at half of what the system can do, alone and while something else goes on; what that adds."""

    def __init__(self, running, small, other, rate=None):
        self.running, self.small, self.other = running, small, other
        fill(64)(running)
        self.rate = rate or half_rate(running)

    def one(self, seconds):
        return load.Load(self.running, *self.small, '--rate', self.rate, '--warmup', 0.2, '--window', seconds)

    def measure(self):
        seconds = self.running.bench.window
        alone = self.one(seconds).begin().end()
        noise = load.Load(self.running, *self.other, '--warmup', 0, '--window', seconds + 0.5, '--drain', 1, place=self.running.layout.client)
        noise.begin()
        both = self.one(seconds).begin().end()
        other = noise.end()
        return dict(both, alone_p99_us=alone['p99_us'], p99_rise_us=both['p99_us'] - alone['p99_us'], offered=self.rate,
                    errors=both['errors'] + alone['errors'] + other['errors'], other_answered=other['raw']['answered'])

    def end(self):
        self.running.end()


def both_windows(b):
    """Alone, and within the other load's."""
    return 2 * b.window + 0.8


def storm(bench, system, layout):
    return Disturbed(bench.up(system, redis(bench), layout), resp('get', 64),
                     ('--protocol', 'resp', '--command', 'ping', '--fresh', '--rate', 500, '--connections', 64))


def mixed(bench, system, layout):
    running = bench.up(system, redis(bench), layout)
    try:
        fill(1 << 20, 'big', 4)(running)
        return Disturbed(running, resp('get', 64, 16), resp('get', 1 << 20, 4) + ('--prefix', 'big', '--keys', 4, '--rate', 50), 2000)
    except Exception:
        running.end()
        raise


ROWS = [
    throughput('S1-get64', 'get', 64, also=('envoy',)),
    throughput('S1-set64', 'set', 64, quick=False),
    throughput('S1-get1500', 'get', 1500, quick=False),
    throughput('S1-set1500', 'set', 1500),
    throughput('S1p-get64', 'get', 64, 16),
    throughput('S1p-set1500', 'set', 1500, 16, quick=False),
    Row('S1-free', 'Redis GET of 64 bytes, both processors for everybody', EVERYBODY,
        driven(redis, *timed(*resp('get', 64), '--max'), prepare=fill(64)), goals(64, 2, (0.85, 0.93), (1.05, 1.25)),
        layout='free', quick=False),
    Row('S7', 'Redis at half load, and 500 new connections a second: p99 of the others',
        ('bare', 'own', 'mesh', 'haproxy', 'envoy'), storm,
        [value('p99_rise_us', 1000, 100, unit='us', what='p99 rises by'),
         added('p99_rise_us', 'bare', 1000, 100, what='p99 rises more than bare'),
         ratio('p99_us', 'own', high=False, what='p99 of the others'),
         ratio('p99_us', 'haproxy', high=False, what='p99 of the others')],
        losing=True, also=('own', 'haproxy'), seconds=both_windows, opening=lambda b: 2,
        metrics=('offered', 'alone_p99_us', 'p99_us', 'p99_rise_us', 'other_answered')),
    Row('S7b', 'Redis: 50 values of 1 MB a second among 2,000 small gets: p99 of the small ones',
        ('bare', 'own', 'mesh', 'haproxy', 'envoy'), mixed,
        [ratio('p99_us', 'own', 1.0, 0.8, high=False, what='p99 of small gets'),
         ratio('p99_us', 'haproxy', high=False, what='p99 of small gets'),
         added('p99_us', 'bare', what='p99 added')],
        losing=True, also=('haproxy',), seconds=both_windows, opening=lambda b: 2,
        metrics=('alone_p99_us', 'p99_us', 'p99_rise_us', 'other_answered')),
    Row('S9-redis', 'Redis and its clients under libmesh, without any mesh connection', ('bare', 'off', 'unmeshed'),
        driven(redis, *timed(*resp('get', 64), '--max'), prepare=fill(64)),
        [ratio('rate', 'bare', 0.98, 0.995, what='requests/s, LIBMESH=off', of='off'),
         ratio('rate', 'bare', 0.98, 0.995, what='requests/s, attached', of='unmeshed')]),
]
