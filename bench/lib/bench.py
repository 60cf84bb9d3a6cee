# SPDX-License-Identifier: Apache-2.0
"""A run of the benchmark: its meshd, its certificates, its networks, and the loop over rows and rounds."""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from . import certs, cgroup, conf, load, machine, net, procs, proof, stats, systems

# What one system, or one round of it, may come to grief by; the others go on.
FAILURES = (load.Failed, procs.NotReady, proof.NotProved, OSError, ValueError, LookupError, subprocess.SubprocessError)
LAYOUTS = ('hosts', 'spin', 'near', 'free')


class Bench:
    def __init__(self, build, full, out):
        self.build, self.full, self.out = build, full, out
        self.window = 5 if full else 0.3
        self.warmup = 1 if full else 0.1
        self.accounts = cgroup.Accounts()
        self.net = net.Net(bool(os.environ.get('BENCH_OWN_NET')))
        self.layouts = {name: net.Layout(name, self.net) for name in LAYOUTS}
        self.dir = tempfile.mkdtemp(prefix='mesh-bench-')
        os.chmod(self.dir, 0o755)
        conf.CERTS = os.path.join(self.dir, 'certs')
        os.mkdir(conf.CERTS)
        certs.make(conf.CERTS)
        self.port = 20000
        self.meshds, self.proofs, self.live = {}, {}, []
        self.calibration = self.calibrate()
        self.preload = self.readable_copy()
        for name, template in (('mesh', 'meshd.conf'), ('unmeshed', 'meshd-off.conf')):
            self.meshds[name] = self.meshd(name, template)

    def calibrate(self, *names):
        """The machine's limits as they are now; all, or those whose names begin so."""
        return json.loads(subprocess.run([self.build + '/bench/calibrate', '--json', *names], check=True, text=True,
                                         stdout=subprocess.PIPE).stdout)

    def ns(self, what):
        """Of the calibration at the start: nanoseconds."""
        return self.calibration[what]['ns']

    def readable_copy(self):
        """libmesh.so, with what it needs beside it, where a server finds it that is another user's: the build may lie in a
        folder that is nobody else's, and the loader starts a program without a library that it cannot read."""
        where = self.dir + '/lib'
        os.mkdir(where)
        for name in ('libmesh.so', 'libmesh-engine.so', 'libmesh-relay'):
            shutil.copy(os.path.join(self.build, name), where)
        subprocess.run(['chmod', '-R', 'a+rX', where], check=True)
        return where + '/libmesh.so'

    def meshd(self, name, template):
        where = os.path.join(self.dir, name)
        os.mkdir(where)
        os.chmod(where, 0o755)
        path = conf.write(template, where)
        return self.meshd_start([self.build + '/meshd', '-c', path, '--run-dir', where], where, self.accounts.group('meshd-' + name))

    def meshd_start(self, cmd, where, group):
        p = procs.Process(cmd, net.Place(None, None), group, log=where + '/log')
        p.group, p.where = group, where
        procs.wait(lambda: os.path.exists(where + '/meshd.sock') and
                   not socket.socket(socket.AF_UNIX).connect_ex(where + '/meshd.sock'), 'meshd')
        return p

    def meshd_again(self, name):
        """Killed, and started anew."""
        old = self.meshds[name]
        old.proc.kill()
        old.end()
        self.meshds[name] = self.meshd_start(old.cmd, old.where, old.group)

    def env(self, system):
        preload = {'LD_PRELOAD': self.preload}
        if system == 'off':
            return procs.clean_env(LIBMESH='off', **preload)
        if system in self.meshds:
            return procs.clean_env(LIBMESH_RUN_DIR=self.meshds[system].where, **preload)
        return procs.clean_env()

    def meshd_cpu(self, system):
        return self.meshds[system].group.cpu() if system in self.meshds else 0.0

    def up(self, system, server, layout):
        """A system with its server; ports of its own."""
        self.port = self.port + 10 if self.port < 29000 else 20000
        self.live.append(systems.Running(self, system, server, layout, self.port))
        return self.live[-1]

    def down(self):
        """Everything that is up, also what failed half way."""
        while self.live:
            self.live.pop().end()

    def end(self):
        self.down()
        for p in self.meshds.values():
            p.end()
            p.group.end()
        self.net.end()
        shutil.rmtree(self.dir, ignore_errors=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def chosen(bench, row, only=None, pairs=None):
    """(systems, pairs) of this run."""
    names = [s for s in row.systems if s in only] if only else list(row.systems) if bench.full else row.short()
    return names, pairs or (max(10, row.full_pairs) if bench.full else row.pairs)


def row_run(bench, row, only=None, pairs=None, progress=lambda share: None):
    """The row's result, which is JSON already: every round as it was, and what could not be measured."""
    began = time.monotonic()
    result = {'id': row.id, 'title': row.title, 'layout': row.layout, 'losing': row.losing, 'notes': row.notes,
              'missing': {}, 'failed': [], 'rounds': []}
    instances = {}
    names, pairs = chosen(bench, row, only, pairs)
    result['left_out'] = [s for s in row.systems if s not in names]
    try:
        for name in names:
            why = systems.missing(name, bench.layouts[row.layout])
            try:
                if why is None:
                    instances[name] = row.open(bench, name, bench.layouts[row.layout])
            except FAILURES as e:
                why = 'did not start: %s' % e
            if why:
                result['missing'][name] = why
                say('   %s: %s' % (name, why))
        for n, order in enumerate(stats.orders(list(instances), pairs, seed=len(row.id) * 7919 + ord(row.id[-1]))):
            result['rounds'].append(round_run(instances, order, n, result))
            progress((n + 1) / pairs)
    finally:
        result['proofs'] = dict(bench.proofs)
        for i in instances.values():
            i.end()
        bench.down()
    result['seconds'] = time.monotonic() - began
    return result


def round_run(instances, order, n, result):
    values = {}
    for name in order:
        try:
            values[name] = instances[name].measure()
        except FAILURES as e:
            result['failed'].append({'round': n, 'system': name, 'why': str(e)[-300:]})
            say('   %s, round %d: %s' % (name, n + 1, str(e)[-300:]))
    return {'order': order, 'values': values}


def facts(bench):
    return dict(machine.facts(), accounts=bench.accounts.describe(), full=bench.full,
                network='two namespaces joined by veth' if bench.net.ns is not None else 'loopback')
