# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown, JSON and, where gnuplot is, SVG. Losing cases come first."""
import json
import os
import statistics
from collections import Counter

from . import plot, stats

HEAD = '| row | what | against | mesh | peer | result [95 %] | must | moonshot | limit | |'


def number(x, unit=''):
    if x is None:
        return ''
    if x != 0 and abs(x) < 0.1:
        return '%.3f%s' % (x, unit)
    return ('%.2f' if abs(x) < 10 else '%.1f' if abs(x) < 100 else '%.0f') % x + unit


def medians(result):
    """medians[system][metric] over all rounds."""
    out = {}
    for r in result['rounds']:
        for system, values in r['values'].items():
            for metric, v in values.items():
                if isinstance(v, (int, float)):
                    out.setdefault(system, {}).setdefault(metric, []).append(v)
    return {s: {m: statistics.median(v) for m, v in ms.items()} for s, ms in out.items()}


def verdict(goal, mid, low, high):
    """What the median says; with a question mark where the interval holds the next bound, too."""
    def met(bound, x=mid):
        return bound is not None and (x >= bound if goal.high else x <= bound)
    if goal.must is None and goal.moon is None:
        return ''
    worst, best = (low, high) if goal.high else (high, low)
    if met(goal.moon):
        return 'moonshot' + ('' if met(goal.moon, worst) else '?')
    if goal.must is None or met(goal.must):
        return 'ok' + ('' if goal.must is None or met(goal.must, worst) else '?')
    return '**missed**' + ('?' if met(goal.must, best) else '')


def absent(goal, result):
    """Why there is no number."""
    for s in (goal.peer,) + goal.shows[1:]:
        if s in result['missing']:
            return result['missing'][s]
        if s in result['left_out']:
            return LEFT_OUT
    return 'not measured'


def judge(bench, row, result):
    """One entry for each goal."""
    mids = medians(result)
    for goal in row.goals:
        values = [v for v in (goal.of(r['values']) for r in result['rounds']) if v is not None]
        if not values:
            yield {'row': row.id, 'what': goal.what, 'peer': goal.peer, 'result': None, 'must': goal.must, 'moonshot': goal.moon,
                   'why': absent(goal, result)}
            continue
        mid, low, high = stats.interval(values)
        if goal.worst:
            mid = low = high = min(values) if goal.high else max(values)
        limit = None
        if goal.limit:
            try:
                limit = goal.limit(bench, mids)
            except (KeyError, ZeroDivisionError, TypeError):
                pass
        metric, of = goal.shows or (None, None)
        yield {'row': row.id, 'what': goal.what, 'peer': goal.peer, 'unit': goal.unit, 'result': mid, 'low': low,
               'high': high, 'pairs': len(values), 'must': goal.must, 'moonshot': goal.moon, 'limit': limit, 'better_high': goal.high,
               'mesh': mids.get(of, {}).get(metric), 'other': mids.get(goal.peer, {}).get(metric),
               'verdict': verdict(goal, mid, low, high)}


def line(g):
    if g['result'] is None:
        return '| %s | %s | %s | | | %s | %s | %s | | |' % (g['row'], g['what'], g['peer'], g['why'], number(g['must']),
                                                           number(g['moonshot']))
    u = ' ' + g['unit'] if g['unit'] and g['unit'] != 'x' else ''
    sign = '≥ ' if g['better_high'] else '≤ '
    limit = number(g['limit'])
    if g['limit']:
        share = g['result'] / g['limit'] if g['better_high'] else g['limit'] / g['result'] if g['result'] > 0 else 0
        if share > 0:
            limit += ' (%.0f %%)' % (100 * share)
    return '| %s | %s | %s | %s | %s | **%s**%s [%s, %s] | %s | %s | %s | %s |' % (
        g['row'], g['what'], g['peer'], number(g['mesh']), number(g['other']), number(g['result']), u, number(g['low']),
        number(g['high']), sign + number(g['must']) if g['must'] is not None else '',
        sign + number(g['moonshot']) if g['moonshot'] is not None else '', limit, g['verdict'])


LEFT_OUT = 'not in this run'


def goals_table(goals):
    """Without those for which a peer was not asked for: row_text() names him."""
    return [HEAD, '|' + '---|' * 10] + [line(g) for g in goals if g.get('why') != LEFT_OUT]


def systems_table(row, result):
    mids = medians(result)
    head = [m for m in row.metrics if any(m in v for v in mids.values())]
    out = ['| system | ' + ' | '.join(head) + ' | errors |', '|---|' + '---|' * (len(head) + 1)]
    for s in [s for s in row.systems if s in mids]:
        errors = sum(r['values'].get(s, {}).get('errors', 0) for r in result['rounds'])
        errors += sum(f['system'] == s for f in result['failed'])
        out.append('| %s | %s | %s |' % (s, ' | '.join(number(mids[s].get(m)) for m in head), number(errors) if errors else ''))
    return out


