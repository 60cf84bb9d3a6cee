# SPDX-License-Identifier: Apache-2.0
"""What several topics need."""
import os
import re
import signal
import subprocess

from bench.lib import load

ROWS = []  # none here
BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MB = 1 << 20


def timed(*options, times=1, warm=0):
    """A load's options with this run's warm-up, or a longer one, and window, or several."""
    return options + ('--warmup', lambda b: max(b.warmup, warm), '--window', lambda b: b.window * times)


def resp(command, size, connections=50, pipeline=1):
    return ('--protocol', 'resp', '--command', command, '--size', size, '--connections', connections, '--pipeline', pipeline)


def fill(size, prefix='key', keys=1000):
    """Writes all keys, by the way that is measured."""
    def prepare(running):
        load.run(running, *resp('set', size, 1, 32 if size < 10000 else 1), '--prefix', prefix, '--keys', keys, '--max',
                 '--warmup', 0, '--window', 0.5)
    return prepare


def half_rate(running):
    """Half of the small gets that Redis can answer."""
    return load.run(running, *resp('get', 64), '--max', '--warmup', 0.2, '--window', 0.5)['rate'] / 2


def aead(b, size):
    """One record sealed and opened, nanoseconds."""
    return b.ns('aes-128-gcm seal %d' % size) + b.ns('aes-128-gcm open %d' % size)


def ratio_limit(size, records=2):
    """What is left of bare's throughput when each request costs its ciphers and nothing else."""
    def limit(b, mids):
        bare = mids['bare']['cpu_us'] * 1e3
        return bare / (bare + records * aead(b, size))
    return limit


def latency_limit(size):
    """A request and its answer are each sealed and opened, one after the other: microseconds."""
    return lambda b, mids: 2 * aead(b, size) / 1e3


class Command:
    """A program that is run bare or preloaded; read(text) makes metrics of what it prints."""

    def __init__(self, bench, system, read, *cmd):
        self.bench, self.cmd, self.read = bench, [str(c) for c in cmd], read
        self.env = bench.env(system)

    def measure(self):
        # A group of its own: what runs for too long is ended with all that it started.
        p = subprocess.Popen(self.cmd, env=dict(self.env, BUILD=self.bench.build), stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = p.communicate(timeout=900 if self.bench.full else 120)
        except BaseException:
            os.killpg(p.pid, signal.SIGTERM)
            p.communicate()
            raise
        if p.returncode:
            raise load.Failed('%s: %s' % (self.cmd[0], err.strip()[-200:]))
        return self.read(out)

    def end(self):
        pass


def command(read, *cmd):
    """An open(); words that are functions are of the bench."""
    def open_one(bench, system, layout):
        return Command(bench, system, read, *[c(bench) if callable(c) else c for c in cmd])
    return open_one


def numbers(**patterns):
    """A read() that finds one number for each name."""
    return lambda text: {name: float(re.search(p, text).group(1)) for name, p in patterns.items()}


def private_dirty(pid):
    """Bytes that this process has alone."""
    with open('/proc/%d/smaps_rollup' % pid) as f:
        return 1024 * int(re.search(r'^Private_Dirty: +(\d+)', f.read(), re.M).group(1))
