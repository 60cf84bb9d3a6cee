# SPDX-License-Identifier: Apache-2.0
"""S9, S10: what the rest of a program notices: calls on other descriptors, its start, its pages."""
import os
import sys
import time

from bench.lib import load
from bench.lib.row import Goal, Row, added, get

from .common import BENCH, Command, command, numbers

sys.path.append(os.path.join(os.path.dirname(BENCH), 'tests', 'lib'))
import meshtest  # noqa: E402


class Start:
    """/bin/true, a shell that starts many, and the pages that a small program dirties."""

    def __init__(self, bench, system, layout):
        self.env = bench.env(system)
        self.n = 1000 if bench.full else 100
        self.pages = Command(bench, system, numbers(kb=r'Private_Dirty: +(\d+)'), '/bin/cat', '/proc/self/smaps_rollup')
        self.shell = Command(bench, system, lambda text: {}, 'bash', '-c',
                             'for ((i = 0; i < %d; i++)); do /bin/true; done' % self.n)

    def measure(self):
        begin = time.perf_counter()
        for _ in range(self.n):
            os.waitpid(os.posix_spawn('/bin/true', ['/bin/true'], self.env), 0)
        middle = time.perf_counter()
        self.shell.measure()
        end = time.perf_counter()
        return {'start_ms': (middle - begin) * 1e3 / self.n, 'shell_ms': (end - middle) * 1e3 / self.n,
                'private_kb': self.pages.measure()['kb']}

    def end(self):
        pass


class Calls:
    """The system calls of a program that writes, reads, polls and closes what is no connection."""
    TURNS = 1000

    def __init__(self, bench, system, layout):
        self.cmd, self.env = [bench.build + '/gates/work', 'foreign', str(self.TURNS)], bench.env(system)

    def measure(self):
        counted = meshtest.system_calls(self.cmd, self.env, 60)
        if counted is None:
            raise load.Failed('strace cannot trace here')
        return {'calls': sum(counted.values()), 'by_name': dict(counted)}

    def end(self):
        pass


def other_calls(of):
    """How many system calls there are more, or fewer, or others, than bare."""
    def f(values):
        a, b = (get(values, s, 'by_name') for s in (of, 'bare'))
        return None if a is None or b is None else sum(abs(a.get(n, 0) - b.get(n, 0)) for n in set(a) | set(b))
    return f


ROWS = [
    Row('S9', 'read and write on descriptors that are no sockets', ('bare', 'off', 'mesh'),
        command(lambda text: {'call_ns': float(text)}, lambda b: b.build + '/bench/plainfd'),
        [added('call_ns', 'bare', 10, 3, unit='ns', what='a call takes longer by', limit=lambda b, m: b.ns('indirect call')),
         added('call_ns', 'bare', unit='ns', what='a call takes longer by, LIBMESH=off', of='off')],
        metrics=('call_ns',), seconds=lambda b: 0.4),
    Row('S9-calls', 'the system calls for 5,000 write, read, fcntl, epoll_wait and close on what is no connection',
        ('bare', 'off', 'mesh'), Calls,
        [Goal('system calls that are more, fewer or others', 'bare', other_calls('mesh'), 0, 0, False, '', None, ('calls', 'mesh'), True),
         Goal('the same, LIBMESH=off', 'bare', other_calls('off'), 0, 0, False, '', None, ('calls', 'off'), True)],
        pairs=2, metrics=('calls',), seconds=lambda b: 0.7),
    Row('S10', '/bin/true, a shell that runs it, and the pages of cat', ('bare', 'off', 'mesh'), Start,
        [added('start_ms', 'bare', 1, 0.2, unit='ms', what='start and end take longer by'),
         added('shell_ms', 'bare', 1, 0.2, unit='ms', what='each start from a shell takes longer by'),
         added('private_kb', 'bare', 1024, 150, unit='KB', what='private pages more')],
        seconds=lambda b: 2.5 if b.full else 0.25, metrics=('start_ms', 'shell_ms', 'private_kb')),
]
