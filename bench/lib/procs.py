# SPDX-License-Identifier: Apache-2.0
"""Programs that a measurement starts, and ends again. Ready is who listens."""
import os
import resource
import subprocess
import time

DEADLINE = 30


class NotReady(Exception):
    pass


def clean_env(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(('LIBMESH', 'BENCH_')) and k != 'LD_PRELOAD'}
    env.update(LC_ALL='C', **more)
    return env


def wait(condition, what, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NotReady(what)
        time.sleep(0.005)


def listening(pid, port):
    """In the namespace of this process."""
    want = ':%04X' % port
    for name in ('tcp', 'tcp6'):
        try:
            with open('/proc/%d/net/%s' % (pid, name)) as f:
                next(f)
                if any(l.split()[3] == '0A' and l.split()[1].endswith(want) for l in f):
                    return True
        except OSError:
            pass
    return False


class Process:
    def __init__(self, cmd, place, group, env=None, port=None, log=None, **popen):
        def child():
            group.enter()
            place.enter()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.cmd = [str(c) for c in cmd]
        out = open(log, 'ab') if log else subprocess.DEVNULL
        popen = dict(dict(stdin=subprocess.DEVNULL, stdout=out, stderr=out), **popen)
        self.proc = subprocess.Popen(self.cmd, env=env or clean_env(), preexec_fn=child, **popen)
        if log:
            out.close()
        group.started(self.proc.pid)
        self.pid = self.proc.pid
        if port:
            try:
                wait(lambda: self.proc.poll() is not None or listening(self.pid, port), self.cmd[0])
                if self.proc.poll() is not None:
                    raise NotReady('%s ended with %d%s' % (self.cmd[0], self.proc.returncode,
                                                           ': ' + tail(log) if log else ''))
            except NotReady:
                self.end()
                raise

    def end(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(5)
            except subprocess.TimeoutExpired:
                self.proc.kill()
        self.proc.wait()


def tail(path):
    with open(path, errors='replace') as f:
        return ' / '.join(f.read().strip()[-300:].split('\n'))


def family(pid):
    """A process and all that descend from it."""
    yield pid
    try:
        with open('/proc/%d/task/%d/children' % (pid, pid)) as f:
            children = f.read().split()
    except OSError:
        return
    for c in children:
        yield from family(int(c))
