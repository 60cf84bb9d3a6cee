# SPDX-License-Identifier: Apache-2.0
"""meshload, and what everything cost while its window was open."""
import json
import subprocess

from . import machine, procs


class Failed(Exception):
    pass


class Load:
    """One run of the generator against a system. begin() returns when the window opens, end() its metrics."""

    def __init__(self, running, *options, place=None):
        self.running = running
        layout = running.layout
        cmd = [running.bench.build + '/bench/meshload', 'run', '--to', '%s:%d' % running.address, '--mark']
        cmd += [str(o) for o in options] + running.options
        if layout.may_spin and '--max' not in options and '--no-spin' not in options:
            cmd.append('--spin')
        cmd = [c for c in cmd if c != '--no-spin']
        self.process = procs.Process(cmd, place or layout.load, running.groups['load'], running.env,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def begin(self):
        self.expect('begin')
        self.cpu, self.share = self.running.cpu(), machine.Share()
        return self

    def expect(self, word):
        line = self.process.proc.stdout.readline()
        if line != word + '\n':
            err = self.process.proc.stderr.read().strip()[-200:]
            self.end_process()
            raise Failed(err or 'meshload ended')

    def end(self):
        self.expect('end')
        after, share = self.running.cpu(), self.share.end()
        # Not communicate(), which does not know what readline() has read already.
        out = self.process.proc.stdout.read()
        self.end_process()
        r = json.loads(out)
        return metrics(r, {k: after[k] - self.cpu[k] for k in after}, share)

    def end_process(self):
        self.process.end()
        self.process.proc.stdout.close()
        self.process.proc.stderr.close()


def metrics(r, cpu, share):
    total = sum(cpu.values())
    count, lat = max(r['answered'], 1), r['latency_ns']
    moved = max(r['bytes_out'], r['bytes_in']) or 1
    return {
        'rate': r['rate'], 'errors': sum(r['errors'].values()), 'error_kinds': {k: v for k, v in r['errors'].items() if v},
        'p50_us': lat['p50'] / 1e3, 'p90_us': lat['p90'] / 1e3, 'p99_us': lat['p99'] / 1e3, 'p999_us': lat['p999'] / 1e3,
        'max_us': lat['max'] / 1e3, 'late_p50_us': r['late_ns']['p50'] / 1e3, 'late_p99_us': r['late_ns']['p99'] / 1e3,
        'connect_p50_us': r['connect_ns']['p50'] / 1e3, 'busy_sends': r['busy'],
        'cpu_us': total * 1e6 / count, 'cpu_s_per_gb': total * 1e9 / moved,
        'cpu_parts_us': {k: v * 1e6 / count for k, v in cpu.items()},
        'raw': r, **disturbance(total, share),
    }


def disturbance(used, share):
    """What others did meanwhile, when we used so many seconds."""
    return {'others_share': max(0.0, share['busy_s'] - used) / max(share['busy_s'], 1e-9),
            'steal_share': share['steal_share'], 'machine_busy': share['busy_share']}


def run(running, *options):
    return Load(running, *options).begin().end()
