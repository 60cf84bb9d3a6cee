#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""status_abuse.py: meshd's sockets under hostile, broken, slow and very many clients.

E2E_BUILD: where meshd and meshctl are (default build/). One `ok` or `not ok` line for each test,
`N passed, N failed` at the end. A real meshd in a fresh directory; nothing but Unix sockets is used.
"""
import contextlib, json, os, random, resource, select, shutil, signal, socket, subprocess, sys
import tempfile, time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
BUILD = os.environ.get('E2E_BUILD', os.path.join(TOP, 'build'))
COMMANDS = ['help', 'status', 'services', 'endpoints', 'workloads', 'connections', 'certs', 'stats',
            'stat', 'top', 'edges', 'check', 'draining']
GOOD = ('mode = "strict";\nadmin = { listen = "unix:%s/admin.sock"; };\n'
        'services = ( { name = "cache"; addresses = ("127.0.0.1:1"); endpoints = ({ addr = "192.0.2.1:5"; }); } );\n')


class Meshd:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='status-abuse.')
        os.chmod(self.dir, 0o755)  # other users ask, too
        self.conf = os.path.join(self.dir, 'meshd.conf')
        self.log = open(os.path.join(self.dir, 'log'), 'w+')
        self.write(GOOD % self.dir)
        self.proc = subprocess.Popen([os.path.join(BUILD, 'meshd'), '-c', self.conf, '--run-dir',
                                      self.dir], stderr=self.log, stdin=subprocess.DEVNULL)
        until(lambda: os.path.exists(self.path('meshd.sock')), 'meshd to be ready')

    def write(self, text):
        with open(self.conf, 'w') as f:
            f.write(text)

    def path(self, name):
        return os.path.join(self.dir, name)

    def fds(self):
        return len(os.listdir('/proc/%d/fd' % self.proc.pid))

    def rss_mib(self):
        with open('/proc/%d/statm' % self.proc.pid) as f:
            return int(f.read().split()[1]) * resource.getpagesize() >> 20

    def stop(self):
        self.proc.terminate()
        code = self.proc.wait(60)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return code


WAIT = 15 # an answer that has to wait for others' time-outs takes longer; an ordinary one on a busy machine does not


def until(what, name, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError('waited in vain for ' + name)
        time.sleep(0.01)


def connect(name='status.sock', timeout=60):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(meshd.path(name))
    return s


def rest(s):
    """All that comes until the end; a reset counts as an end."""
    data = b''
    with contextlib.suppress(ConnectionError):
        while True:
            part = s.recv(1 << 16)
            if not part:
                break
            data += part
    return data


def ask(text, name='status.sock'):
    with connect(name) as s:
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
        return rest(s)


def ask_json(command):
    return json.loads(ask(command.encode() + b' json\n'))


def answers():
    start = time.monotonic()
    assert ask_json('status')['schema'] == 1
    assert time.monotonic() - start < WAIT, 'an ordinary client had to wait'


def text_answers_end_with_one_empty_line():
    for c in COMMANDS:
        a = ask(c.encode() + b'\n')
        assert a.endswith(b'\n\n') and a.count(b'\n\n') == 1 and not a.startswith(b'error'), (c, a)


def json_answers_are_one_line():
    for c in COMMANDS:
        a = ask(c.encode() + b' json\n')
        assert a.count(b'\n') == 1 and a.endswith(b'\n') and json.loads(a)['schema'] == 1, (c, a)


def many_commands_on_one_connection():
    with connect() as s:
        f = s.makefile('rwb')
        for _ in range(50):
            f.write(b'help\r\ncerts json\n\nnonsense\n')
            f.flush()
            lines = []
            while lines[-1:] != [b'\n']:
                lines.append(f.readline())
            assert len(lines) > 8
            assert json.loads(f.readline())['schema'] == 1
            assert f.readline().startswith(b'error: unknown') and f.readline() == b'\n'


def errors_help():
    assert ask(b'conections\n') == b"error: unknown command 'conections'; did you mean 'connections'?\n\n"
    assert ask(b'zzzzzz\n') == b"error: unknown command 'zzzzzz'; see 'help'\n\n"
    assert ask(b'status xml\n').startswith(b"error: unknown option 'xml'")
    assert json.loads(ask(b'status json x\n'))['error'].startswith("unknown option 'x'")
    assert 'unknown' in json.loads(ask(b'zz json\n'))['error']


def partial_input():
    with connect() as s:
        for c in b'status json\n':
            s.send(bytes([c]))
        assert json.loads(s.makefile().readline())['schema'] == 1
    assert ask(b'status json').startswith(b'error: ')  # cut off before its newline
    assert ask(b'') == b'' and ask(b'\n\n \r\n') == b''
    for n in range(1, 11):
        with connect() as s:
            s.send(b'status json'[:n])


def oversized_lines():
    assert ask(b'a' * 4096 + b'\n').startswith(b'error: unknown')
    for n in 4097, 5000, 1 << 20:
        assert ask(b'a' * n + b'\nhelp\n') == b'error: line too long\n\n', n
    assert ask(b'x' * (1 << 20)) == b'error: line too long\n\n'
    assert ask(b'help\n' + b'a' * 4097).endswith(b'\n\nerror: line too long\n\n')


def garbage():
    rnd = random.Random(1)
    for n in [1, 2, 15, 16, 17, 100, 4000, 100000] * 8:
        junk = rnd.randbytes(n)
        a = ask(junk)
        assert all(c == 10 or 32 <= c < 127 for c in a), a[:200]
        ask(junk, 'meshd.sock')
        ask(b'LBMH'[::-1] + junk, 'meshd.sock')
        ask(b'LBMH' + junk, 'meshd.sock')
    assert ask(b'\0' * 4000 + b'\n').startswith(b"error: unknown command '????")


def clients_that_do_not_read():
    """Thousands of commands and not one answer read: theirs to wait, nobody else's."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            s = stack.enter_context(connect())
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(200):
                    s.send(b'status json\nhelp\nconnections\n' * 50)
        for _ in range(20):
            answers()
        assert meshd.rss_mib() < 200, meshd.rss_mib()


