"""The waiting queue and the running batch, compiled: who is scheduled, who leaves, who is preempted."""

from __future__ import annotations

from analytics.simulator.engine.accounting import bin_of, settle
from analytics.simulator.engine.layout import DONE, FOREVER, FULL, GAVE_UP, compiled
from analytics.simulator.engine.measured import measure_end, note_start
from analytics.simulator.engine.prefix_cache import admit, release, wanted_blocks


@compiled
def enqueue(w, r, i, front):  # type: ignore[no-untyped-def]
    """Put a request into the waiting queue."""
    me = w.rep[r]
    job = w.job[i]
    if me.head < 0:
        me.head = me.tail = i
        job.follower = -1
    elif front:
        job.follower = me.head
        me.head = i
    else:
        w.job[me.tail].follower = i
        job.follower = -1
        me.tail = i
    me.waiting += 1


@compiled
def dequeue(w, r):  # type: ignore[no-untyped-def]
    """Take the first waiting request."""
    me = w.rep[r]
    i = me.head
    job = w.job[i]
    me.head = job.follower
    if me.head < 0:
        me.tail = -1
    me.waiting -= 1
    return i


@compiled
def leave(w, r, k):  # type: ignore[no-untyped-def]
    """Take slot k out of the batch, settle and unpin its request; return the request."""
    me = w.rep[r]
    lim = w.lim[0]
    i = w.slots[r, k]
    job = w.job[i]
    decoding = job.finish_step > 0
    settle(w, r, i, decoding, me.hour)
    length = job.computed
    if decoding:
        measure_end(w, r, i)
        length = job.born_context + me.steps - job.born_step
        job.made += me.steps - job.born_step
        me.decoding -= 1
        me.context -= length
        w.residues[r, (job.born_context - job.born_step) % lim.block_size] -= 1
    if me.partial == i:
        me.partial = -1
    release(w, r, i, length)
    for m in range(k, me.running - 1):
        w.slots[r, m] = w.slots[r, m + 1]
    me.running -= 1
    job.finish_step = 0
    job.born_context = length
    return i


@compiled
def rescan(w, r):  # type: ignore[no-untyped-def]
    """Find the step at which the next sequence ends."""
    me = w.rep[r]
    soonest = FOREVER
    for k in range(me.running):
        step = w.job[w.slots[r, k]].finish_step
        if 0 < step < soonest:
            soonest = step
    me.next_finish = soonest


@compiled
def preempt(w, r):  # type: ignore[no-untyped-def]
    """Send the youngest running request back to the front of the queue."""
    me = w.rep[r]
    i = leave(w, r, me.running - 1)
    job = w.job[i]
    job.computed = 0
    job.preemptions += 1
    w.tel[r, bin_of(w, me.clock)].preemptions += 1.0
    enqueue(w, r, i, True)
    rescan(w, r)


@compiled
def finish_due(w, r, step_seconds):  # type: ignore[no-untyped-def]
    """Let the sequences go that made their last token in this step."""
    me = w.rep[r]
    k = 0
    while k < me.running:
        i = w.slots[r, k]
        job = w.job[i]
        if 0 < job.finish_step <= me.steps:
            leave(w, r, k)
            job.status, job.last = DONE, me.clock
            job.max_gap = max(job.max_gap, step_seconds)
            w.tel[r, bin_of(w, me.clock)].finished += 1.0
        else:
            k += 1
    rescan(w, r)


@compiled
def start_decoding(w, r, i):  # type: ignore[no-untyped-def]
    """The prompt is done and its first token made: join the decoding sequences."""
    me = w.rep[r]
    lim = w.lim[0]
    job = w.job[i]
    me.decoding += 1
    job.born_step, job.born_context = me.steps, job.computed
    me.context += job.computed
    w.residues[r, (job.computed - me.steps) % lim.block_size] += 1
    job.equal_at, job.weight_at, job.weighted_at = (
        me.equal,
        me.weight,
        me.weighted_steps,
    )
    note_start(w, r, i)
    job.finish_step = me.steps + job.output - job.made
    me.next_finish = min(me.next_finish, job.finish_step)


@compiled
def make_room(w, r):  # type: ignore[no-untyped-def]
    """Preempt until each decoding sequence finds the block of its next token; return whether any was."""
    me = w.rep[r]
    lim = w.lim[0]
    any_preempted = False
    while me.decoding > 0:
        need = w.residues[r, (-me.steps) % lim.block_size]
        if me.pinned + need <= lim.blocks or me.running <= 1:
            break
        preempt(w, r)
        any_preempted = True
    return any_preempted


@compiled
def schedule(w, r, preempted):  # type: ignore[no-untyped-def]
    """Choose this step's prefill chunks: the begun one first, then the queue in its order."""
    me = w.rep[r]
    lim = w.lim[0]
    budget = lim.max_tokens - me.decoding
    n = 0
    i = me.partial
    job = w.job[i]
    if i >= 0 and budget > 0:
        chunk = min(job.prompt + job.made - job.computed, budget)
        held = job.private
        for c in range(job.chain_from, job.chain_to):
            held += wanted_blocks(w, i, c, lim.block_size)
        need = -(-(job.computed + chunk) // lim.block_size) - held
        if need > 0 and me.pinned + need > lim.blocks:
            preempt(w, r)
            return n
        if need > 0:
            me.pinned += need
            job.private += need
        w.chunk[n].request, w.chunk[n].size, w.chunk[n].span = i, chunk, job.computed + 0.5 * chunk
        n += 1
        budget -= chunk
    while me.head >= 0 and budget > 0 and me.running < lim.max_seqs and not preempted:
        i = me.head
        job = w.job[i]
        t = me.clock
        if job.scheduled < 0.0 and t > job.arrival + job.patience:
            dequeue(w, r)
            job.status, job.last = GAVE_UP, job.arrival + job.patience
            continue
        target = job.prompt + job.made
        cached, chunk = admit(w, r, i, target, budget)
        if cached < 0:
            if me.running == 0:  # larger than the whole cache: can never run
                dequeue(w, r)
                job.status, job.last = FULL, t
                continue
            break
        dequeue(w, r)
        w.slots[r, me.running] = i
        me.running += 1
        job.computed = cached
        job.finish_step = 0
        if job.scheduled < 0.0:
            job.scheduled, job.cached = t, cached
            w.tel[r, bin_of(w, t)].queried_tokens += float(job.prompt)
            w.tel[r, bin_of(w, t)].cached_tokens += float(cached)
        w.chunk[n].request, w.chunk[n].size, w.chunk[n].span = i, chunk, cached + 0.5 * chunk
        n += 1
        budget -= chunk
    return n
