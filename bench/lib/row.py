# SPDX-License-Identifier: Apache-2.0
"""A row of the matrix: what is set up for each system, what one round measures, what is asked of the result.

Rounds are paired: each goal is computed within a round from the values of all systems in it, and the median of
these with its interval is what is judged.
"""
from dataclasses import dataclass, field


@dataclass
class Goal:
    """`of(values)` gives the number of one round, values[system][metric]; None when a system is not there."""
    what: str                 # the metric in words
    peer: str                 # against whom
    of: object
    must: float = None
    moon: float = None
    high: bool = True         # more is better
    unit: str = ''
    limit: object = None      # of(calibration, medians) -> what this machine allows at best, or None
    shows: tuple = ()         # (metric, system) of our side, to print; the peer's is beside it
    worst: bool = False       # not the median counts: no round may miss it


def get(values, system, metric):
    v = values.get(system)
    return None if v is None else v.get(metric)


def ratio(metric, peer, must=None, moon=None, high=True, what=None, limit=None, of='mesh'):
    """mesh / peer."""
    def f(values):
        a, b = get(values, of, metric), get(values, peer, metric)
        return None if a is None or not b else a / b
    return Goal(what or metric, peer, f, must, moon, high, 'x', limit, (metric, of))


def added(metric, peer, must=None, moon=None, unit='us', what=None, limit=None, of='mesh'):
    """mesh - peer; less is better."""
    def f(values):
        a, b = get(values, of, metric), get(values, peer, metric)
        return None if a is None or b is None else a - b
    return Goal(what or 'added ' + metric, peer, f, must, moon, False, unit, limit, (metric, of))


def tax(peer, must=None, moon=None, metric='cpu_us'):
    """(mesh - bare) / (peer - bare): the share of the peer's own cost."""
    def f(values):
        m, b, p = (get(values, s, metric) for s in ('mesh', 'bare', peer))
        return None if None in (m, b, p) or p <= b else (m - b) / (p - b)
    return Goal('CPU added to bare, as a share of what the peer adds', peer, f, must, moon, False, 'x', None, (metric, 'mesh'))


def value(metric, must=None, moon=None, high=False, unit='', what=None, limit=None, of='mesh', worst=False):
    """The number itself."""
    return Goal(what or metric, '', lambda v: get(v, of, metric), must, moon, high, unit, limit, (metric, of), worst)


@dataclass
class Row:
    id: str
    title: str
    systems: tuple
    open: object              # open(bench, system, layout) -> what has measure() and end()
    goals: list
    layout: str = 'hosts'
    losing: bool = False      # a case that a sidecar may win: printed first
    quick: bool = True        # in `make bench` too
    pairs: int = 10           # in `make bench`; fewer for what has rounds of its own, or does not depend on time
    full_pairs: int = 10
    also: tuple = ()          # systems of `make bench` beside those that a goal with a bound asks for
    notes: str = ''
    metrics: tuple = ('rate', 'p50_us', 'p99_us', 'cpu_us')  # printed for each system
    seconds: object = None    # of(bench): about so long is one system measured; None: a window
    opening: object = None    # of(bench): and set up; None: a moment

    def short(self):
        """The systems of `make bench`: bare, the mesh, and whom a bound is about."""
        wanted = {'bare', 'mesh'} | set(self.also)
        for g in self.goals:
            if g.must is not None or g.moon is not None:
                wanted |= {g.peer} | set(g.shows[1:])
        return [s for s in self.systems if s in wanted]


def windows(times, more=0.1):
    """A row's seconds, when it measures for so many windows."""
    return lambda b: b.warmup + times * b.window + more


class Driven:
    """The common case: a server, and one generator against it."""

    def __init__(self, running, options, prepare=None):
        self.running, self.options = running, options
        if prepare:
            prepare(running)

    def measure(self):
        from . import load
        return load.run(self.running, *self.options)

    def end(self):
        self.running.end()


def driven(server, *options, prepare=None):
    """An open() for a row. server(bench) makes the server."""
    def open_one(bench, system, layout):
        words = [o(bench) if callable(o) else o for o in options]
        return Driven(bench.up(system, server(bench), layout), words, prepare)
    return open_one
