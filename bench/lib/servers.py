# SPDX-License-Identifier: Apache-2.0
"""The programs that are asked. Each is a command line for an address, plain or with its own mutual TLS."""
import os
import sys

from . import conf


BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HTTP = b'GET / HTTP/1.1\r\nHost: bench\r\n\r\n'


class Server:
    ask = b''  # a request that is answered at once

    def __init__(self, build):
        self.build = build

    def command(self, where, ip, port, certs=None):
        """argv; `where` is a directory of its own, `certs` asks for its own TLS."""
        raise NotImplementedError

    def environment(self, certs=None):
        """More of it, for the server alone."""
        return {}

    def behind(self, where, ip, port, certs=None):
        """(argv, port) of programs that it asks itself."""
        return []

    def ready(self, where, port):
        """Returns when it, which listens, answers."""

    def prove_own(self, running):
        """As proof.prove(), where its own TLS begins in its own way; None: it does not."""
        return None


class Redis(Server):
    name = 'redis'
    ask = b'PING\r\n'

    def command(self, where, ip, port, certs=None):
        cmd = ['redis-server', '--bind', ip, '--save', '', '--appendonly', 'no', '--dir', where, '--protected-mode', 'no',
               '--maxclients', '15000', '--tcp-backlog', '4096']
        if not certs:
            return cmd + ['--port', port]
        return cmd + ['--port', '0', '--tls-port', port, '--tls-cert-file', certs + '/server.pem', '--tls-key-file',
                      certs + '/server.key', '--tls-ca-cert-file', certs + '/ca.pem', '--tls-auth-clients', 'yes',
                      '--tls-protocols', 'TLSv1.3', '--tls-ciphersuites', 'TLS_AES_128_GCM_SHA256']


class Meshload(Server):
    """Its own servers: echo, sink, http."""

    def __init__(self, build, protocol, size=64):
        super().__init__(build)
        self.protocol, self.size = protocol, size
        self.name = protocol
        self.ask = HTTP if protocol == 'http' else b'x' * (size if protocol == 'sink' else 5)

    def command(self, where, ip, port, certs=None):
        cmd = [self.build + '/bench/meshload', 'serve', '--at', '%s:%d' % (ip, port), '--protocol', self.protocol,
               '--size', self.size]
        return cmd + conf.tls_options(certs, 'server')


class Web(Server):
    """nginx with files of so many bytes, named by their size."""
    name = 'nginx'
    ask = HTTP

    def __init__(self, build, sizes):
        super().__init__(build)
        self.sizes = sizes

    def command(self, where, ip, port, certs=None):
        os.chmod(where, 0o755)
        for size in self.sizes:
            with open('%s/%d' % (where, size), 'wb') as f:
                f.write(b'x' * size)
        path = conf.write('nginx-web.conf', where, dir=where, certs=certs or conf.CERTS, listen='%s:%d' % (ip, port),
                          ssl=' ssl' if certs else '', verify='on' if certs else 'off')
        return ['nginx', '-c', path, '-p', where, '-e', where + '/error.log']


class App(Server):
    """nginx, and an application behind it (bench/app)."""
    name = 'nginx and an application'
    ask = HTTP

    @staticmethod
    def place(ip, port):
        return ip, port + 3

    def command(self, where, ip, port, certs=None):
        path = conf.write('nginx-app.conf', where, dir=where, certs=certs or conf.CERTS, listen='%s:%d' % (ip, port),
                          to='%s:%d' % self.place(ip, port), scheme='https' if certs else 'http', ssl=' ssl' if certs else '',
                          verify='on' if certs else 'off')
        return ['nginx', '-c', path, '-p', where, '-e', where + '/error.log']

    def behind(self, where, ip, port, certs=None):
        at = self.place(ip, port)
        files = ['%s/%s' % (certs, f) for f in ('server.pem', 'server.key', 'ca.pem')] if certs else []
        return [([sys.executable, BENCH + '/app', *at] + files, at[1])]

    def environment(self, certs=None):
        return conf.openssl('app.cnf', 'X25519') if certs else {}
