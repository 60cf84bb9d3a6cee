# SPDX-License-Identifier: Apache-2.0
"""Results as SVG, where gnuplot is: for loads with a schedule how many answers took how long, for the others how much
was done. A system has one colour in all of them."""
import shutil
import subprocess

from . import stats

COLOURS = {'bare': '#555555', 'off': '#888888', 'unmeshed': '#bbbbbb', 'own': '#1f77b4', 'mesh': '#d62728',
           'stunnel': '#bcbd22', 'nginx': '#2ca02c', 'haproxy': '#ff7f0e', 'envoy': '#9467bd', 'ghostunnel': '#8c564b',
           'ztunnel': '#17becf', 'haproxy-http': '#ffbb78', 'envoy-http': '#c5b0d5'}
HEAD = ("set terminal svg size 900,500 background 'white' font 'sans,13'", 'set border 3', 'set tics nomirror out',
        "set grid ytics lc rgb '#dddddd' dt solid")


def quoted(text):
    """In gnuplot's single quotes, with nothing that it would set in another way."""
    return "'%s'" % text.replace("'", "''")


def percentile_curve(result, system):
    """All rounds' histograms together: (share that is slower, microseconds)."""
    buckets = {}
    for r in result['rounds']:
        for top, n in r['values'].get(system, {}).get('raw', {}).get('latency_ns', {}).get('buckets', []):
            buckets[top] = buckets.get(top, 0) + n
    total, seen = sum(buckets.values()), 0
    for top in sorted(buckets):
        yield max((total - seen) / total, 0.5 / total), top / 1e3
        seen += buckets[top]


def has_schedule(result):
    """Whether latency is counted from when a request was due."""
    return any(v.get('raw', {}).get('open_loop') for r in result['rounds'] for v in r['values'].values())


def latency(row, result):
    curves, data = [], []
    for s in row.systems:
        points = list(percentile_curve(result, s))
        if points:
            curves.append("'-' with lines lw %s lc rgb '%s' title %s" % (3 if s == 'mesh' else 1.5, COLOURS[s], quoted(s)))
            data += ['%g %g' % (1 / share, us) for share, us in points] + ['e']
    tics = ', '.join("'%s %%%%' %g" % (text, slower) for text, slower in
                     (('0', 1), ('50', 2), ('90', 10), ('99', 100), ('99.9', 1000), ('99.99', 1e4), ('99.999', 1e5), ('99.9999', 1e6)))
    return ['set logscale xy', 'set xtics (%s)' % tics, "set xlabel 'share of the requests'", 'set xrange [1:]', "set format y '%.0f'",
            "set grid xtics", "set ylabel 'answered within, microseconds'", 'set key outside right top',
            'plot ' + ', '.join(curves)] + data if curves else None


def rates(row, result):
    """Bars: the median, and the interval that it has."""
    lines = []
    for s in row.systems:
        found = stats.interval([r['values'][s]['rate'] for r in result['rounds'] if 'rate' in r['values'].get(s, {})])
        if found:
            lines.append((s,) + found)
    if not lines:
        return None
    data = ['%d %g %g %g %d' % (i, mid, low, high, int(COLOURS[s][1:], 16)) for i, (s, mid, low, high) in enumerate(lines)] + ['e']
    unit = next((g.what for g in row.goals if g.shows[:1] == ('rate',)), 'a second')
    tics = ', '.join('%s %d' % (quoted(s), i) for i, (s, *_) in enumerate(lines))
    return ['set boxwidth 0.6', 'set style fill solid 0.8', 'set xtics (%s)' % tics, 'set xrange [-0.6:%g]' % (len(lines) - 0.4),
            'set yrange [0:]', "set format y '%.0f'", 'set ylabel ' + quoted(unit + ', median of the rounds'), 'unset key',
            'set pointintervalbox 0',
            "plot '-' using 1:2:5 with boxes lc rgb variable, '-' using 1:2:3:4 with yerrorbars lc rgb 'black' pt 7 ps 0.2"] + data + data


def script(path, row, result):
    """gnuplot's input, or None when there is nothing to draw."""
    body = (latency if has_schedule(result) else rates)(row, result)
    return body and '\n'.join(list(HEAD) + ['set output ' + quoted(path), 'set title %s noenhanced' % quoted('%s: %s' % (row.id, row.title))]
                              + body) + '\n'


def plots(out, done):
    """Names of the files."""
    names = []
    if not shutil.which('gnuplot'):
        return names
    for row, result, _ in done:
        name = row.id.replace('/', '-') + '.svg'
        text = script('%s/%s' % (out, name), row, result)
        if text and not subprocess.run(['gnuplot'], input=text, text=True, capture_output=True).returncode:
            names.append(name)
    return names