def clients_that_go_away():
    for i in range(300):
        s = connect()
        s.send(b'status json\n' * 20)
        s.close()
    answers()


def a_thousand_clients_are_answered():
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect()) for _ in range(1000)]
        for s in socks:
            s.send(b'certs json\n')
        for s in socks:
            assert json.loads(s.makefile().readline())['schema'] == 1


def idle_clients_keep_nobody_out():
    with contextlib.ExitStack() as stack:
        for name in 'status.sock', 'meshd.sock':
            for _ in range(1500):
                stack.enter_context(connect(name))
        for _ in range(20):
            answers()


def half_requests_keep_nobody_out():
    with contextlib.ExitStack() as stack:
        for name in 'status.sock', 'meshd.sock', 'admin.sock':
            for _ in range(300):
                stack.enter_context(connect(name)).send(b'GET /metr'[:5])
        for _ in range(20):
            answers()


def http_is_bounded():
    def get(text):
        return ask(text, 'admin.sock')
    def request(line, headers=b''):
        return get(line + b' HTTP/1.1\r\nHost: x\r\nConnection: close\r\n' + headers + b'\r\n')
    a = request(b'GET /metrics')
    assert a.startswith(b'HTTP/1.1 200') and b'\nlibmesh_build_info{version="' in a
    assert request(b'GET /healthz').endswith(b'\r\n\r\nok\n')
    assert request(b'GET /x').startswith(b'HTTP/1.1 404')
    assert b'HTTP/1.1 4' in request(b'GET /metrics', b'X: ' + b'a' * 9000 + b'\r\n')
    assert b' 200 ' not in request(b'POST /metrics', b'Content-Length: 3\r\n\r\nabc')[:20]
    rnd = random.Random(2)
    for n in 1, 10, 1000, 20000:
        get(rnd.randbytes(n))
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connect('admin.sock'))
        assert request(b'GET /healthz').endswith(b'ok\n')


