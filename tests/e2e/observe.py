#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""observe.py: what 69-observe asks of the access log and of the metrics.

  count LOG KEY=VALUE...       how many lines have these values ("null", numbers and strings alike; VALUE may
                               be a pattern). Fails when a line is no JSON object or lacks one of the keys.
  sum METRICS NAME [L=V...]    the sum of the samples of this name with these labels
  grown BEFORE AFTER           fails if a sample of BEFORE, but for gauges, is gone or smaller in AFTER
  short PORT N                 N connections one after the other: PING, then its answer
"""
import fnmatch, json, re, socket, sys

KEYS = '''start_time duration bytes_received bytes_sent response_flags upstream_host upstream_cluster
upstream_local_address downstream_remote_address downstream_local_address connection_termination_details
upstream_transport_failure_reason route_name requested_server_name protocol reporter source_principal
destination_principal source_workload destination_workload destination_service
connection_security_policy tls_version tls_cipher attempts reason pid exe'''.split()


def matches(row, wanted):
    for k, v in wanted:
        got = row[k]
        got = 'null' if got is None else str(got)
        if not fnmatch.fnmatchcase(got, v):
            return False
    return True


def count(log, *wanted):
    wanted = [w.split('=', 1) for w in wanted]
    n = 0
    with open(log) as f:
        for line in f:
            row = json.loads(line)
            lacks = [k for k in KEYS if k not in row]
            if lacks or not line.endswith('}\n'):
                raise SystemExit('a line without %s: %s' % (lacks, line))
            n += matches(row, wanted)
    print(n)


def samples(path):
    out = {}
    gauges = set()
    with open(path) as f:
        for line in f:
            m = re.match(r'# TYPE (\S+) gauge', line)
            if m:
                gauges.add(m.group(1))
            m = re.match(r'([a-z_0-9]+)(?:\{(.*)\})? (\S+)$', line)
            if m and m.group(1) not in gauges:
                labels = tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m.group(2) or ''))
                if (m.group(1), labels) in out:
                    raise SystemExit('twice: ' + line)
                out[m.group(1), labels] = float(m.group(3))
    return out


def total(path, name, *wanted):
    wanted = [tuple(w.split('=', 1)) for w in wanted]
    print(int(sum(v for (n, labels), v in samples(path).items()
                  if n == name and all(w in labels for w in wanted))))


def grown(before, after):
    a, b = samples(before), samples(after)
    # Counted since meshd started.
    since = ('_issued_total', 'endpoints_registered_total', 'endpoints_withdrawn_total', 'access_log_')
    bad = ['%s %s: %s, then %s' % (k + (v, b.get(k))) for k, v in a.items()
           if b.get(k, -1) < v and not any(s in k[0] for s in since)]
    if bad:
        raise SystemExit('\n'.join(bad))


def short(port, n):
    for _ in range(int(n)):
        with socket.create_connection(('127.0.0.1', int(port))) as s:
            s.sendall(b'PING\r\n')
            if s.recv(100) != b'+PONG\r\n':
                raise SystemExit('no answer')


if __name__ == '__main__':
    {'count': count, 'sum': total, 'grown': grown, 'short': short}[sys.argv[1]](*sys.argv[2:])
