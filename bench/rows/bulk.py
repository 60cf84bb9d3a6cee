# SPDX-License-Identifier: Apache-2.0
"""S4, S4f: one stream of bytes, and files that nginx sends by sendfile."""
from bench.lib.row import Row, added, driven, ratio
from bench.lib.servers import Meshload, Web

from .common import MB, timed

PAIRS = ('haproxy', 'nginx', 'stunnel', 'envoy', 'ghostunnel', 'ztunnel')


def stream_limit(b, mids):
    """One side copies, and ciphers; the two sides work side by side."""
    bare = 1e9 / (mids['bare']['rate'] * MB)
    return bare / (bare + b.ns('aes-128-gcm seal 16384') / 16384)


def stream(chunk, quick=True):
    return Row('S4-%dk' % (chunk >> 10), 'one stream, writes of %d KB (a request is 1 MB)' % (chunk >> 10),
               ('bare', 'own', 'mesh') + PAIRS,
               driven(lambda b: Meshload(b.build, 'sink', MB),
                      *timed('--protocol', 'sink', '--size', MB, '--chunk', chunk, '--pipeline', 8, '--max')),
               [ratio('rate', 'bare', 0.5, 0.65, what='MB/s', limit=stream_limit), ratio('rate', 'own', 1.1, 1.5, what='MB/s')] +
               [ratio('rate', s, 2, 4, what='MB/s') for s in PAIRS[:-1]] +
               [ratio('rate', 'ztunnel', what='MB/s'),
                added('cpu_s_per_gb', 'bare', what='CPU-seconds added for a GB', unit='s')], quick=quick,
               metrics=('rate', 'cpu_s_per_gb'))


def files(size, id):
    return Row(id, 'nginx, sendfile, files of %d KB, 8 connections' % (size >> 10), ('bare', 'own', 'mesh', 'haproxy', 'envoy'),
               driven(lambda b: Web(b.build, [size]),
                      *timed('--protocol', 'http', '--path', '/%d' % size, '--connections', 8, '--max')),
               [ratio('rate', 'own', 1.0, 1.15, what='files/s'), ratio('rate', 'bare', 0.35, 0.5, what='files/s'),
                ratio('rate', 'haproxy', what='files/s'), ratio('rate', 'envoy', what='files/s')], losing=True,
               metrics=('rate', 'cpu_s_per_gb', 'p99_us'))


ROWS = [stream(16 << 10, quick=False), stream(64 << 10), stream(256 << 10, quick=False),
        files(100 << 10, 'S4f-100k'), files(10 * MB, 'S4f-10m')]
