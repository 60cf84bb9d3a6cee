# SPDX-License-Identifier: Apache-2.0
"""C-1, C-2, C-3, C-5: 10,000 endpoints and 1,000 processes; what counting costs."""
import os

from bench.lib.row import Row, value

from .common import command, numbers

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ROWS = [
    Row('C-1', '10,000 endpoints, 100 processes (1,000 in full): a change, until everybody sees it; meshd', ('mesh',),
        lambda b, system, layout: command(numbers(median_ms=r'median ([\d.]+) ms', most_ms=r'most ([\d.]+) ms', ticks=r': (\d+) ticks',
                                                  most_mb=r'at its most: ([\d.]+) MB'), HERE + '/scale', 1000, 10, 1000 if b.full else 100)(b, 'bare', layout),
        [value('most_ms', 50, 1, unit='ms', what='from the order to reload to the new snapshot, at most'),
         value('ticks', unit='', what='processor time of the processes, ticks'),
         value('most_mb', 50, 15, unit='MB', what="C-3: meshd's memory")],
        pairs=1, full_pairs=10, seconds=lambda b: 25 if b.full else 14, metrics=('median_ms', 'most_ms', 'ticks', 'most_mb')),
    Row('C-2', 'one of 10,000 endpoints is chosen', ('mesh',),
        lambda b, system, layout: command(numbers(least=r'least_request.*: (\d+) ns', robin=r'round_robin.*: (\d+) ns',
                                                  random=r'random.*: (\d+) ns'), b.build + '/bench_choice')(b, 'bare', layout),
        [value('least', 500, 50, unit='ns', what='least_request'), value('robin', 500, 50, unit='ns', what='round_robin'),
         value('random', 500, 50, unit='ns', what='random')], pairs=2, seconds=lambda b: 2.5,
        metrics=('least', 'robin', 'random')),
    Row('C-5', 'the counters of a request, one receive and one send; 50 connections in turn', ('mesh',),
        lambda b, system, layout: command(lambda text: {'count_ns': float(text)}, b.build + '/bench_count')(b, 'bare', layout),
        [value('count_ns', 80, 40, unit='ns', what='counting a request')], metrics=('count_ns',), seconds=lambda b: 0.1,
        notes='Latency of single requests is no part of it: the library sees bytes.'),
]
