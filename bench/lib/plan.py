# SPDX-License-Identifier: Apache-2.0
"""How long a run takes: what is planned for each row, corrected by how the rows before it went."""
import time

PRIOR = 30  # seconds for which the plan is believed as it is


def measuring(bench, row):
    """Of one system in one round; starting programs takes a moment, too."""
    return row.seconds(bench) if row.seconds else bench.warmup + bench.window + 0.1


def row_seconds(bench, row, systems, pairs):
    return systems * ((row.opening(bench) if row.opening else 0.5) + pairs * measuring(bench, row))


class Plan:
    """rows: seconds of each, by id, in the order in which they come."""

    def __init__(self, rows, clock=time.monotonic):
        self.rows, self.clock, self.began = dict(rows), clock, clock()
        self.done = 0.0  # of the plan
        self.current = None

    def begin(self, row):
        self.end()
        self.current = row

    def end(self):
        self.done += self.rows.pop(self.current, 0.0)
        self.current = None

    def left(self, share=0.0):
        """Seconds, when so much of the current row is done."""
        done = self.done + share * self.rows.get(self.current, 0.0)
        pace = (self.clock() - self.began + PRIOR) / (done + PRIOR)
        return pace * (sum(self.rows.values()) - (done - self.done))


def minutes(seconds):
    return 'less than a minute' if seconds < 60 else '%d min' % round(seconds / 60)