def a_bad_reload_changes_nothing():
    def config():
        return ask_json('status')['config']
    tried = config()['reloads']
    meshd.write('mode = "permisive";\nlinger = 5;\n')
    meshd.proc.send_signal(signal.SIGHUP)
    until(lambda: config()['reloads'] > tried, 'the reload')
    c = config()
    assert c['state'] != 'ok' and c['errors'] == 2, c
    assert c['first_error'].endswith(':1: error: mode: "permisive" is unknown; did you mean "permissive"?')
    assert ask_json('status')['mode'] == 'strict'
    assert b'config_last_reload_successful 0' in ask(b'GET /metrics HTTP/1.0\r\n\r\n', 'admin.sock')
    assert b'\nCONFIG ERROR' in ask(b'status\n')
    meshd.write((GOOD % meshd.dir).replace('strict', 'permissive') + 'trust_domain = "other";\n')
    meshd.proc.send_signal(signal.SIGHUP)
    until(lambda: config()['state'] == 'ok', 'the good reload')
    s = ask_json('status')
    assert s['mode'] == 'permissive' and s['trust_domain'] == 'mesh.local', s  # needs a restart


def meshctl_tells_how_it_went():
    def ctl(*args, env=None):
        p = subprocess.run([os.path.join(BUILD, 'meshctl'), *args], capture_output=True, text=True,
                           env={**os.environ, **(env or {})})
        return p.returncode, p.stdout, p.stderr
    for c in COMMANDS:
        if c in ('check', 'top'):
            continue  # more than one question: below
        code, out, err = ctl('--run-dir', meshd.dir, c)
        assert code == 0 and out.strip() and '\033' not in out and not err, (c, code, err)
        assert json.loads(ctl('--run-dir', meshd.dir, '--json', c)[1])['schema'] == 1
    assert ctl(env={'LIBMESH_RUN_DIR': meshd.dir})[1].startswith('meshd ')
    assert ctl('--socket', meshd.path('status.sock'), 'status')[0] == 0
    code, _, err = ctl('--run-dir', meshd.dir, 'staus')
    assert code == 2 and "did you mean 'status'" in err
    assert ctl('--nonsense')[0] == 2 and ctl('status', 'certs')[0] == 2
    assert ctl('--run-dir', meshd.dir + '/none')[0] == 3
    assert ctl('--socket', meshd.path('admin.sock'), 'certs')[0] == 3
    assert ctl('--help')[0] == 0


def ctl(*args):
    p = subprocess.run([os.path.join(BUILD, 'meshctl'), '--run-dir', meshd.dir, *args],
                       capture_output=True, text=True, timeout=300)
    return p.returncode, p.stdout, p.stderr


def orders():
    def draining():
        return [e['draining'] for e in ask_json('endpoints')['endpoints']]
    assert b"did you mean 'cache'" in ask(b'drain cach\n')
    assert ask(b'drain 192.0.2.1:6\n').startswith(b'error: no endpoint at 192.0.2.1:6')
    for bad in b'', b' ::', b' 1.2.3.4', b' ../x', b' 192.0.2.1:5 now', b' %s', b' a' * 3:
        assert ask(b'drain' + bad + b'\n').startswith(b'error: '), bad
    assert draining() == [False]
    code, out, err = ctl('drain', '192.0.2.1:5', '--wait=30')
    assert code == 0 and out.endswith('drained\n') and not err, (code, out, err)
    assert draining() == [True] and ask_json('services')['services'][0]['draining'] == 1
    assert ctl('drain', 'cache')[0] == 0 and len(ask_json('draining')['draining']) == 2
    row = ask_json('draining cache')['draining'][0]
    assert row['drained'] is True and row['endpoints'] == 1 and row['unacknowledged'] == 0, row
    assert ask_json('undrain 192.0.2.1:5')['undrain']['still_draining_by'] == 'cache'
    assert draining() == [True]
    assert ctl('undrain', 'cache')[1] == 'cache is back\n'
    assert ctl('undrain', 'cache')[1] == 'cache was not draining\n' and draining() == [False]
    assert ask(b'draining cache\n') == b"error: 'cache' is not draining\n\n"
    assert ctl('drain')[0] == 2 and ctl('drain', 'a b')[0] == 2 and ctl('drain', 'nix')[0] == 1


