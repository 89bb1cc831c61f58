"""What the exporter would measure of the simulated steps, compiled: the arithmetic of `engine_exporter/step_shares.py`.

The exporter sees of every step how long it took and what was in it, learns from that what a step costs, and keeps
running sums against which each request is settled. The same is done here step by step, from the simulated observations
alone: the true costs, and the truth of `accounting`, are not looked at. A test runs the exporter's own code on the same
steps.
"""

from __future__ import annotations

from analytics.allocation.step_costs import FEATURES, PRIOR, PRIOR_WEIGHT, learn, solve
from analytics.simulator.engine.layout import compiled

SOLVE_STEPS = 256
KEPT_RATIO = 0.9975
SAMPLED = 4
SETTLED_STEPS = 1024


@compiled
def forget(w, r):  # type: ignore[no-untyped-def]
    """A new engine: nothing is known of its steps."""
    for i in range(FEATURES):
        w.cost[r, i] = PRIOR[i]
        w.target[r, i] = 0.0
        for j in range(FEATURES):
            w.product[r, i, j] = 0.0
    w.rep[r].learned, w.rep[r].solve_at, w.rep[r].seen = 0, 8, 0


@compiled
def learn_step(w, r, seconds, features):  # type: ignore[no-untyped-def]
    """Take one step in; now and then the costs are solved for."""
    me = w.rep[r]
    learn(w.product[r], w.target[r], seconds, features)
    me.learned += 1
    if me.learned >= me.solve_at:
        me.solve_at += min(me.learned, SOLVE_STEPS)
        solve(w.product[r], w.target[r], PRIOR_WEIGHT, w.cost[r])
        for i in range(FEATURES):
            w.target[r, i] *= KEPT_RATIO
            for j in range(FEATURES):
                w.product[r, i, j] *= KEPT_RATIO


@compiled
def measure_decode(w, r, steps, first, growth):  # type: ignore[no-untyped-def]
    """Measure `steps` steps without prefill, the first of `first` seconds and each by `growth` longer."""
    me = w.rep[r]
    n, context = float(me.decoding), float(me.context)
    equal, weight, weighted = 0.0, 0.0, 0.0
    j = 0
    while j < steps:
        cost = w.cost[r]
        fixed, each, slope = cost[0] + cost[1] * n, cost[0] / n + cost[1], cost[2]
        skipped = 0 if me.seen < SETTLED_STEPS else (SAMPLED - me.seen % SAMPLED) % SAMPLED
        stop = min(steps, j + 1 + skipped)  # up to and with the next step that is learned from
        for i in range(j, stop):
            seconds = first + growth * i
            expected = fixed + slope * (context + n * i)
            scale = seconds / expected if expected > 0.0 else 0.0
            if expected > 0.0:
                equal += scale * each
                weight += scale * slope
                weighted += scale * slope * (me.steps + i)
            else:
                equal += seconds / n
        last = stop - 1
        seen = me.seen + (last - j)
        if seen < SETTLED_STEPS or seen % SAMPLED == 0:
            learn_step(w, r, first + growth * last, (1.0, n, context + n * last, 0.0, 0.0, 0.0))
        me.seen += stop - j
        j = stop
    me.measured_equal += equal
    me.measured_weight += weight
    me.measured_weighted += weighted


@compiled
def measure_mixed(w, r, seconds, chunks):  # type: ignore[no-untyped-def]
    """Measure one step with prefill in it, and give its chunks their shares."""
    me = w.rep[r]
    n, context = float(me.decoding), float(me.context)
    tokens, span = 0.0, 0.0
    for k in range(chunks):
        tokens += w.chunk[k].size
        span += w.chunk[k].size * w.chunk[k].span
    cost = w.cost[r]
    step, sequence, slope, prefill_step, prefill, attention = cost[0], cost[1], cost[2], cost[3], cost[4], cost[5]
    expected = step + sequence * n + slope * context + prefill_step + prefill * tokens + attention * span
    if expected <= 0.0:
        step, expected, sequence, slope, prefill_step, prefill, attention = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    scale = seconds / expected
    share = scale * step / (n + chunks)
    me.measured_equal += share + scale * sequence
    me.measured_weight += scale * slope
    me.measured_weighted += scale * slope * me.steps
    for k in range(chunks):
        own = share + scale * prefill_step / chunks
        own += w.chunk[k].size * scale * (prefill + attention * w.chunk[k].span)
        w.job[w.chunk[k].request].measured_prefill += own
    me.seen += 1
    learn_step(w, r, seconds, (1.0, n, context, 1.0, tokens, span))


@compiled
def note_start(w, r, i):  # type: ignore[no-untyped-def]
    """A sequence begins to decode: note the running sums."""
    me = w.rep[r]
    job = w.job[i]
    job.measured_equal_at, job.measured_weight_at = me.measured_equal, me.measured_weight
    job.measured_weighted_at = me.measured_weighted


@compiled
def measure_end(w, r, i):  # type: ignore[no-untyped-def]
    """A decoding sequence leaves: add its share since it began."""
    me = w.rep[r]
    job = w.job[i]
    share = (
        me.measured_equal
        - job.measured_equal_at
        + (job.born_context - job.born_step) * (me.measured_weight - job.measured_weight_at)
        + (me.measured_weighted - job.measured_weighted_at)
    )
    job.measured_decode += max(share, 0.0)
