"""Steps of an engine, compiled: those that prefill one by one, decoding in leaps.

A step of `n` decoding sequences with `C` tokens of context in all and prefill chunks `p_i` at mean context `x_i` takes
`factor * (step + sequence*n + context*C + sum(p_i*(prefill + attention*x_i)))` seconds. While nothing but decoding
happens, `C` grows by `n` a step, so that `k` steps take a closed sum: the result is that of a simulation step by step.
"""

from __future__ import annotations

import numpy as np

from analytics.simulator.engine.accounting import bin_of, mark, mark_tokens, sample, spend
from analytics.simulator.engine.batch import finish_due, make_room, preempt, schedule, start_decoding
from analytics.simulator.engine.layout import compiled
from analytics.simulator.engine.prefix_cache import shrink


@compiled
def give_decode_blocks(w, r, steps):  # type: ignore[no-untyped-def]
    """Allocate the blocks that the decoding sequences fill in the next `steps` steps."""
    size = w.lim[0].block_size
    s0 = w.rep[r].steps
    given = w.rep[r].decoding * (steps // size)
    for j in range(steps % size):
        given += w.residues[r, (-(s0 + j)) % size]
    if given == 0:
        return
    w.rep[r].pinned += given
    for k in range(w.rep[r].running):
        i = w.slots[r, k]
        if w.job[i].finish_step > 0:
            length = w.job[i].born_context + s0 - w.job[i].born_step
            w.job[i].private += -(-(length + steps) // size) - -(-length // size)


@compiled
def affordable(w, r, most):  # type: ignore[no-untyped-def]
    """How many of the next steps find their blocks."""
    free = w.lim[0].blocks - w.rep[r].pinned
    cycles = max(free, 0) // w.rep[r].decoding
    steps = cycles * w.lim[0].block_size
    free -= cycles * w.rep[r].decoding
    while steps < most:
        need = w.residues[r, (-(w.rep[r].steps + steps)) % w.lim[0].block_size]
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
def leap(w, r, until):  # type: ignore[no-untyped-def]
    """Decode until a sequence ends, blocks run out, the hour ends or a step starts at or after `until`."""
    n = w.rep[r].decoding
    most = affordable(w, r, w.rep[r].next_finish - w.rep[r].steps)
    if most < 1:
        if w.rep[r].running > 1:
            preempt(w, r)
            return
        most = 1  # the last one alone may overrun the cache by its next block
    factor = w.rep[r].factor
    first = factor * (w.lim[0].step + w.lim[0].sequence * n + w.lim[0].context * w.rep[r].context)
    growth = factor * w.lim[0].context * n
    t0 = w.rep[r].clock
    hour_end = w.bounds[w.rep[r].hour]
    k = steps_until(first, growth, min(until, hour_end) - t0, most)
    seconds = k * first + growth * (k * (k - 1) / 2.0)
    if k > 1 and t0 + seconds > hour_end:  # the step across the hour is taken alone, and split
        k -= 1
        seconds = k * first + growth * (k * (k - 1) / 2.0)
    w.rep[r].clock = t0 + seconds
    give_decode_blocks(w, r, k)
    shrink(w, r)
    equal = factor * (w.lim[0].step / n + w.lim[0].sequence)
    spend(w, r, t0, seconds, k, equal, factor * w.lim[0].context, 0)
    mark_tokens(w, r, t0, w.rep[r].clock, n * k)
    w.rep[r].steps += k
    w.rep[r].context += n * k
    mark(w, r, t0, w.rep[r].clock, 0.0, n)
    if w.rep[r].next_finish <= w.rep[r].steps:
        finish_due(w, r, first + growth * (k - 1))


@compiled
def mixed_step(w, r):  # type: ignore[no-untyped-def]
    """One step with prefill in it; returns False where nothing could be scheduled."""
    preempted = make_room(w, r)
    decoding = w.rep[r].decoding
    need = w.residues[r, (-w.rep[r].steps) % w.lim[0].block_size] if decoding else 0
    w.rep[r].pinned += need  # reserved first: running sequences go before the queue
    n = schedule(w, r, preempted)
    if w.rep[r].decoding != decoding:  # the begun prompt was preempted, or a decoding one was
        w.rep[r].pinned -= need
        return True
    w.rep[r].pinned -= need
    if n == 0:
        return False
    give_decode_blocks(w, r, 1)
    shrink(w, r)
    factor = w.rep[r].factor
    equal = factor * w.lim[0].step / (decoding + n)
    own = factor * w.lim[0].sequence
    total = equal * (decoding + n) + decoding * own + factor * w.lim[0].context * w.rep[r].context
    prefilling = 0.0
    for k in range(n):
        alone = factor * w.chunk[k].size * (w.lim[0].prefill + w.lim[0].attention * w.chunk[k].span)
        w.chunk[k].seconds = equal + alone
        prefilling += w.chunk[k].seconds
        total += alone
    t0 = w.rep[r].clock
    w.rep[r].clock = t0 + total
    spend(w, r, t0, total, 1, equal + own, factor * w.lim[0].context, n)
    w.rep[r].steps += 1
    w.rep[r].context += decoding
    mark(w, r, t0, w.rep[r].clock, prefilling, decoding)
    w.tel[r, bin_of(w, w.rep[r].clock)].output_tokens += float(decoding)
    for k in range(w.rep[r].running):
        i = w.slots[r, k]
        if w.job[i].finish_step > 0 and total > w.job[i].max_gap:
            w.job[i].max_gap = total
    w.rep[r].partial = -1
    for k in range(n):
        i = w.chunk[k].request
        w.job[i].computed += w.chunk[k].size
        if w.job[i].computed < w.job[i].prompt + w.job[i].made:
            w.rep[r].partial = i
            continue
        w.job[i].made += 1
        w.tel[r, bin_of(w, w.rep[r].clock)].output_tokens += 1.0
        if w.job[i].first < 0.0:
            w.job[i].first = w.rep[r].clock
            w.tel[r, bin_of(w, w.rep[r].clock)].input_tokens += float(w.job[i].prompt)
        start_decoding(w, r, i)
    if w.rep[r].next_finish <= w.rep[r].steps:
        finish_due(w, r, total)
    return True


@compiled
def may_admit(w, r):  # type: ignore[no-untyped-def]
    """A quick look whether the first waiting request could get its own blocks, or has left."""
    i = w.rep[r].head
    if w.job[i].scheduled < 0.0 and w.rep[r].clock > w.job[i].arrival + w.job[i].patience:
        return True
    return w.rep[r].pinned < w.lim[0].blocks or w.rep[r].running == 0


@compiled
def advance(w, r, until):  # type: ignore[no-untyped-def]
    """Run replica r until its clock has reached `until`: every step that starts before then is taken."""
    while w.rep[r].clock < until:
        if w.rep[r].alive == 0 or (w.rep[r].running == 0 and w.rep[r].head < 0):
            sample(w, r, until)
            while w.bounds[w.rep[r].hour] <= until:
                w.rep[r].hour += 1
            w.rep[r].clock = until
            return
        if w.rep[r].head >= 0 or w.rep[r].partial >= 0:
            if w.rep[r].partial >= 0 or (w.rep[r].running < w.lim[0].max_seqs and may_admit(w, r)):
                if mixed_step(w, r):
                    continue
            if w.rep[r].running == 0:
                continue
        leap(w, r, until)
