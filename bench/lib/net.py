# SPDX-License-Identifier: Apache-2.0
"""Where things run. A layout gives each part a network namespace and processors.

hosts  two network namespaces joined by a veth pair, client side on processor 0, server side on 1, each proxy
       with its program: two hosts of one processor
spin   the same, but the generator has processor 0 for itself, so that it may spin; the rest is on 1
near   one namespace, loopback, the processors as with `hosts`: for servers that refuse to be root, whose listeners
       meshd believes within its own namespace only
free   one namespace, loopback, no processor of its own for anybody

Without the privilege for namespaces, `hosts` and `spin` are on loopback, with the processors alone.
"""
import ctypes
import os
import subprocess

CLIENT, SERVER = '10.77.0.1', '10.77.0.2'
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Place:
    def __init__(self, ns, cpus):
        self.ns, self.cpus = ns, cpus

    def enter(self):
        """In the child, before exec."""
        if self.ns is not None and libc.setns(self.ns, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'setns')
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)


class Net:
    """Two hosts, as far as we may."""

    def __init__(self, allowed):
        self.holder, self.ns = None, None
        if allowed:
            self.holder = subprocess.Popen(['unshare', '-n', 'sh', '-c', 'echo up; exec sleep 100000'],
                                           stdout=subprocess.PIPE, text=True)
            try:
                if self.holder.stdout.readline() != 'up\n':
                    raise OSError('no namespace')
                self.join()
            except (OSError, subprocess.SubprocessError):
                self.end()
                self.ns = None
        tune()

    def ip(self, *cmd, inside=False):
        subprocess.run((['nsenter', '-n', '-t', str(self.holder.pid)] if inside else []) + ['ip'] + [str(c) for c in cmd],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def join(self):
        pid = self.holder.pid
        self.ip('link', 'add', 'mesh0', 'type', 'veth', 'peer', 'name', 'mesh1', 'netns', pid)
        self.ip('addr', 'add', CLIENT + '/24', 'dev', 'mesh0')
        self.ip('link', 'set', 'mesh0', 'up')
        self.ip('addr', 'add', SERVER + '/24', 'dev', 'mesh1', inside=True)
        self.ip('link', 'set', 'mesh1', 'up', inside=True)
        self.ip('link', 'set', 'lo', 'up', inside=True)
        self.ns = os.open('/proc/%d/ns/net' % pid, os.O_RDONLY | os.O_CLOEXEC)

        def inside():
            libc.setns(self.ns, CLONE_NEWNET)
            tune()
        subprocess.run(['true'], preexec_fn=inside, check=True)

    def shut(self, port):
        """Nobody but the server's own host gets to this port of it any more, until open(). By a routing rule, before that of
        local addresses: only what begins a connection is looked up, so those who are measured in turn pay nothing."""
        rule = ('pref', 1, 'iif', 'mesh1', 'ipproto', 'tcp', 'dport', port, 'blackhole')
        self.ip('rule', 'add', 'pref', 2, 'lookup', 'local', inside=True)
        self.ip('rule', 'add', *rule, inside=True)
        self.ip('rule', 'del', 'pref', 0, inside=True)

    def open(self):
        self.ip('rule', 'add', 'pref', 0, 'lookup', 'local', inside=True)
        for pref in (1, 2):
            self.ip('rule', 'del', 'pref', pref, inside=True)

    def end(self):
        if self.holder:
            self.holder.kill()
            self.holder.wait()
            self.holder = None


def tune():
    """Connection after connection must not run out of ports; only ever in a namespace of our own."""
    if not os.environ.get('BENCH_OWN_NET'):
        return
    for name, value in (('ip_local_port_range', '30000 65000'), ('tcp_tw_reuse', '1'), ('tcp_max_syn_backlog', '4096')):
        try:
            with open('/proc/sys/net/ipv4/' + name, 'w') as f:
                f.write(value)
        except OSError:
            pass


class Layout:
    def __init__(self, name, net):
        cpus = sorted(os.sched_getaffinity(0))
        first, second = ({cpus[0]}, {cpus[1]}) if len(cpus) > 1 and name != 'free' else (None, None)
        far = net.ns if name in ('hosts', 'spin') else None
        self.name, self.net = name, net
        self.server_ip = SERVER if far is not None else '127.0.0.1'
        self.load = Place(None, first)
        self.client = Place(None, second if name == 'spin' else first)
        self.server = Place(far, second)
        self.two_hosts = far is not None
        self.may_spin = name == 'spin' and len(cpus) > 1
