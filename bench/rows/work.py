# SPDX-License-Identifier: Apache-2.0
"""S11, and the other half of S10: programs that work for their answers, and a process for each connection."""
import statistics
import subprocess

from bench.lib import conf, load, postgres, procs
from bench.lib.row import Row, added, driven, ratio
from bench.lib.servers import App

from .common import BENCH, private_dirty, timed

DATABASE = ('bare', 'own', 'mesh', 'haproxy')


def database(b):
    return postgres.Postgres(b, 10 if b.full else 2)


def pgbench(id, title, *options, quick=True):
    return Row(id, title, DATABASE, lambda b, system, layout: postgres.Pgbench(b.up(system, database(b), layout), *options),
               [ratio('rate', 'bare', 0.9, 0.97, what='transactions/s'), ratio('rate', 'own', 1.0, 1.05, what='transactions/s'),
                ratio('rate', 'haproxy', what='transactions/s')] +
               [ratio('cpu_us', s, high=False, what='CPU of a transaction') for s in ('bare', 'own', 'haproxy')],
               layout='near', quick=quick, metrics=('rate', 'latency_ms', 'cpu_us'), notes=postgres.NOTE,
               seconds=lambda b: b.window + 0.3, opening=lambda b: 4)


class Backends:
    """Connections, one after the other, that stay: how long until each can be used, and what its process has alone."""

    def __init__(self, bench, system, layout):
        self.running = bench.up(system, database(bench), layout)
        self.n = 200 if bench.full else 50
        self.cmd = [BENCH + '/backends', *self.running.address, self.n, postgres.startup().hex()]
        self.env = self.running.env
        if system == 'own':
            self.cmd += [conf.CERTS + f for f in ('/client.pem', '/client.key', '/ca.pem')]
            self.env = dict(self.env, **postgres.openssl())

    def backends(self):
        """The processes of its connections."""
        for pid in procs.family(self.running.server.pid):
            try:
                with open('/proc/%d/cmdline' % pid, 'rb') as f:
                    if f.read().startswith(b'postgres: postgres postgres'):
                        yield pid
            except OSError:
                pass

    def measure(self):
        procs.wait(lambda: not list(self.backends()), 'earlier backends end')
        before = sum(self.running.cpu().values())
        p = self.running.run('load', self.cmd, self.running.layout.load, env=self.env, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            line = p.proc.stdout.readline()
            if not line:
                raise load.Failed('backends: ' + p.proc.stderr.read()[-200:])
            used = sum(self.running.cpu().values()) - before
            private = [private_dirty(pid) / 1024 for pid in self.backends()]
            if len(private) != self.n:
                raise load.Failed('%d backends for %d connections' % (len(private), self.n))
        finally:
            p.proc.stdin.close()
            p.end()
        return {'open_ms': float(line), 'cpu_ms': used * 1e3 / self.n, 'private_kb': statistics.median(private)}

    def end(self):
        self.running.end()


ROWS = [
    pgbench('S11-pg', 'PostgreSQL, pgbench -S, 8 connections', 8, '-S'),
    pgbench('S11-pgrw', 'PostgreSQL, pgbench (TPC-B alike), 8 connections', 8, quick=False),
    Row('S11-web', 'nginx, and behind it an application that makes JSON of a table; 8 connections', ('bare', 'own', 'mesh'),
        driven(lambda b: App(b.build), *timed('--protocol', 'http', '--connections', 8, '--max')),
        [ratio('rate', 'bare', 0.9, 0.97, what='requests/s'), ratio('rate', 'own', 1.0, 1.05, what='requests/s')] +
        [ratio('cpu_us', s, high=False, what='CPU of a request') for s in ('bare', 'own')]),
    Row('S10-pg', '50 PostgreSQL backends (200 in full), each a process: until one can be used, and what it has alone',
        ('bare', 'own', 'mesh'), Backends,
        [added('open_ms', 'bare', 1, 0.1, unit='ms', what='a connection can be used later by'),
         added('cpu_ms', 'bare', unit='ms', what='processor time of all for one more'),
         added('private_kb', 'bare', 300, 50, unit='KB', what='private memory of a backend more'),
         ratio('open_ms', 'own', high=False, what='until a connection can be used'),
         ratio('private_kb', 'own', high=False, what='private memory of a backend')],
        layout='near', metrics=('open_ms', 'cpu_ms', 'private_kb'), notes=postgres.NOTE, seconds=lambda b: 2 if b.full else 0.6, opening=lambda b: 4),
]
