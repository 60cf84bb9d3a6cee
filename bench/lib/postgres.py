# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL as a server, and pgbench as its load."""
import os
import pwd
import re
import shutil
import socket
import subprocess

from . import conf, load, machine, procs
from .machine import postgres_binary as binary
from .servers import Server

USER = 'postgres'
PLAIN = 'host all all 0.0.0.0/0 trust\n'
NOTE = 'PostgreSQL takes no X25519: its own TLS exchanges keys on P-256.'


def as_user(*cmd):
    """The server refuses to be root."""
    if os.geteuid() != 0:
        return list(cmd)
    return ['setpriv', '--reuid', USER, '--regid', str(pwd.getpwnam(USER).pw_gid), '--clear-groups'] + list(cmd)


def own(path):
    if os.geteuid() == 0:
        who = pwd.getpwnam(USER)
        os.chown(path, who.pw_uid, who.pw_gid)


def words(address):
    """libpq's of a database: host and port, one with a key in a file that only we may read."""
    return 'host=%s port=%s user=%s dbname=postgres gssencmode=disable' % (address[0], address[1], USER)


def openssl():
    """Both sides' key shares are on the curve that the server insists on: no handshake needs a second try."""
    return conf.openssl('postgres.cnf', 'P-256')


def tls_environment(certs):
    """libpq's, for mutual TLS."""
    key = certs + '/libpq.key'
    if not os.path.exists(key):
        shutil.copy(certs + '/client.key', key)
        os.chmod(key, 0o600)
    return dict(PGSSLMODE='verify-ca', PGSSLCERT=certs + '/client.pem', PGSSLKEY=key, PGSSLROOTCERT=certs + '/ca.pem',
                PGSSLMINPROTOCOLVERSION='TLSv1.3', **openssl())


def startup():
    """The first message of a client: version 3, who, and which database."""
    said = b''.join(w + b'\0' for w in (b'user', USER.encode(), b'database', b'postgres', b''))
    return (len(said) + 8).to_bytes(4, 'big') + b'\0\3\0\0' + said