def orders_are_for_some():
    """Another user than meshd's is told so, and may look."""
    if os.geteuid() != 0:
        return
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setuid(65534)
        os.write(w, b''.join(ask(c) for c in (b'drain cache\n', b'undrain cache\n', b'draining\n')))
        os._exit(0)
    os.close(w)
    with os.fdopen(r, 'rb') as f:
        said = f.read()
    os.waitpid(pid, 0)
    assert said.count(b'error: not permitted to uid 65534') == 2 and b'TARGET' in said, said
    assert not ask_json('draining')['draining']


def check_says_what_is_wrong():
    def states():
        code, out, _ = ctl('--json', 'check')
        return code, {c['check']: c['state'] for c in json.loads(out)['checks']}
    code, seen = states()
    assert code == 0 and 'fail' not in seen.values(), seen
    assert {'meshd', 'versions', 'LD_PRELOAD', 'config', 'root CA', 'snapshot', 'run directory'} <= set(seen)
    os.chmod(meshd.dir, 0o777)
    code, seen = states()
    assert code == 1 and seen['run directory'] == 'fail', seen
    code, out, _ = ctl('check')
    assert code == 1 and '\nfail  run directory' in out and '-> it must be' in out, out
    os.chmod(meshd.dir, 0o755)
    with tempfile.TemporaryDirectory() as d:
        lib = os.path.join(d, 'libmesh.so')
        shutil.copy(os.path.join(BUILD, 'libmesh.so'), lib)
        os.environ['LIBMESH_LIB'] = lib
        code, seen = states()
        assert code == 1 and seen['engine'] == 'fail' and seen['LD_PRELOAD'] == 'fail', seen
        with open(lib, 'wb') as f:
            f.write(b'no library')
        code, seen = states()
        assert code == 1 and seen['LD_PRELOAD'] == 'fail', seen
        del os.environ['LIBMESH_LIB']
    p = subprocess.run([os.path.join(BUILD, 'meshctl'), '--run-dir', meshd.dir + '/none', '--json', 'check'],
                       capture_output=True, text=True)
    assert p.returncode == 1 and json.loads(p.stdout)['checks'][0]['state'] == 'fail'


def top_measures():
    code, out, _ = ctl('top', '--once', '--interval', '0.6')
    assert code == 0 and out.startswith('SERVICE') and '\033' not in out
    assert ctl('top', '--interval', 'x')[0] == 2
    assert ask_json('top')['seconds'] > 0


def nothing_leaks():
    until(lambda: meshd.fds() <= start_fds + 2, 'descriptors to be closed')
    assert meshd.proc.poll() is None
    answers()


TESTS = [text_answers_end_with_one_empty_line, json_answers_are_one_line,
         many_commands_on_one_connection, errors_help, partial_input, oversized_lines, garbage,
         clients_that_do_not_read, clients_that_go_away, a_thousand_clients_are_answered,
         idle_clients_keep_nobody_out, half_requests_keep_nobody_out, http_is_bounded,
         a_bad_reload_changes_nothing, meshctl_tells_how_it_went, orders, orders_are_for_some,
         check_says_what_is_wrong, top_measures, nothing_leaks]

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
meshd = Meshd()
failed = 0
try:
    answers()
    start_fds = meshd.fds()
    for test in TESTS:
        try:
            test()
            print('ok', test.__name__)
        except (AssertionError, OSError, ValueError, KeyError) as e:
            failed += 1
            print('not ok %s - %s: %s' % (test.__name__, type(e).__name__, str(e)[:500]))
        if meshd.proc.poll() is not None:
            print('# meshd ended with %d' % meshd.proc.returncode)
            break
        sys.stdout.flush()
finally:
    code = meshd.stop()
if code != 0:
    failed += 1
    print('not ok stop - exit %d' % code)
print('%d passed, %d failed' % (len(TESTS) - min(failed, len(TESTS)), failed))
sys.exit(1 if failed else 0)
