# SPDX-License-Identifier: Apache-2.0
"""Medians of paired rounds, with the interval that a bootstrap gives them. Nothing is discarded."""
import random
import statistics

RESAMPLES = 2000


def interval(values, seed=1, share=0.95):
    """(median, low, high) of the median."""
    if not values:
        return None
    rng = random.Random(seed)
    n = len(values)
    medians = sorted(statistics.median(rng.choices(values, k=n)) for _ in range(RESAMPLES))
    low = medians[int((1 - share) / 2 * RESAMPLES)]
    high = medians[min(RESAMPLES - 1, int((1 + share) / 2 * RESAMPLES))]
    return statistics.median(values), low, high


def orders(names, rounds, seed):
    """ABBA for any number of systems: each second round goes through the last one's order backwards, so that
    what drifts slowly hits all alike; each pair of rounds begins with another order."""
    rng = random.Random(seed)
    order = list(names)
    for i in range(rounds):
        if i % 2 == 0:
            rng.shuffle(order)
        else:
            order.reverse()
        yield list(order)