class Postgres(Server):
    name = 'postgres'
    ask = startup()

    def __init__(self, bench, scale):
        super().__init__(bench.build)
        self.bench, self.scale = bench, scale

    def command(self, where, ip, port, certs=None):
        if not binary('postgres'):
            raise procs.NotReady('no postgres here')
        data = where + '/data'
        subprocess.run(['cp', '-a', self.template(), data], check=True)
        options = dict(listen_addresses=ip, port=port, unix_socket_directories=where)
        if certs:
            shutil.copy(certs + '/server.key', data + '/server.key')
            os.chmod(data + '/server.key', 0o600)
            own(data + '/server.key')
            options.update(ssl='on', ssl_cert_file=certs + '/server.pem', ssl_key_file=data + '/server.key',
                           ssl_ca_file=certs + '/ca.pem', ssl_min_protocol_version='TLSv1.3')
            with open(data + '/pg_hba.conf', 'w') as f:
                f.write('local all all trust\nhostssl' + PLAIN[4:-1] + ' clientcert=verify-ca\n')
        own(where)
        return as_user(binary('postgres'), '-D', data, *('--%s=%s' % o for o in options.items()))

    def environment(self, certs=None):
        return openssl() if certs else {}

    def template(self):
        """A cluster with pgbench's tables, made once for a run of the benchmark."""
        where = '%s/postgres-%d' % (self.bench.dir, self.scale)
        data = where + '/data'
        if os.path.exists(data + '/ready'):
            return data
        shutil.rmtree(where, ignore_errors=True)
        os.mkdir(where)
        own(where)

        def run(*cmd):
            subprocess.run(cmd, check=True, capture_output=True, env=procs.clean_env(), cwd=where)
        try:
            run(*as_user(binary('initdb'), '-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'))
            with open(data + '/postgresql.auto.conf', 'a') as f:
                f.write("fsync = off\nautovacuum = off\nmax_connections = 300\nshared_buffers = '256MB'\nmax_wal_size = '4GB'\n")
            with open(data + '/pg_hba.conf', 'w') as f:
                f.write('local all all trust\n' + PLAIN)
            ctl = as_user(binary('pg_ctl'), '-D', data, '-w', '-s', '-l', where + '/log', '-o',
                          "-c listen_addresses='' -c unix_socket_directories=" + where)
            run(*ctl, 'start')
            try:
                run(binary('pgbench'), '-q', '-i', '-s', str(self.scale), words((where, 5432)))
            finally:
                run(*ctl, 'stop')
        except subprocess.CalledProcessError as e:
            raise procs.NotReady('%s: %s' % (e.cmd[0], e.stderr.decode(errors='replace')[-200:]))
        open(data + '/ready', 'w').close()
        return data

    def ready(self, where, port):
        """It listens before it lets anybody in."""
        ask = [binary('psql'), '-Atc', 'SELECT 1', words((where, port))]
        procs.wait(lambda: subprocess.call(ask, env=procs.clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0,
                   'postgres')

    def prove_own(self, running):
        """Its TLS begins within its own protocol: asked of itself."""
        with socket.create_connection(running.address, 5) as s:
            s.sendall(self.ask)
            if s.recv(1) != b'E':
                raise procs.NotReady('postgres answers without TLS')

        def psql(env, sql='SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()'):
            p = subprocess.run([binary('psql'), '-Atc', sql, words(running.address)], env=procs.clean_env(**env), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            return None if p.returncode else p.stdout.strip()
        env = tls_environment(conf.CERTS)
        served = psql(dict(env, PGSSLCERT='/nonexistent', PGSSLKEY='/nonexistent'))
        found = psql(env)
        if served is not None or found != 'TLSv1.3|TLS_AES_128_GCM_SHA256':
            raise procs.NotReady('postgres: without a certificate %r, with one %r' % (served, found))
        return {'plain': False, 'without_certificate': False, 'version': 'TLSv1.3', 'cipher': found.split('|')[1]}


# ---- pgbench ----

def read(text):
    """What pgbench says at its end."""
    def one(pattern, default=None):
        m = re.search(pattern, text)
        if not m and default is None:
            raise ValueError('pgbench: ' + text[-200:])
        return float(m.group(1)) if m else default
    return {'rate': one(r'tps = ([\d.]+)'), 'latency_ms': one(r'latency average = ([\d.]+)'),
            'connecting_ms': one(r'initial connection time = ([\d.]+)', 0.0),
            'count': one(r'actually processed: (\d+)'), 'errors': one(r'failed transactions: (\d+)', 0.0)}


class Pgbench:
    """One run of the generator, and what it cost everybody: so many transactions as take a window, for pgbench's own clock
    knows whole seconds only."""

    def __init__(self, running, clients, *options):
        self.running = running
        self.options = ['-n', '-c', str(clients)] + [str(o) for o in options]
        self.env = dict(running.env, **(tls_environment(conf.CERTS) if running.name == 'own' else {'PGSSLMODE': 'disable'}))
        rate = self.run('-T', '1')['rate']
        self.each = max(10, round(rate * running.bench.window / clients))

    def measure(self):
        return self.run('-t', str(self.each))

    def run(self, *amount):
        cpu, share = self.running.cpu(), machine.Share()
        p = self.running.run('load', [binary('pgbench'), *amount] + self.options + [words(self.running.address)],
                             self.running.layout.load, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = p.proc.communicate(timeout=60 + 20 * self.running.bench.window)
        if p.proc.returncode:
            raise load.Failed('pgbench: ' + err[-200:])
        after, share = self.running.cpu(), share.end()
        v = read(out)
        used = sum(after.values()) - sum(cpu.values())
        return dict(v, cpu_us=used * 1e6 / max(v['count'], 1), **load.disturbance(used, share))

    def end(self):
        self.running.end()
