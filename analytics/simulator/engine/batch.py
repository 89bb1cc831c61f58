"""The waiting queue and the running batch, compiled: who is scheduled, who leaves, who is preempted."""

from __future__ import annotations

from analytics.simulator.engine.accounting import bin_of, settle
from analytics.simulator.engine.layout import DONE, FOREVER, FULL, GAVE_UP, compiled
from analytics.simulator.engine.prefix_cache import admit, release, wanted_blocks


@compiled
def enqueue(w, r, i, front):  # type: ignore[no-untyped-def]
    """Put a request into the waiting queue."""
    if w.rep[r].head < 0:
        w.rep[r].head = w.rep[r].tail = i
        w.job[i].follower = -1
    elif front:
        w.job[i].follower = w.rep[r].head
        w.rep[r].head = i
    else:
        w.job[w.rep[r].tail].follower = i
        w.job[i].follower = -1
        w.rep[r].tail = i
    w.rep[r].waiting += 1


@compiled
def dequeue(w, r):  # type: ignore[no-untyped-def]
    """Take the first waiting request."""
    i = w.rep[r].head
    w.rep[r].head = w.job[i].follower
    if w.rep[r].head < 0:
        w.rep[r].tail = -1
    w.rep[r].waiting -= 1
    return i


@compiled
def leave(w, r, k):  # type: ignore[no-untyped-def]
    """Take slot k out of the batch, settle and unpin its request; return the request."""
    i = w.slots[r, k]
    decoding = w.job[i].finish_step > 0
    settle(w, r, i, decoding, w.rep[r].hour)
    length = w.job[i].computed
    if decoding:
        length = w.job[i].born_context + w.rep[r].steps - w.job[i].born_step
        w.job[i].made += w.rep[r].steps - w.job[i].born_step
        w.rep[r].decoding -= 1
        w.rep[r].context -= length
        w.residues[r, (w.job[i].born_context - w.job[i].born_step) % w.lim[0].block_size] -= 1
    if w.rep[r].partial == i:
        w.rep[r].partial = -1
    release(w, r, i, length)
    for m in range(k, w.rep[r].running - 1):
        w.slots[r, m] = w.slots[r, m + 1]
    w.rep[r].running -= 1
    w.job[i].finish_step = 0
    w.job[i].born_context = length
    return i


@compiled
def rescan(w, r):  # type: ignore[no-untyped-def]
    """Find the step at which the next sequence ends."""
    soonest = FOREVER
    for k in range(w.rep[r].running):
        step = w.job[w.slots[r, k]].finish_step
        if 0 < step < soonest:
            soonest = step
    w.rep[r].next_finish = soonest


@compiled
def preempt(w, r):  # type: ignore[no-untyped-def]
    """Send the youngest running request back to the front of the queue."""
    i = leave(w, r, w.rep[r].running - 1)
    w.job[i].computed = 0
    w.job[i].preemptions += 1
    w.tel[r, bin_of(w, w.rep[r].clock)].preemptions += 1.0
    enqueue(w, r, i, True)
    rescan(w, r)


@compiled
def finish_due(w, r, step_seconds):  # type: ignore[no-untyped-def]
    """Let the sequences go that made their last token in this step."""
    k = 0
    while k < w.rep[r].running:
        i = w.slots[r, k]
        if 0 < w.job[i].finish_step <= w.rep[r].steps:
            leave(w, r, k)
            w.job[i].status, w.job[i].last = DONE, w.rep[r].clock
            w.job[i].max_gap = max(w.job[i].max_gap, step_seconds)
            w.tel[r, bin_of(w, w.rep[r].clock)].finished += 1.0
        else:
            k += 1
    rescan(w, r)


@compiled
def start_decoding(w, r, i):  # type: ignore[no-untyped-def]
    """The prompt is done and its first token made: join the decoding sequences."""
    w.rep[r].decoding += 1
    w.job[i].born_step, w.job[i].born_context = w.rep[r].steps, w.job[i].computed
    w.rep[r].context += w.job[i].computed
    w.residues[r, (w.job[i].computed - w.rep[r].steps) % w.lim[0].block_size] += 1
    w.job[i].equal_at, w.job[i].weight_at, w.job[i].weighted_at = (
        w.rep[r].equal,
        w.rep[r].weight,
        w.rep[r].weighted_steps,
    )
    w.job[i].finish_step = w.rep[r].steps + w.job[i].output - w.job[i].made
    w.rep[r].next_finish = min(w.rep[r].next_finish, w.job[i].finish_step)


@compiled
def make_room(w, r):  # type: ignore[no-untyped-def]
    """Preempt until each decoding sequence finds the block of its next token; return whether any was."""
    any_preempted = False
    while w.rep[r].decoding > 0:
        need = w.residues[r, (-w.rep[r].steps) % w.lim[0].block_size]
        if w.rep[r].pinned + need <= w.lim[0].blocks or w.rep[r].running <= 1:
            break
        preempt(w, r)
        any_preempted = True
    return any_preempted


@compiled
def schedule(w, r, preempted):  # type: ignore[no-untyped-def]
    """Choose this step's prefill chunks: the begun one first, then the queue in its order."""
    budget = w.lim[0].max_tokens - w.rep[r].decoding
    n = 0
    i = w.rep[r].partial
    if i >= 0 and budget > 0:
        chunk = min(w.job[i].prompt + w.job[i].made - w.job[i].computed, budget)
        held = w.job[i].private
        for c in range(w.job[i].chain_from, w.job[i].chain_to):
            held += wanted_blocks(w, i, c, w.lim[0].block_size)
        need = -(-(w.job[i].computed + chunk) // w.lim[0].block_size) - held
        if need > 0 and w.rep[r].pinned + need > w.lim[0].blocks:
            preempt(w, r)
            return n
        if need > 0:
            w.rep[r].pinned += need
            w.job[i].private += need
        w.chunk[n].request, w.chunk[n].size, w.chunk[n].span = i, chunk, w.job[i].computed + 0.5 * chunk
        n += 1
        budget -= chunk
    while w.rep[r].head >= 0 and budget > 0 and w.rep[r].running < w.lim[0].max_seqs and not preempted:
        i = w.rep[r].head
        t = w.rep[r].clock
        if w.job[i].scheduled < 0.0 and t > w.job[i].arrival + w.job[i].patience:
            dequeue(w, r)
            w.job[i].status, w.job[i].last = GAVE_UP, w.job[i].arrival + w.job[i].patience
            continue
        target = w.job[i].prompt + w.job[i].made
        cached, chunk = admit(w, r, i, target, budget)
        if cached < 0:
            if w.rep[r].running == 0:  # larger than the whole cache: can never run
                dequeue(w, r)
                w.job[i].status, w.job[i].last = FULL, t
                continue
            break
        dequeue(w, r)
        w.slots[r, w.rep[r].running] = i
        w.rep[r].running += 1
        w.job[i].computed = cached
        w.job[i].finish_step = 0
        if w.job[i].scheduled < 0.0:
            w.job[i].scheduled, w.job[i].cached = t, cached
            w.tel[r, bin_of(w, t)].queried_tokens += float(w.job[i].prompt)
            w.tel[r, bin_of(w, t)].cached_tokens += float(cached)
        w.chunk[n].request, w.chunk[n].size, w.chunk[n].span = i, chunk, cached + 0.5 * chunk
        n += 1
        budget -= chunk
    return n
