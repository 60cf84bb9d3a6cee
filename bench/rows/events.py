# SPDX-License-Identifier: Apache-2.0
"""C-4: what becomes of a load while meshd is killed and started again, and while a certificate is renewed."""
import json
import subprocess
import time

from bench.lib import load, procs
from bench.lib.row import Row, value
from bench.lib.servers import Redis

from .common import fill, half_rate, resp

NEW = ('--protocol', 'resp', '--command', 'ping', '--fresh', '--rate', 50, '--connections', 8)


def outcome(alone, during, new):
    """Requests of the load and new connections that failed, and how much later answers are."""
    return dict(during, alone_p99_us=alone['p99_us'], p99_ratio=during['p99_us'] / max(alone['p99_us'], 0.001),
                lost=during['errors'] + new['errors'], new_answered=new['raw']['answered'], new_p99_us=new['p99_us'],
                errors=alone['errors'] + during['errors'] + new['errors'])


class Event:
    """Redis at half of what it can do, while others connect; without the event, and with it in the middle."""
    mesh = 'mesh'

    def __init__(self, bench, system, layout):
        self.bench = bench
        self.running = bench.up(self.mesh, Redis(bench.build), layout)
        fill(64)(self.running)
        self.rate = half_rate(self.running)
        self.window = max(bench.window, 0.5)

    def both(self, event=None):
        """The load's metrics, and those of the new connections."""
        new = load.Load(self.running, *NEW, '--warmup', 0, '--window', self.window + 0.5, '--drain', 5,
                        place=self.running.layout.client)
        new.begin()
        main = load.Load(self.running, *resp('get', 64), '--rate', self.rate, '--warmup', 0.2, '--window', self.window).begin()
        if event:
            event()
        return main.end(), new.end()

    def measure(self):
        alone, _ = self.both()
        return outcome(alone, *self.both(self.event))

    def end(self):
        self.running.end()


class Restart(Event):
    """Killed after a third of the window, and started again at once. Every second round begins with it: whoever else is on the
    machine must not always meet the same half."""
    rounds = 0

    def event(self):
        time.sleep(self.window / 3)
        self.bench.meshd_again(self.mesh)

    def measure(self):
        runs, cpu = {}, {}
        for event in ((None, self.event), (self.event, None))[self.rounds % 2]:
            before = self.bench.meshd_cpu(self.mesh)
            runs[event] = self.both(event)
            cpu[event] = self.bench.meshd_cpu(self.mesh) - before
        self.rounds += 1
        return dict(outcome(runs[None][0], *runs[self.event]), meshd_ms=1e3 * (cpu[self.event] - cpu[None]))


class Renewal(Event):
    """The server's certificate is due in the middle of the window; a connection that comes then fetches a new one."""
    mesh = 'rotating'

    def __init__(self, bench, system, layout):
        if self.mesh not in bench.meshds:
            bench.meshds[self.mesh] = bench.meshd(self.mesh, 'meshd-rotate.conf')
        super().__init__(bench, system, layout)

    def certificate(self):
        """(serial, when it is due) of the server's."""
        out = subprocess.run([self.bench.build + '/meshctl', '--run-dir', self.bench.meshds[self.mesh].where, '--json', 'certs'],
                             check=True, capture_output=True, text=True).stdout
        own = [c for c in json.loads(out)['certs'] if c.get('pid') == self.running.server.pid]
        if not own:
            raise load.Failed('the server has no certificate')
        return max((c['serial'], c['renew_at']) for c in own)

    def fresh(self, seconds):
        """The server's certificate, not due for so long."""
        serial, due = self.certificate()
        while due - time.time() < seconds:
            load.run(self.running, *NEW, '--warmup', 0, '--window', 0.2)
            serial, due = self.certificate()
            time.sleep(0.2)
        return serial, due

    def measure(self):
        lead = self.window / 2 + 0.5
        serial, due = self.fresh(self.window + 5 + lead)
        alone, _ = self.both()
        procs.wait(lambda: time.time() > due - lead, 'its time', 60)
        during = self.both()
        if self.certificate()[0] == serial:
            raise load.Failed('no certificate was renewed')
        return outcome(alone, *during)


def goals(event):
    return [value('lost', 0, 0, worst=True, what='requests and connections lost, ' + event),
            value('p99_ratio', 2, 1.1, unit='x', what='p99 with it / without'),
            value('new_p99_us', unit='us', what='p99 of new connections and their request')]


RESTART_GOALS = [value('meshd_ms', unit='ms', what='processor time of the restart: meshd, and who starts it')]
METRICS = ('rate', 'alone_p99_us', 'p99_us', 'new_answered', 'new_p99_us', 'lost')
ROWS = [
    Row('C-4-meshd', 'Redis at half load and 50 new connections a second: meshd is killed and started again', ('mesh',), Restart,
        goals('meshd restarted') + RESTART_GOALS, metrics=METRICS + ('meshd_ms',),
        seconds=lambda b: 2 * max(b.window, 0.5) + 2, opening=lambda b: 2,
        notes='What takes more than 5 ms of a processor is in the p99 of half a second; a start of meshd takes some 10.'),
    Row('C-4-cert', "the same: the server's certificate is renewed", ('mesh',), Renewal, goals('certificate renewed'), quick=False,
        metrics=METRICS, seconds=lambda b: 32, opening=lambda b: 4),
]
