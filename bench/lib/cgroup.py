# SPDX-License-Identifier: Apache-2.0
"""Processor time of everything that was started, by control groups where they can be had.

Version 1 (cpuacct) and version 2 (cpu.stat, which every group has) count in the scheduler, to the nanosecond
and microsecond, with all children, also those that ended. Where neither may be used, the process tree's own
accounts are added up: children that nobody waited for are missing then, and the report says so.
"""
import os
import re


def mounts():
    with open('/proc/self/mounts') as f:
        for line in f:
            _, where, kind, options = line.split()[:4]
            yield where, kind, options.split(',')


def root():
    """(kind, directory in which groups can be made), best first."""
    found = [('v1', w) for w, kind, o in mounts() if kind == 'cgroup' and 'cpuacct' in o]
    found += [('v2', w) for w, kind, _ in mounts() if kind == 'cgroup2']
    for kind, where in found:
        probe = os.path.join(where, 'mesh-bench-probe-%d' % os.getpid())
        try:
            os.mkdir(probe)
            os.rmdir(probe)
            return kind, where
        except OSError:
            continue
    return 'processes', None


class Group:
    """Processes whose time is one number."""

    def __init__(self, accounts, name):
        self.accounts, self.pids = accounts, []
        self.path = accounts.where and os.path.join(accounts.where, 'mesh-bench-%d-%s' % (os.getpid(), name))
        if self.path:
            os.mkdir(self.path)

    def enter(self):
        """In the child, before exec."""
        if self.path:
            with open(self.path + '/cgroup.procs', 'w') as f:
                f.write('0')

    def started(self, pid):
        self.pids.append(pid)

    def cpu(self):
        """Seconds."""
        if self.accounts.kind == 'v1':
            with open(self.path + '/cpuacct.usage') as f:
                return int(f.read()) / 1e9
        if self.accounts.kind == 'v2':
            with open(self.path + '/cpu.stat') as f:
                return int(re.search(r'usage_usec (\d+)', f.read()).group(1)) / 1e6
        return sum(tree(p) for p in self.pids)

    def end(self):
        if self.path:
            try:
                os.rmdir(self.path)
            except OSError:
                pass  # somebody is still in it; it goes with the machine


def tree(pid):
    """A process, its children that are alive, and those that it waited for: seconds."""
    try:
        with open('/proc/%d/stat' % pid) as f:
            v = f.read().rsplit(')', 1)[1].split()
        with open('/proc/%d/task/%d/children' % (pid, pid)) as f:
            children = f.read().split()
    except OSError:
        return 0.0
    return sum(map(int, v[11:15])) / os.sysconf('SC_CLK_TCK') + sum(tree(int(c)) for c in children)


class Accounts:
    def __init__(self):
        self.kind, self.where = root()
        self.count = 0

    def group(self, name):
        self.count += 1
        return Group(self, '%d-%s' % (self.count, name))

    def describe(self):
        return {'v1': 'control groups (cpuacct)', 'v2': 'control groups (cpu.stat)',
                'processes': 'process accounts (no control group may be made here: what ended unseen is missing)'}[self.kind]
