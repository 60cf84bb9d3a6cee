#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What judges the measurements: order of rounds, intervals, goals, the rows themselves and how long they take,
configuration files, accounts of processes, what is read from a wire."""
import glob
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
sys.dont_write_bytecode = True

from bench.lib import bench, cgroup, conf, net, plan, plot, postgres, procs, proof, report, row, stats, systems, wire  # noqa: E402
from bench.rows import events, process  # noqa: E402


class Statistics(unittest.TestCase):
    def test_each_second_round_goes_back(self):
        rounds = list(stats.orders('abcde', 10, 1))
        for there, back in zip(rounds[::2], rounds[1::2]):
            self.assertEqual(there, back[::-1])
            self.assertEqual(sorted(there), list('abcde'))
        self.assertGreater(len({tuple(r) for r in rounds}), 2)
        self.assertEqual(rounds, list(stats.orders('abcde', 10, 1)))

    def test_interval_holds_the_median_and_shrinks(self):
        few, many = (stats.interval([1 + (i * 7 % 10) / 10 for i in range(n)]) for n in (10, 1000))
        for mid, low, high in (few, many):
            self.assertTrue(low <= mid <= high)
        self.assertLess(many[2] - many[1], few[2] - few[1])

    def test_one_outlier_is_kept_and_moves_no_median(self):
        self.assertEqual(stats.interval([1] * 9 + [100])[0], 1)
        self.assertEqual(stats.interval([1, 100])[1:], (1, 100))


class Goals(unittest.TestCase):
    values = {'bare': {'rate': 100.0, 'cpu_us': 10}, 'mesh': {'rate': 90.0, 'cpu_us': 11}, 'haproxy': {'rate': 30, 'cpu_us': 30}}

    def test_numbers_of_a_round(self):
        self.assertAlmostEqual(row.ratio('rate', 'bare').of(self.values), 0.9)
        self.assertAlmostEqual(row.added('cpu_us', 'bare').of(self.values), 1)
        self.assertAlmostEqual(row.tax('haproxy').of(self.values), 1 / 20)
        self.assertEqual(row.value('rate').of(self.values), 90)

    def test_absent_peer_gives_nothing(self):
        for goal in (row.ratio('rate', 'envoy'), row.added('rate', 'envoy'), row.tax('envoy'), row.value('other')):
            self.assertIsNone(goal.of(self.values))

    def test_verdicts(self):
        high, low = row.ratio('rate', 'bare', 0.85, 0.93), row.added('p50_us', 'bare', 10, 3)
        for goal, mid, low, up, want in (
                (high, 0.95, 0.94, 0.97, 'moonshot'), (high, 0.95, 0.91, 0.97, 'moonshot?'), (high, 0.9, 0.86, 0.95, 'ok'),
                (high, 0.9, 0.8, 0.95, 'ok?'), (high, 0.8, 0.7, 0.84, '**missed**'), (high, 0.8, 0.7, 0.86, '**missed**?'),
                (low, 2, 1, 2.5, 'moonshot'), (low, 2, 1, 4, 'moonshot?'), (low, 5, 2, 9, 'ok'), (low, 5, 2, 12, 'ok?'),
                (low, 11, 10.5, 20, '**missed**'), (low, 11, 9, 20, '**missed**?'), (row.ratio('rate', 'bare'), 5, 1, 9, '')):
            self.assertEqual(report.verdict(goal, mid, low, up), want)


    def test_where_no_round_may_miss_it_the_worst_counts(self):
        lost = row.value('lost', 0, 0, worst=True)
        judged, = report.judge(None, row.Row('x', '', ('mesh',), None, [lost]),
                               {'rounds': [{'values': {'mesh': {'lost': n}}} for n in (0, 0, 1, 0)]})
        self.assertEqual((judged['result'], judged['verdict']), (1, '**missed**'))

    def test_why_there_is_no_number(self):
        result = {'rounds': [], 'missing': {'envoy': 'no envoy'}, 'left_out': ['nginx']}
        r = row.Row('x', '', ('bare', 'mesh', 'envoy', 'nginx', 'own'), None,
                    [row.ratio('rate', s) for s in ('envoy', 'nginx', 'own')])
        goals = list(report.judge(None, r, result))
        self.assertEqual([g['why'] for g in goals], ['no envoy', report.LEFT_OUT, 'not measured'])
        # Who is missing is named in the table; who was not asked for only below the row.
        self.assertEqual([l.split('|')[3].strip() for l in report.goals_table(goals)[2:]], ['envoy', 'own'])

    def test_calls_that_differ(self):
        differ = process.other_calls('mesh')
        self.assertEqual(differ({'bare': {'by_name': {'read': 5}}, 'mesh': {'by_name': {'read': 5}}}), 0)
        self.assertEqual(differ({'bare': {'by_name': {'read': 5}}, 'mesh': {'by_name': {'read': 4, 'recvfrom': 1}}}), 2)
        self.assertEqual(differ({'bare': {'by_name': {'read': 5, 'poll': 1}}, 'mesh': {'by_name': {'read': 5}}}), 1)

    def test_everything_lost_is_counted(self):
        load = {'p99_us': 100.0, 'errors': 0, 'raw': {'answered': 5}}
        found = events.outcome(dict(load, p99_us=50.0), dict(load, errors=2), dict(load, errors=3))
        self.assertEqual((found['lost'], found['p99_ratio']), (5, 2))


def all_rows(module={}):
    """Of bench/run, which is no module by its name."""
    if not module:
        with open(ROOT + '/bench/run') as f:
            exec(compile(f.read(), ROOT + '/bench/run', 'exec'), dict(__name__='run', __file__=ROOT + '/bench/run'), module)
        module['rows'].__globals__.update(module)
    return module['rows']()


class Short:
    """A bench as `make bench` has it."""
    full, window, warmup = False, 0.3, 0.1


class Rows(unittest.TestCase):
    def test_goals_speak_of_systems_that_are_measured(self):
        ids = [r.id for r in all_rows()]
        self.assertEqual(len(ids), len(set(ids)))
        for r in all_rows():
            for g in r.goals:
                self.assertIn(g.peer or 'mesh', r.systems, r.id)
                if g.shows:
                    self.assertIn(g.shows[1], r.systems, r.id)
            self.assertTrue(set(r.also) <= set(r.systems), r.id)
            self.assertTrue(set(r.systems) <= set(systems.ALL), r.id)

    def test_every_row_of_the_matrix_is_here(self):
        ids = ' '.join(r.id for r in all_rows())
        for want in ('S1', 'S1p', 'S2', 'S2k', 'S3', 'S4', 'S4f', 'S5', 'S6', 'S7', 'S7b', 'S8', 'S9', 'S10', 'S11',
                     'C-1', 'C-2', 'C-4', 'C-5'):
            self.assertRegex(ids, r'(^| )%s(-| |$)' % want)

    def test_the_short_run_has_who_a_bound_is_about(self):
        r = row.Row('x', '', ('bare', 'off', 'own', 'mesh', 'haproxy', 'envoy', 'nginx'), None,
                    [row.ratio('rate', 'own', 1), row.ratio('rate', 'haproxy'), row.value('rate', 1, of='off')], also=('envoy',))
        self.assertEqual(r.short(), ['bare', 'off', 'own', 'mesh', 'envoy'])

    def test_the_short_run_is_short(self):
        chosen = [r for r in all_rows() if r.quick]
        self.assertGreater(len(chosen), 20)
        self.assertLess(sum(plan.row_seconds(Short, r, len(r.short()), r.pairs) for r in chosen), 600)
        # Ten pairs of whatever is timed from outside; the others have rounds of their own, or count.
        self.assertEqual({r.id for r in chosen if r.pairs < 10}, {'S5', 'S8', 'S9-calls', 'C-1', 'C-2'})


class Run(unittest.TestCase):
    """One row, with systems that are no programs."""

    class System:
        def __init__(self, name):
            self.name = name

        def measure(self):
            if self.name == 'own':
                raise ValueError('nothing to read')
            return {'rate': 1.0}

        def end(self):
            pass

    class Bench(Short):
        layouts, proofs = {'hosts': None}, {}

        def down(self):
            pass

    @staticmethod
    def open(bench, name, layout):
        if name == 'mesh':
            raise KeyError('no such user')
        return Run.System(name)

    def test_who_fails_is_named_and_the_others_go_on(self):
        r = row.Row('x', '', ('bare', 'off', 'own', 'mesh'), Run.open, [row.ratio('rate', 'own', 1)])
        shares, stderr = [], sys.stderr
        with open(os.devnull, 'w') as sys.stderr:
            result = bench.row_run(Run.Bench(), r, pairs=2, progress=shares.append)
        sys.stderr = stderr
        self.assertEqual(result['left_out'], ['off'])
        self.assertEqual(list(result['missing']), ['mesh'])
        self.assertEqual([f['system'] for f in result['failed']], ['own', 'own'])
        self.assertEqual([r['values'] for r in result['rounds']], [{'bare': {'rate': 1.0}}] * 2)
        self.assertEqual(shares, [0.5, 1])


class Plan(unittest.TestCase):
    def test_what_is_left_follows_the_pace(self):
        now = [0.0]
        p = plan.Plan([('a', 100), ('b', 200), ('c', 50)], lambda: now[0])
        p.begin('a')
        self.assertEqual(p.left(), 350)
        now[0] = 100 + plan.PRIOR  # planned: 100
        p.begin('b')
        slow = (100 + 2 * plan.PRIOR) / (100 + plan.PRIOR)
        self.assertAlmostEqual(p.left(), slow * 250)
        now[0] = 200  # half of b: as planned
        self.assertAlmostEqual(p.left(0.5), 150)
        p.begin('c')
        p.end()
        self.assertEqual(p.left(), 0)

    def test_words(self):
        self.assertEqual([plan.minutes(s) for s in (5, 60, 100, 3600)], ['less than a minute', '1 min', '2 min', '60 min'])


class Wire(unittest.TestCase):
    @staticmethod
    def hello(suite=0x1301, group=0x1d, version=0x0304, retry=b''):
        exts = bytes.fromhex('002b0002%04x' % version) + bytes.fromhex('00330024%04x0020' % group) + bytes(32)
        body = b'\3\3' + bytes(32) + b'\x20' + bytes(32) + suite.to_bytes(2, 'big') + b'\0' + len(exts).to_bytes(2, 'big') + exts
        message = b'\2' + len(body).to_bytes(3, 'big') + body
        return b'\x16\3\3' + len(message).to_bytes(2, 'big') + message

    def test_server_hello(self):
        self.assertEqual(wire.server_hello(self.hello() + b'more'), ('TLSv1.3', 'TLS_AES_128_GCM_SHA256', 'X25519'))
        self.assertEqual(wire.server_hello(self.hello(0x1302, 0x17)), ('TLSv1.3', 'TLS_AES_256_GCM_SHA384', 'P-256'))
        self.assertEqual(wire.server_hello(self.hello(version=0x0303))[0], '0x303')

    def test_what_is_none(self):
        whole = self.hello()
        for b in [whole[:n] for n in range(len(whole))] + [b'\x17' + whole[1:], whole[:5] + b'\1' + whole[6:], b'HTTP/1.1 200 OK']:
            self.assertIn(wire.server_hello(b), (None,), b)

    def test_payload_of_a_packet(self):
        tcp = (443).to_bytes(2, 'big') + bytes(10) + b'\x80' + bytes(19) + b'data'
        ip = b'\x45\0' + (20 + len(tcp)).to_bytes(2, 'big') + bytes(5) + b'\6' + bytes(10)
        self.assertEqual(wire.payload(ip + tcp + b'padding', 443), b'data')
        self.assertIsNone(wire.payload(ip + tcp, 444))
        self.assertIsNone(wire.payload(ip[:9] + b'\x11' + ip[10:] + tcp, 443))


class Proof(unittest.TestCase):
    AES128, AES256 = 'TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384'

    def wire(self, name, cipher, plain=False, served=False, version='TLSv1.3'):
        with mock.patch.multiple(proof, plain=lambda *_: plain, without_certificate=lambda *_: (served, version, cipher)):
            return proof.prove_wire(name, ('127.0.0.1', 1), b'ask')

    def test_everybody_has_aes_128_but_who_has_no_choice(self):
        for name in ('mesh', 'own', 'nginx', 'haproxy', 'ghostunnel'):
            self.assertEqual(self.wire(name, self.AES128)['cipher'], self.AES128)
            self.assertRaises(proof.NotProved, self.wire, name, self.AES256)
        self.assertEqual(self.wire('ztunnel', self.AES256)['cipher'], self.AES256)
        self.assertRaises(proof.NotProved, self.wire, 'ztunnel', self.AES128)

    def test_who_answers_without_a_certificate_is_none(self):
        for wrong in ({'plain': True}, {'served': True}, {'version': 'TLSv1.2'}):
            self.assertRaises(proof.NotProved, self.wire, 'ztunnel', self.AES256, **wrong)
            self.assertRaises(proof.NotProved, self.wire, 'mesh', self.AES128, **wrong)

    def test_what_proxies_agree_on(self):
        for name, cipher, group, good in (('nginx', self.AES128, 'X25519', True), ('nginx', self.AES256, 'X25519', False),
                                          ('ztunnel', self.AES256, 'X25519', True), ('ztunnel', self.AES256, 'P-256', False)):
            hello = ('TLSv1.3', cipher, group)
            running, capture = mock.Mock(), mock.Mock()
            running.name, running.wire, capture.hello_from.return_value = name, ('10.0.0.2', 1), hello
            with mock.patch.object(wire, 'Capture', return_value=capture), mock.patch.object(proof, 'plain', return_value=True):
                if good:
                    self.assertEqual(proof.between(running, b'ask'), hello)
                else:
                    self.assertRaises(proof.NotProved, proof.between, running, b'ask')
            capture.close.assert_called_once()

    def test_a_server_beside_its_proxies_is_seen(self):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            address = listener.getsockname()

            def serve(reply):
                s, _ = listener.accept()
                with s:
                    s.recv(100)
                    s.sendall(reply)
            for reply, want in ((b'+PONG', True), (b'\x15\x03\x03', False), (b'', False)):
                t = threading.Thread(target=serve, args=(reply,))
                t.start()
                self.assertEqual(proof.reached(address, b'PING'), want)
                t.join()
        self.assertFalse(proof.reached(address, b'PING'))
        running = mock.Mock(name='ztunnel', wires=[('127.0.0.1', 1)], closed=[('127.0.0.1', 2)], pair=False)
        with mock.patch.multiple(proof, prove_wire=lambda *_: {}, reached=lambda *_: True):
            self.assertRaises(proof.NotProved, proof.prove, running, mock.Mock())


class Plots(unittest.TestCase):
    @staticmethod
    def result(open_loop, **rates):
        raw = {'open_loop': open_loop, 'latency_ns': {'buckets': [[1000, 90], [2000, 9], [9000, 1]]}}
        return {'rounds': [{'values': {s: {'rate': r, 'raw': raw} for s, r in rates.items()}}] * 3}

    def test_curve_counts_who_is_slower(self):
        points = list(plot.percentile_curve(self.result(True, mesh=1), 'mesh'))
        self.assertEqual([(round(1 / share, 6), us) for share, us in points], [(1, 1), (10, 2), (100, 9)])

    def test_a_schedule_gives_latency_and_none_gives_rates(self):
        r = row.Row('x', "each system's", ('bare', 'mesh', 'envoy'), None, [row.ratio('rate', 'bare', what='MB/s')])
        curve = plot.script('/o.svg', r, self.result(True, bare=1, mesh=2))
        bars = plot.script('/o.svg', r, self.result(False, bare=100, mesh=90))
        self.assertIn('microseconds', curve)
        self.assertIn("each system''s", curve)
        self.assertIn('MB/s', bars)
        self.assertIn('0 100 100 100', bars)
        self.assertNotIn('envoy', curve + bars)
        self.assertIsNone(plot.script('/o.svg', r, {'rounds': []}))

    def test_every_system_has_a_colour_of_its_own(self):
        self.assertEqual(set(plot.COLOURS), set(systems.ALL))
        self.assertEqual(len(set(plot.COLOURS.values())), len(systems.ALL))


class Database(unittest.TestCase):
    END = ('number of transactions actually processed: 800/800\nnumber of failed transactions: 3 (0.375%)\n'
           'latency average = 1.5 ms\ninitial connection time = 20.25 ms\ntps = 5333.3 (without initial connection time)\n')

    def test_end_of_pgbench(self):
        self.assertEqual(postgres.read(self.END), {'rate': 5333.3, 'latency_ms': 1.5, 'connecting_ms': 20.25, 'count': 800,
                                                   'errors': 3})
        with self.assertRaises(ValueError):
            postgres.read('pgbench: error')

    @staticmethod
    def backends(listener, n):
        return subprocess.Popen([sys.executable, ROOT + '/bench/backends', '127.0.0.1', str(listener.getsockname()[1]), str(n),
                                 postgres.startup().hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    @staticmethod
    def message(kind, body=b''):
        return kind + (len(body) + 4).to_bytes(4, 'big') + body

    def test_a_backend_that_refuses_is_no_backend(self):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            listener.settimeout(20)
            p = self.backends(listener, 1)
            s, _ = listener.accept()
            with s:
                s.sendall(self.message(b'R', bytes(4)) + self.message(b'E', b'too many'))
                out, err = p.communicate(timeout=20)
        self.assertEqual((p.returncode, out), (1, ''))
        self.assertIn('too many', err)

    def test_backends_waits_until_each_is_ready(self):
        message = self.message
        with socket.create_server(('127.0.0.1', 0)) as listener:
            listener.settimeout(20)
            p = self.backends(listener, 2)
            kept = []
            for _ in range(2):
                s, _ = listener.accept()
                kept.append(s)
                self.assertEqual(s.recv(1000), postgres.startup())
                s.sendall(message(b'R', bytes(4)) + message(b'S', b'a\0b\0') + message(b'Z', b'I')[:3])
                s.sendall(message(b'Z', b'I')[3:])
            self.assertGreater(float(p.stdout.readline()), 0)
            self.assertIsNone(p.poll())
            p.stdin.close()
            self.assertEqual(p.wait(20), 0)
            p.stdout.close()
            p.stderr.close()
            for s in kept:
                s.close()

    def test_startup_says_its_length(self):
        said = postgres.startup()
        self.assertEqual(int.from_bytes(said[:4], 'big'), len(said))
        self.assertEqual(said[8:], b'user\0postgres\0database\0postgres\0\0')


class Configuration(unittest.TestCase):
    def test_every_word_of_every_file_is_filled(self):
        conf.CERTS = '/certs'
        with tempfile.TemporaryDirectory() as d:
            words = dict(systems.words(d, ('127.0.0.1', 1), ('127.0.0.2', 2)), ssl='', verify='off', scheme='http')
            for path in glob.glob(conf.CONF + '/*'):
                with open(conf.write(os.path.basename(path), d, **words)) as f:
                    self.assertIsNone(re.search(r'@\w+@', f.read()), path)

    def test_each_pair_has_both_sides(self):
        for name in ('stunnel', 'nginx', 'haproxy', 'haproxy-http'):
            for side in ('client', 'server'):
                with tempfile.TemporaryDirectory() as d:
                    self.assertTrue(systems.proxy_command(name, side, d, ('127.0.0.1', 1), ('127.0.0.1', 2)))

    def test_ztunnel_needs_a_binary_and_two_hosts(self):
        here, apart = mock.Mock(two_hosts=False), mock.Mock(two_hosts=True)
        with mock.patch.dict(os.environ, ZTUNNEL='/bin/true'), tempfile.TemporaryDirectory() as d:
            self.assertIsNone(systems.missing('ztunnel', apart))
            self.assertIn('namespace', systems.missing('ztunnel', here))
            self.assertEqual(systems.proxy_command('ztunnel', 'client', d, ('10.0.0.1', 1), ('10.0.0.2', 2)), ['/bin/true', 'proxy'])
            self.assertTrue(os.path.exists(systems.proxy_environment('ztunnel', 'client', d)['LOCAL_XDS_PATH']))
        with mock.patch.dict(os.environ, ZTUNNEL='/nowhere'):
            self.assertIn('$ZTUNNEL', systems.missing('ztunnel', apart))


class Accounts(unittest.TestCase):
    def spin(self, accounts):
        group = accounts.group('test')
        try:
            p = procs.Process([sys.executable, '-c', 'import time, sys\nwhile time.process_time() < 0.3: pass\n'
                               'print(flush=True)\nsys.stdin.read()'], net.Place(None, None), group, stdin=-1, stdout=-1)
            p.proc.stdout.readline()
            used = group.cpu()
            p.proc.stdin.close()
            p.proc.stdout.close()
            p.end()
        finally:
            group.end()
        return used

    def test_time_of_a_process_is_seen(self):
        self.assertGreaterEqual(self.spin(cgroup.Accounts()), 0.29)

    def test_without_control_groups(self):
        accounts = cgroup.Accounts()
        accounts.kind, accounts.where = 'processes', None
        self.assertGreaterEqual(self.spin(accounts), 0.25)


if __name__ == '__main__':
    unittest.main()
