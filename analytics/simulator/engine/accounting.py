"""Accounting of time, compiled: telemetry by bin, and what each request used by hour.

A step's seconds are shared out as they were caused: what one sequence adds is its own, the constant is split equally over
the sequences in the step (the Shapley value of an additive cost with a fixed part). Decoding sequences are not touched in
each step: the replica's accumulators move, and a sequence is settled against them when it leaves or the hour ends.
"""

from __future__ import annotations

from analytics.simulator.engine.layout import compiled


@compiled
def bin_of(w, t):  # type: ignore[no-untyped-def]
    """The telemetry bin of a time."""
    lim = w.lim[0]
    return min(int(t / lim.width), w.tel.shape[1] - 1)


@compiled
def mark(w, r, t0, t1, prefilling, decoding):  # type: ignore[no-untyped-def]
    """Spread a stretch of work over the bins, and sample the gauges at the ends of bins passed."""
    lim = w.lim[0]
    last = w.tel.shape[1] - 1
    length = t1 - t0
    b = min(int(t0 / lim.width), last)
    t = t0
    while True:
        upto = min(t1, (b + 1) * lim.width) if b < last else t1
        part = max(upto - t, 0.0)
        w.tel[r, b].busy += part
        if length > 0.0:
            w.tel[r, b].prefilling += prefilling * part / length
        w.tel[r, b].sequence_seconds += decoding * part
        if upto >= t1 or b == last:
            break
        t = upto
        b += 1
    sample(w, r, t1)


@compiled
def sample(w, r, t1):  # type: ignore[no-untyped-def]
    """Write the gauges at each end of a bin up to `t1`."""
    me = w.rep[r]
    lim = w.lim[0]
    while me.edge < w.tel.shape[1] and (me.edge + 1) * lim.width <= t1:
        e = me.edge
        w.tel[r, e].running = me.running
        w.tel[r, e].waiting = me.waiting
        w.tel[r, e].blocks = me.pinned
        me.edge += 1


@compiled
def mark_tokens(w, r, t0, t1, tokens):  # type: ignore[no-untyped-def]
    """Spread generated tokens over the bins."""
    lim = w.lim[0]
    last = w.tel.shape[1] - 1
    b = min(int(t0 / lim.width), last)
    t = t0
    while b < last and (b + 1) * lim.width < t1:
        w.tel[r, b].output_tokens += tokens * ((b + 1) * lim.width - t) / (t1 - t0)
        t = (b + 1) * lim.width
        b += 1
    w.tel[r, b].output_tokens += tokens * (t1 - t) / (t1 - t0)


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