DISTURBED = 0.1  # of the busy time, by others


def disturbed(result):
    """Whether others used, or were given, so much of the machine that throughput and latency say little."""
    rounds = [v for r in result['rounds'] for v in r['values'].values() if 'steal_share' in v]
    return any(rounds and statistics.median(v[name] for v in rounds) > DISTURBED for name in ('others_share', 'steal_share'))


def disturbance(result):
    rounds = [v for r in result['rounds'] for v in r['values'].values() if 'steal_share' in v]
    if not rounds:
        return ''
    def share(name):
        shares = [100 * v[name] for v in rounds]
        return '%.0f %% (most %.0f %%)' % (statistics.median(shares), max(shares))
    late = [v['late_p99_us'] for v in rounds if 'late_p99_us' in v]
    return 'stolen %s, machine busy %s, of that by others %s%s' % (
        share('steal_share'), share('machine_busy'), share('others_share'),
        '; generator late p99 %s us (most)' % number(max(late)) if late else '')


def row_text(bench, row, result, goals):
    out = ['### %s: %s' % (row.id, row.title), '', 'Layout `%s`, %d rounds, %.0f s. %s' % (
        row.layout, len(result['rounds']), result['seconds'], row.notes), '']
    out += systems_table(row, result) + [''] + goals_table(goals) + ['']
    out += ['Not measured: ' + '; '.join('%s (%s)' % kv for kv in sorted(result['missing'].items()))] if result['missing'] else []
    out += ['Not in this run: ' + ', '.join(result['left_out']) + '.'] if result['left_out'] else []
    out += ['Failed rounds: ' + '; '.join('%(system)s (%(why)s)' % f for f in result['failed'])] if result['failed'] else []
    d = disturbance(result)
    return '\n'.join(out + (['', d] if d else []) + [''])


def machine_text(facts):
    v = facts['versions']
    return '\n'.join(['%s, %d processors, Linux %s; load %.1f when it began; %s; processor time by %s.' % (
        facts['cpu'], facts['cpus'], facts['kernel'], facts['load'], facts['network'], facts['accounts']) +
        (' The run took %.1f minutes.' % (facts['seconds'] / 60) if 'seconds' in facts else '')] +
        ['', '; '.join('%s: %s' % kv for kv in sorted(v.items())), ''])


def absences(facts, done):
    """Who could not be measured at all, and what was left out."""
    missing, out = {}, []
    for _, result, _ in done:
        for s, why in result['missing'].items():
            missing.setdefault((s, why), []).append(result['id'])
    for (s, why), ids in sorted(missing.items()):
        out.append('Not measured: **%s** (%s), in %s.' % (s, why, ', '.join(ids)))
    failed = ['%s %s (%d)' % (result['id'], s, n) for _, result, _ in done
              for s, n in sorted(Counter(f['system'] for f in result['failed']).items())]
    if failed:
        out.append('**Failed rounds**: ' + ', '.join(failed) + '.')
    if facts.get('not_run'):
        out.append('Rows not in this run: ' + ', '.join(facts['not_run']) + '. Not built: S12.')
    return [line for o in out for line in (o, '')]


def agreed(done):
    """What the pairs agreed on between themselves, where the wire could be read."""
    seen = {(s,) + tuple(p['between']) for _, result, _ in done for s, p in result['proofs'].items() if p.get('between')}
    words = {}
    for s, *what in sorted(seen):
        words.setdefault(', '.join(what), []).append(s)
    return ['Read from the wire between the proxies: ' + '; '.join('%s: %s' % (what, ', '.join(names))
                                                                     for what, names in words.items()) + '.', ''] if words else []


def write(bench, facts, done):
    """done: (row, result, goals) each. Writes results.json, report.md and plots; returns the Markdown."""
    done = sorted(done, key=lambda d: not d[0].losing)
    bad = [row.id for row, result, _ in done if disturbed(result)]
    warning = ['**Others used this machine meanwhile** (%s): throughput and latency of these rows are not for the record. '
               'Who has more processes gets more of a contended processor.' % ', '.join(bad), ''] if bad else []
    text = ['# What the mesh costs', '', machine_text(facts)] + warning + absences(facts, done) + agreed(done) + ['## All rows, those first that a sidecar may win', '']
    text += goals_table([g for _, _, goals in done for g in goals]) + ['', '## Row by row', '']
    text += [row_text(bench, *d) for d in done]
    os.makedirs(bench.out, exist_ok=True)
    with open(bench.out + '/results.json', 'w') as f:
        json.dump({'facts': facts, 'calibration': bench.calibration,
                   'rows': [dict(result, goals=goals) for _, result, goals in done]}, f)
    text += ['![%s](%s)' % (p, p) for p in plot.plots(bench.out, done)]
    with open(bench.out + '/report.md', 'w') as f:
        f.write('\n'.join(text) + '\n')
    return '\n'.join(text)
