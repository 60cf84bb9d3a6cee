# SPDX-License-Identifier: Apache-2.0
"""What machine this is, and what else it did while something was measured."""
import glob
import os
import platform
import re
import shutil
import subprocess


class Share:
    """The machine's own account from now until end(): processor seconds that were busy, and stolen."""

    def __init__(self):
        self.start = self.read()

    @staticmethod
    def read():
        with open('/proc/stat') as f:
            v = [int(x) for x in f.readline().split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = v
        hz = os.sysconf('SC_CLK_TCK')
        return (user + nice + system + irq + softirq) / hz, steal / hz, sum(v) / hz

    def end(self):
        busy, steal, total = (b - a for a, b in zip(self.start, self.read()))
        return {'busy_s': busy, 'steal_s': steal, 'busy_share': busy / total if total else 0.0,
                'steal_share': steal / total if total else 0.0}


def first_line(*cmd):
    """The first that has a number."""
    try:
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
        return next((re.sub(r'^/\S*/', '', l.strip())[:100] for l in p.stdout.split('\n') if re.search(r'\d', l)), None)
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_model():
    with open('/proc/cpuinfo') as f:
        m = re.search(r'^model name\s*:\s*(.*)', f.read(), re.M)
    return m.group(1) if m else platform.machine()


def binary(name):
    """Path of a program that is named in the environment ($ENVOY), or is in PATH; or None."""
    path = os.environ.get(name.upper()) or shutil.which(name)
    return path if path and os.access(path, os.X_OK) else None


def postgres_binary(name='postgres'):
    """Path of one of PostgreSQL's programs, or None: Debian keeps the server's out of PATH."""
    found = sorted(glob.glob('/usr/lib/postgresql/*/bin/' + name), key=lambda p: int(re.sub(r'\D', '', p) or 0))
    return found[-1] if found else shutil.which(name)


def facts():
    postgres = postgres_binary()

    def version(name, option):
        return first_line(binary(name), option) if binary(name) else None
    return {
        'cpu': cpu_model(), 'cpus': len(os.sched_getaffinity(0)), 'kernel': platform.release(),
        'load': os.getloadavg()[0],
        'versions': {name: line for name, line in (
            ('openssl', first_line('openssl', 'version')), ('redis', first_line('redis-server', '--version')),
            ('nginx', first_line('nginx', '-v')), ('haproxy', first_line('haproxy', '-v')),
            ('stunnel', first_line('stunnel', '-version')),
            ('envoy', version('envoy', '--version')), ('ghostunnel', version('ghostunnel', '--version')),
            ('ztunnel', version('ztunnel', 'version')),
            ('postgres', first_line(postgres, '--version') if postgres else None),
            ('libmesh', first_line('git', '-C', os.path.dirname(__file__), 'describe', '--always', '--dirty')),
        ) if line},
    }
