"""What an engine's step costs, learned by least squares, compiled: the same arithmetic as the exporter's.

A step of `n` decoding sequences with `C` tokens of context in all, and of prefilling ones that compute `p` tokens
each at a mean position of `x`, lasts about

    step + sequence*n + context*C + prefill_step*[any prefill] + prefill*sum(p) + attention*sum(p*x)

`solve` is that of `engine_exporter/step_shares.py` line by line (a test runs both on the same sums); it stands here
again because the exporter must not need a compiler, and because analytics may not import what runs inside engines.
"""

from __future__ import annotations

import numpy as np

from analytics.allocation.layout import compiled

FEATURES = 6
"""step, sequence, context, prefill_step, prefill, attention, in this order everywhere."""
PRIOR = np.array([1.0, 0.005, 5e-6, 0.1, 0.004, 5e-8])
"""What is believed before anything was seen, relative to `step`: the middle of measured engines. Only ratios count."""
PRIOR_WEIGHT = 1e-5
"""How much of each feature's own information the prior is given: it decides what the data cannot tell apart."""


@compiled
def learn(sums, targets, seconds, features):  # type: ignore[no-untyped-def]
    """Take one observation into the upper triangle of the sums, weighing one over its time squared."""
    over = 1.0 / seconds
    for i in range(FEATURES):
        scaled = features[i] * over
        if scaled != 0.0:
            targets[i] += scaled
            for j in range(i, FEATURES):
                sums[i, j] += scaled * (features[j] * over)


@compiled
def solve(sums, targets, prior_weight, found):  # type: ignore[no-untyped-def]
    """Non-negative coefficients of the least squares into `found`, leaning on the prior where the data says nothing."""
    believed, square = 0.0, 0.0
    for i in range(FEATURES):
        believed += PRIOR[i] * targets[i]
    for i in range(FEATURES):
        for j in range(FEATURES):
            square += PRIOR[i] * PRIOR[j] * sums[min(i, j), max(i, j)]
    scale = believed / square if square > 0.0 else 1.0
    kept = np.ones(FEATURES, np.bool_)
    rows = np.zeros((FEATURES, FEATURES + 1))
    while True:
        solve_kept(sums, targets, kept, scale, prior_weight, rows, found)
        worst, where = 0.0, -1
        for i in range(FEATURES):
            size = found[i] * np.sqrt(sums[i, i])
            if kept[i] and size < worst:
                worst, where = size, i
        if where < 0:
            return
        kept[where] = False


@compiled
def solve_kept(sums, targets, kept, scale, prior_weight, rows, found):  # type: ignore[no-untyped-def]
    """Gauss on the features that are kept, each scaled to size one; those never seen keep their prior."""
    for i in range(FEATURES):
        for j in range(FEATURES + 1):
            rows[i, j] = 0.0
    for i in range(FEATURES):
        size = np.sqrt(sums[i, i])
        if kept[i] and size > 0.0:
            for j in range(FEATURES):
                other = np.sqrt(sums[j, j])
                if kept[j] and other > 0.0:
                    rows[i, j] = sums[min(i, j), max(i, j)] / (size * other)
            rows[i, i] += prior_weight
            rows[i, FEATURES] = targets[i] / size + prior_weight * PRIOR[i] * scale * size
        else:
            rows[i, i] = 1.0
            rows[i, FEATURES] = PRIOR[i] * scale if kept[i] else 0.0
    for i in range(FEATURES):  # positive definite by the prior's weight: no pivoting
        for k in range(i + 1, FEATURES):
            ratio = rows[k, i] / rows[i, i]
            if ratio != 0.0:
                for j in range(i, FEATURES + 1):
                    rows[k, j] -= ratio * rows[i, j]
    for i in range(FEATURES - 1, -1, -1):
        rest = rows[i, FEATURES]
        for j in range(i + 1, FEATURES):
            rest -= rows[i, j] * found[j]
        found[i] = rest / rows[i, i]
    for i in range(FEATURES):
        size = np.sqrt(sums[i, i])
        if kept[i] and size > 0.0:
            found[i] /= size
