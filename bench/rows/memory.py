# SPDX-License-Identifier: Apache-2.0
"""S8: what an idle connection holds, in programs, proxies, meshd and the kernel."""
import re
import subprocess

from bench.lib import load, systems
from bench.lib.row import Goal, Row, ratio
from bench.lib.servers import Meshload

SLABS = ('TCP', 'TCPv6', 'sock_inode_cache', 'filp', 'eventpoll_epi', 'eventpoll_pwq', 'dentry', 'ep_head', 'kmalloc-rnd')


def pss(pid):
    try:
        with open('/proc/%d/smaps_rollup' % pid) as f:
            return 1024 * int(re.search(r'^Pss:\s+(\d+)', f.read(), re.M).group(1))
    except OSError:
        return 0


def slabs():
    """Bytes of the kernel's objects for sockets and their files; of the whole machine. None where it may not be read."""
    total = 0
    try:
        with open('/proc/slabinfo') as f:
            for line in f:
                v = line.split()
                if v[0] in SLABS:
                    total += int(v[1]) * int(v[3])
    except OSError:
        return None
    return total


class Idle:
    def __init__(self, bench, system, layout):
        self.bench, self.system, self.layout = bench, system, layout
        self.n = min(10000, systems.connections() - 300) if bench.full else 1000

    def total(self, running):
        meshd = self.bench.meshds.get(self.system)
        return sum(pss(p) for p in set(running.pids())) + (pss(meshd.pid) if meshd else 0)

    def measure(self):
        running = self.bench.up(self.system, Meshload(self.bench.build, 'echo'), self.layout)
        try:
            cmd = [self.bench.build + '/bench/meshload', 'hold', '--to', '%s:%d' % running.address, '--connections', self.n]
            hold = running.run('load', cmd + running.options, self.layout.load, env=running.env, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.expect(hold, 'warm')
            user, kernel = self.total(running), slabs()
            hold.proc.stdin.write('\n')
            hold.proc.stdin.flush()
            self.expect(hold, 'held')
            user = (self.total(running) - user) / self.n
            kernel = (slabs() - kernel) / self.n if kernel is not None else None
        finally:
            running.end()
        return {'user_bytes': user, 'kernel_bytes': kernel or 0, 'host_bytes': user + (kernel or 0)}

    @staticmethod
    def expect(hold, word):
        if hold.proc.stdout.readline() != word + '\n':
            raise load.Failed('hold: ' + hold.proc.stderr.read()[-200:])

    def end(self):
        pass


def per_side(values):
    if 'mesh' in values and 'bare' in values:
        return (values['mesh']['user_bytes'] - values['bare']['user_bytes']) / 2
    return None


ROWS = [
    Row('S8', 'idle connections that carried one request: bytes of each (1,000; in full as many as descriptors allow)',
        ('bare', 'own', 'mesh', 'haproxy', 'nginx', 'envoy'), Idle,
        [Goal('user memory added on each side', 'bare', per_side, 8192, 2048, False, 'B', lambda b, m: 1100, ('user_bytes', 'mesh')),
         ratio('host_bytes', 'envoy', 0.5, 0.25, high=False, what='host total'),
         ratio('host_bytes', 'haproxy', 0.5, 0.25, high=False, what='host total'),
         ratio('user_bytes', 'own', high=False, what='user memory')],
        pairs=2, seconds=lambda b: 15 if b.full else 1.5, opening=lambda b: 0, metrics=('user_bytes', 'kernel_bytes', 'host_bytes')),
]
