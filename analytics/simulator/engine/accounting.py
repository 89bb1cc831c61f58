"""Accounting of time, compiled: telemetry by bin, and what each request used by hour.

A step's seconds are shared out as they were caused: what one sequence adds is its own, the constant is split equally
over
the sequences in the step (the Shapley value of an additive cost with a fixed part). Decoding sequences are not
touched in
each step: the replica's accumulators move, and a sequence is settled against them when it leaves or the hour ends.
"""

from __future__ import annotations

import numpy as np

from analytics.simulator.engine.layout import compiled


@compiled
def bin_of(w, t):  # type: ignore[no-untyped-def]
    """The telemetry bin of a time."""
    lim = w.lim[0]
    return min(int(t / lim.width), w.tel.shape[1] - 1)


@compiled
def mark(w, r, t0, t1, prefilling, decoding):  # type: ignore[no-untyped-def]
    """Spread a stretch of work over the bins that it touches."""
    last, width = w.tel.shape[1] - 1, w.lim[0].width
    b = bin_of(w, t0)
    t = t0
    while True:
        upto = min(t1, (b + 1) * width) if b < last else t1
        part = max(upto - t, 0.0)
        w.tel[r, b].busy += part
        if prefilling > 0.0:
            w.tel[r, b].prefilling += prefilling * part / (t1 - t0)
        w.tel[r, b].sequence_seconds += decoding * part
        if upto >= t1 or b == last:
            break
        t = upto
        b += 1


@compiled
def next_edge(w, r):  # type: ignore[no-untyped-def]
    """The end of the bin whose gauges come next; infinite after the last."""
    return (w.rep[r].edge + 1) * w.lim[0].width if w.rep[r].edge < w.tel.shape[1] else np.inf


@compiled
def sample(w, r, upto, blocks):  # type: ignore[no-untyped-def]
    """Write the gauges at each end of a bin up to a time, `blocks` being in use then."""
    me = w.rep[r]
    while next_edge(w, r) <= upto:
        at = w.tel[r, me.edge]
        at.running, at.waiting, at.blocks = me.running, me.waiting, blocks
        me.edge += 1


@compiled
def settle(w, r, i, decoding, hour):  # type: ignore[no-untyped-def]
    """Write what request i used since it was last settled, as of hour `hour`."""
    me = w.rep[r]
    lim = w.lim[0]
    job = w.job[i]
    decode = 0.0
    if decoding:
        decode = (
            me.equal
            - job.equal_at
            + (job.born_context - job.born_step) * (me.weight - job.weight_at)
            + (me.weighted_steps - job.weighted_at)
        )
        job.equal_at, job.weight_at, job.weighted_at = (
            me.equal,
            me.weight,
            me.weighted_steps,
        )
    if decode > 0.0 or job.prefill_seconds > 0.0:
        k = lim.shares
        lim.shares = k + 1  # beyond the room there is, rows are only counted, and the caller makes more
        if k < w.share.shape[0]:
            w.share[k].request, w.share[k].hour = i, hour
            w.share[k].prefill, w.share[k].decode = job.prefill_seconds, max(decode, 0.0)
    job.prefill_seconds = 0.0


@compiled
def charge(w, r, s0, steps, equal, weight, chunk_count, part):  # type: ignore[no-untyped-def]
    """Move the accumulators that the decoding sequences are settled from."""
    me = w.rep[r]
    me.equal += equal * steps
    me.weight += weight * steps
    me.weighted_steps += weight * (s0 * steps + steps * (steps - 1) / 2.0)
    for k in range(chunk_count):
        w.job[w.chunk[k].request].prefill_seconds += w.chunk[k].seconds * part


@compiled
def close_hour(w, r):  # type: ignore[no-untyped-def]
    """Settle every running request at the end of the hour."""
    me = w.rep[r]
    for k in range(me.running):
        i = w.slots[r, k]
        job = w.job[i]
        settle(w, r, i, job.finish_step > 0, me.hour)
    me.hour += 1


@compiled
def spend(w, r, t0, seconds, steps, equal, weight, chunk_count):  # type: ignore[no-untyped-def]
    """Charge `steps` equal steps from t0; the last one may cross the hour, and is split there."""
    me = w.rep[r]
    s0, t, kept = me.steps, t0, 1.0
    while steps == 1 and t0 + seconds > w.bounds[me.hour]:
        part = max(w.bounds[me.hour] - t, 0.0) / seconds
        charge(w, r, s0, 1, equal * part, weight * part, chunk_count, part)
        t, kept = w.bounds[me.hour], kept - part
        close_hour(w, r)
    charge(w, r, s0, steps, equal * kept, weight * kept, chunk_count, kept)
