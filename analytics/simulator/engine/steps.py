"""Steps of an engine, compiled: those that prefill one by one, decoding in leaps.

A step of `n` decoding sequences with `C` tokens of context in all takes `step + sequence*n + context*C` seconds;
prefill
chunks of `p` tokens at a mean context of `x` add `prefill_step + prefill*max(sum(p) - hidden_tokens, 0) +
attention*sum(p*x)`; all is multiplied by the replica's factor. While nothing but decoding happens, `C` grows by `n` a
step, so that `k` steps take a closed sum: the result is that of a simulation step by step.
"""

from __future__ import annotations

import numpy as np

from analytics.simulator.engine.accounting import bin_of, mark, next_edge, sample, spend
from analytics.simulator.engine.batch import finish_due, make_room, schedule, start_decoding
from analytics.simulator.engine.layout import compiled
from analytics.simulator.engine.measured import measure_decode, measure_mixed
from analytics.simulator.engine.prefix_cache import shrink

TAKEN, NOTHING, PREEMPTED = 0, 1, 2


@compiled
def decode_blocks(w, r, steps):  # type: ignore[no-untyped-def]
    """Blocks that the decoding sequences begin in the next `steps` steps."""
    me = w.rep[r]
    size = w.lim[0].block_size
    blocks = me.decoding * (steps // size)
    for j in range(steps % size):
        blocks += w.residues[r, (-(me.steps + j)) % size]
    return blocks


@compiled
def give_decode_blocks(w, r, steps):  # type: ignore[no-untyped-def]
    """Allocate the blocks that the decoding sequences fill in the next `steps` steps."""
    me = w.rep[r]
    size = w.lim[0].block_size
    given = decode_blocks(w, r, steps)
    if given == 0:
        return
    me.pinned += given
    for k in range(me.running):
        job = w.job[w.slots[r, k]]
        if job.finish_step > 0:
            length = job.born_context + me.steps - job.born_step
            job.private += -(-(length + steps) // size) - -(-length // size)


@compiled
def affordable(w, r, most):  # type: ignore[no-untyped-def]
    """How many of the next steps find their blocks."""
    me = w.rep[r]
    lim = w.lim[0]
    free = lim.blocks - me.pinned
    cycles = max(free, 0) // me.decoding
    steps = cycles * lim.block_size
    free -= cycles * me.decoding
    while steps < most:
        need = w.residues[r, (-(me.steps + steps)) % lim.block_size]
        if need > free:
            break
        free -= need
        steps += 1
    return min(steps, most)


@compiled
def steps_until(first, growth, span, most):  # type: ignore[no-untyped-def]
    """The least number of steps that together last `span` seconds or more, from 1 to `most`."""
    if span <= first:
        return 1
    k = span / first
    if growth > 0.0:
        b = first - 0.5 * growth
        k = (-b + np.sqrt(b * b + 2.0 * growth * span)) / growth
    n = min(max(int(k), 1), most)
    while n < most and n * first + growth * (n * (n - 1) / 2.0) < span:
        n += 1
    return n


@compiled
def leap(w, r, until, single):  # type: ignore[no-untyped-def]
    """Decode until a sequence ends, blocks run out, the hour ends or a step starts at or after `until`.

    Who was preempted comes back at the next step at the earliest, so one step is taken then (`single`).
    """
    me = w.rep[r]
    lim = w.lim[0]
    single = make_room(w, r) or single
    n = me.decoding
    most = affordable(w, r, 1 if single else me.next_finish - me.steps)
    most = max(most, 1)  # the last one alone may overrun the cache by its next block
    factor = me.factor
    first = factor * (lim.step + lim.sequence * n + lim.context * me.context)
    growth = factor * lim.context * n
    t0 = me.clock
    hour_end = w.bounds[me.hour]
    k = steps_until(first, growth, min(until, hour_end) - t0, most)
    seconds = k * first + growth * (k * (k - 1) / 2.0)
    if k > 1 and t0 + seconds > hour_end:  # the step across the hour is taken alone, and split
        k -= 1
        seconds = k * first + growth * (k * (k - 1) / 2.0)
    me.clock = t0 + seconds
    mark_leap(w, r, t0, k, first, growth)
    give_decode_blocks(w, r, k)
    shrink(w, r)
    equal = factor * (lim.step / n + lim.sequence)
    spend(w, r, t0, seconds, k, equal, factor * lim.context, 0)
    measure_decode(w, r, k, first, growth)
    me.steps += k
    me.context += n * k
    if me.next_finish <= me.steps:
        finish_due(w, r, first + growth * (k - 1))


@compiled
def mark_leap(w, r, t0, steps, first, growth):  # type: ignore[no-untyped-def]
    """Telemetry of a leap as of its single steps: tokens where their step ends, gauges of the step under way."""
    me = w.rep[r]
    n = me.decoding
    mark(w, r, t0, me.clock, 0.0, n)
    counted = 0
    while next_edge(w, r) <= me.clock:
        edge = next_edge(w, r)
        under_way = steps_until(first, growth, edge - t0, steps)
        ended = under_way - (t0 + under_way * first + growth * (under_way * (under_way - 1) / 2.0) > edge)
        w.tel[r, me.edge].output_tokens += float(n * (ended - counted))
        counted = ended
        sample(w, r, edge, me.pinned + decode_blocks(w, r, under_way))
    w.tel[r, bin_of(w, me.clock)].output_tokens += float(n * (steps - counted))


@compiled
def mixed_step(w, r):  # type: ignore[no-untyped-def]
    """One step with prefill in it; returns TAKEN, NOTHING to prefill, or NOTHING but somebody was PREEMPTED."""
    me = w.rep[r]
    lim = w.lim[0]
    preempted = make_room(w, r)
    decoding = me.decoding
    need = w.residues[r, (-me.steps) % lim.block_size] if decoding else 0
    me.pinned += need  # reserved first: running sequences go before the queue
    running = me.running
    n = schedule(w, r, preempted)
    me.pinned -= need
    if n == 0:
        return PREEMPTED if preempted or me.running < running else NOTHING
    give_decode_blocks(w, r, 1)
    shrink(w, r)
    factor = me.factor
    equal = factor * lim.step / (decoding + n)
    own = factor * lim.sequence
    total = equal * (decoding + n) + decoding * own + factor * lim.context * me.context
    tokens, prefilling = 0, 0.0
    for k in range(n):
        tokens += w.chunk[k].size
    each = lim.prefill * max(tokens - lim.hidden_tokens, 0.0) / tokens
    for k in range(n):
        alone = factor * (w.chunk[k].size * (each + lim.attention * w.chunk[k].span) + lim.prefill_step / n)
        w.chunk[k].seconds = equal + alone
        prefilling += w.chunk[k].seconds
        total += alone
    t0 = me.clock
    me.clock = t0 + total
    spend(w, r, t0, total, 1, equal + own, factor * lim.context, n)
    measure_mixed(w, r, total, n)
    me.steps += 1
    me.context += decoding
    mark(w, r, t0, me.clock, prefilling, decoding)
    sample(w, r, me.clock, me.pinned)
    w.tel[r, bin_of(w, me.clock)].output_tokens += float(decoding)
    for k in range(me.running):
        i = w.slots[r, k]
        job = w.job[i]
        if job.finish_step > 0 and total > job.max_gap:
            job.max_gap = total
    me.partial = -1
    for k in range(n):
        i = w.chunk[k].request
        job = w.job[i]
        job.computed += w.chunk[k].size
        if job.computed < job.prompt + job.made:
            me.partial = i
            continue
        job.made += 1
        w.tel[r, bin_of(w, me.clock)].output_tokens += 1.0
        if job.first < 0.0:
            job.first = me.clock
            w.tel[r, bin_of(w, me.clock)].input_tokens += float(job.prompt)
        start_decoding(w, r, i)
    if me.next_finish <= me.steps:
        finish_due(w, r, total)
    return TAKEN


@compiled
def may_admit(w, r):  # type: ignore[no-untyped-def]
    """A quick look whether the first waiting request could get its own blocks, or has left."""
    me = w.rep[r]
    lim = w.lim[0]
    i = me.head
    job = w.job[i]
    if job.scheduled < 0.0 and me.clock > job.arrival + job.patience:
        return True
    return me.pinned < lim.blocks or me.running == 0


@compiled
def advance(w, r, until):  # type: ignore[no-untyped-def]
    """Run replica r until its clock has reached `until`: every step that starts before then is taken."""
    me = w.rep[r]
    lim = w.lim[0]
    while me.clock < until:
        if me.alive == 0 or (me.running == 0 and me.head < 0):
            sample(w, r, until, 0)
            while w.bounds[me.hour] <= until:
                me.hour += 1
            me.clock = until
            return
        took = NOTHING
        if me.partial >= 0 or (me.head >= 0 and me.running < lim.max_seqs and may_admit(w, r)):
            took = mixed_step(w, r)
        if took != TAKEN and me.running > 0:
            leap(w, r, until, took == PREEMPTED)
