"""The engine model: continuous batching with chunked prefill, paged KV, prefix cache and routing, compiled.

One call of `run` simulates one deployment: a few replicas behind a router. Time goes from event to event: steps that
prefill are taken one by one, stretches in which nothing but decoding happens are taken in one leap whose duration is the
closed sum of its steps, so that the result is that of a simulation step by step at a cost per event.

* A step of `n` decoding sequences with `C` tokens of context in all and prefill chunks `p_i` at mean context `x_i` takes
  `factor * (step + sequence*n + context*C + prefill*sum(p_i) + attention*sum(p_i*x_i))` seconds.
* A step's seconds are shared out as they were caused: what one sequence adds is its own, the constant is split equally
  over the sequences in the step (the Shapley value of an additive cost with a fixed part).
* The prefix cache is LRU by block. Blocks that are always used together form a segment, of which the first
  `cached` blocks are there; eviction trims the least recently used segment from its end, as vLLM frees blocks in
  reverse order. Blocks of running requests are pinned.
* A sequence which finds no block preempts the youngest running one, which is recomputed later (vLLM V1).

All compiled functions stand in this one file, because numba's disk cache notices changes of the file alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

DONE, GAVE_UP, DEAD, FULL = 1, 2, 3, 4
"""How a request left: ran to its end, left the queue, lost with its engine, turned away. 0 is still there."""
SET_FACTOR, KILL, UNROUTE, ROUTE, FLUSH, START = 0, 1, 2, 3, 4, 5
"""Control events of a replica."""
ROUND_ROBIN, LEAST_LOADED, PREFIX_AFFINE = 0, 1, 2
CONNECTION_REFUSED_SECONDS = 0.02
FOREVER = 1 << 60

LIMITS = np.dtype(
    [
        ("step", "f8"), ("prefill", "f8"), ("attention", "f8"), ("sequence", "f8"), ("context", "f8"), ("max_seqs", "i8"),
        ("max_tokens", "i8"), ("blocks", "i8"), ("block_size", "i8"), ("max_queue", "i8"), ("reserve_prompt", "i8"),
        ("policy", "i8"), ("slack", "i8"), ("width", "f8"), ("shares", "i8"),
    ]
)  # fmt: skip
"""What an engine is allowed and the seconds of its steps; `width` of a telemetry bin; `shares` counts rows of SHARE."""

JOB = np.dtype(
    [
        # asked: arrival s, tokens, patience s (below 0: never reaches the engine), routing key, its links of the chain
        ("arrival", "f8"), ("prompt", "i8"), ("output", "i8"), ("patience", "f8"), ("affinity", "i8"), ("chain_from", "i8"),
        ("chain_to", "i8"),
        # what became of it: times in s, -1 where it never came to that
        ("status", "i4"), ("replica", "i4"), ("scheduled", "f8"), ("first", "f8"), ("last", "f8"), ("cached", "i8"),
        ("made", "i8"), ("preemptions", "i4"), ("max_gap", "f8"),
        # while it is there: queue, KV, and the accumulators it is settled against
        ("follower", "i8"), ("computed", "i8"), ("private", "i8"), ("born_step", "i8"), ("born_context", "i8"),
        ("finish_step", "i8"), ("equal_at", "f8"), ("weight_at", "f8"), ("weighted_at", "f8"), ("prefill_seconds", "f8"),
    ]
)  # fmt: skip
LINK = np.dtype([("segment", "i8"), ("end", "i8")])
"""One segment of a request's prompt, and the token at which it ends."""
SEGMENT = np.dtype([("cached", "i4"), ("uses", "i4"), ("older", "i4"), ("newer", "i4")])
REPLICA = np.dtype(
    [
        ("clock", "f8"), ("factor", "f8"), ("alive", "i8"), ("routed", "i8"), ("running", "i8"), ("decoding", "i8"),
        ("waiting", "i8"), ("head", "i8"), ("tail", "i8"), ("partial", "i8"), ("pinned", "i8"), ("evictable", "i8"),
        ("steps", "i8"), ("context", "i8"), ("next_finish", "i8"), ("equal", "f8"), ("weight", "f8"),
        ("weighted_steps", "f8"), ("edge", "i8"), ("hour", "i8"),
    ]
)  # fmt: skip
BIN = np.dtype(
    [
        ("busy", "f8"), ("prefilling", "f8"), ("sequence_seconds", "f8"), ("input_tokens", "f8"), ("queried_tokens", "f8"),
        ("cached_tokens", "f8"), ("output_tokens", "f8"), ("finished", "f8"), ("preemptions", "f8"), ("running", "i4"),
        ("waiting", "i4"), ("blocks", "i4"),
    ]
)  # fmt: skip
"""Telemetry of one replica in one bin of time; `running`, `waiting`, `blocks` are sampled at its end."""
SHARE = np.dtype([("request", "i8"), ("hour", "i8"), ("prefill", "f8"), ("decode", "f8")])
"""What a request used in an hour, in seconds; a request may have several rows."""
CHUNK = np.dtype([("request", "i8"), ("size", "i8"), ("span", "f8"), ("seconds", "f8")])
EVENT = np.dtype([("at", "f8"), ("replica", "i8"), ("kind", "i8"), ("value", "f8")])


class World(NamedTuple):
    """Everything of one deployment. Record arrays, because the compiler's time grows with the number of arguments."""

    lim: npt.NDArray[Any]
    """LIMITS, one."""
    job: npt.NDArray[Any]
    """JOB by request, in order of arrival."""
    chain: npt.NDArray[Any]
    """LINK; request i has `chain_from` to `chain_to`. The last is its own: what it makes is kept there."""
    rep: npt.NDArray[Any]
    """REPLICA by replica."""
    slots: npt.NDArray[Any]
    """The running requests of each replica, oldest first."""
    residues: npt.NDArray[Any]
    """Decoding sequences of each replica by (context - step) modulo the block size."""
    seg: npt.NDArray[Any]
    """SEGMENT by replica and segment; the last is the sentinel of the LRU list."""
    tel: npt.NDArray[Any]
    """BIN by replica and bin."""
    share: npt.NDArray[Any]
    """SHARE; only the first `lim.shares` hold something, and rows beyond its end are only counted."""
    chunk: npt.NDArray[Any]
    """CHUNK: the prefill work of the step at hand."""
    bounds: npt.NDArray[Any]
    """Ends of the hours that shares are cut at, the last infinite. Unit: s."""


def new_world(
    limits: npt.NDArray[Any], job: npt.NDArray[Any], chain: npt.NDArray[Any], segments: int, replicas: int, bins: int,
    shares: int, bounds: npt.NDArray[Any],
) -> World:  # fmt: skip
    """Idle replicas with cold caches before these requests."""
    job["status"], job["replica"], job["follower"] = 0, -1, -1
    for name in ("scheduled", "first", "last"):
        job[name] = -1.0
    rep = np.zeros(replicas, REPLICA)
    for name, value in (
        ("factor", 1),
        ("alive", 1),
        ("routed", 1),
        ("head", -1),
        ("tail", -1),
        ("partial", -1),
        ("next_finish", FOREVER),
    ):
        rep[name] = value
    seg = np.zeros((replicas, segments + 1), SEGMENT)
    seg["older"], seg["newer"] = segments, segments
    most, size = int(limits["max_seqs"][0]), int(limits["block_size"][0])
    return World(
        lim=limits, job=job, chain=chain, rep=rep, slots=np.zeros((replicas, most), np.int64),
        residues=np.zeros((replicas, size), np.int64), seg=seg, tel=np.zeros((replicas, bins), BIN),
        share=np.zeros(shares, SHARE), chunk=np.zeros(most + 1, CHUNK), bounds=bounds,
    )  # fmt: skip


@njit(cache=True)
def bin_of(w, t):  # type: ignore[no-untyped-def]
    """The telemetry bin of a time."""
    return min(int(t / w.lim[0].width), w.tel.shape[1] - 1)


# ---- prefix cache: a doubly linked list of unpinned segments per replica; the last index is the sentinel


@njit(cache=True)
def unlink(w, r, s):  # type: ignore[no-untyped-def]
    """Take a segment out of the LRU list."""
    o, n = w.seg[r, s].older, w.seg[r, s].newer
    w.seg[r, o].newer = n
    w.seg[r, n].older = o


@njit(cache=True)
def link_newest(w, r, s):  # type: ignore[no-untyped-def]
    """Put a segment at the recently used end."""
    end = w.seg.shape[1] - 1
    o = w.seg[r, end].older
    w.seg[r, s].older, w.seg[r, s].newer = o, end
    w.seg[r, o].newer = s
    w.seg[r, end].older = s


@njit(cache=True)
def shrink(w, r):  # type: ignore[no-untyped-def]
    """Evict from the least recently used end until pinned and cached blocks fit."""
    end = w.seg.shape[1] - 1
    excess = w.rep[r].evictable + w.rep[r].pinned - w.lim[0].blocks
    while excess > 0:
        s = w.seg[r, end].newer
        if s == end:  # one request alone may overrun
            break
        cut = min(excess, w.seg[r, s].cached)
        w.seg[r, s].cached -= cut
        w.rep[r].evictable -= cut
        excess -= cut
        if w.seg[r, s].cached == 0:
            unlink(w, r, s)


@njit(cache=True)
def flush(w, r):  # type: ignore[no-untyped-def]
    """Forget every cached block that no running request holds."""
    end = w.seg.shape[1] - 1
    while w.seg[r, end].newer != end:
        s = w.seg[r, end].newer
        w.rep[r].evictable -= w.seg[r, s].cached
        w.seg[r, s].cached = 0
        unlink(w, r, s)


@njit(cache=True)
def wanted_blocks(w, i, c, size):  # type: ignore[no-untyped-def]
    """Full blocks of request i in link c of its chain; the last link is its own and grows with what it made."""
    start = 0 if c == w.job[i].chain_from else w.chain[c - 1].end // size
    end = w.chain[c].end
    if c == w.job[i].chain_to - 1 and w.job[i].born_context > end:
        end = w.job[i].born_context  # preempted before: its own blocks may still be there
    return max(end // size - start, 0)


@njit(cache=True)
def admit(w, r, i, target, room):  # type: ignore[no-untyped-def]
    """Give request i its cached prefix and the blocks of its first chunk, of at most `room` tokens.

    Returns (cached tokens, chunk), or (-1, 0) where the blocks do not suffice.
    """
    size = w.lim[0].block_size
    most = (target - 1) // size  # the last token is always computed
    hit, new, unpinned, whole = 0, 0, 0, True
    blocks = 0
    for c in range(w.job[i].chain_from, w.job[i].chain_to):
        s, want = w.chain[c].segment, wanted_blocks(w, i, c, size)
        have = w.seg[r, s].cached
        if w.seg[r, s].uses == 0:
            unpinned += have
        if whole:
            hit += min(have, want)
            whole = have >= want
        new += max(want - have, 0)
        blocks += want
    hit = min(hit, most)
    chunk = min(target - hit * size, room)
    reach = target if w.lim[0].reserve_prompt else hit * size + chunk
    private = max(-(-reach // size) - blocks, 0)
    if w.rep[r].pinned + unpinned + new + private > w.lim[0].blocks:
        return -1, 0
    private = max(-(-(hit * size + chunk) // size) - blocks, 0)
    for c in range(w.job[i].chain_from, w.job[i].chain_to):
        s, want = w.chain[c].segment, wanted_blocks(w, i, c, size)
        have = w.seg[r, s].cached
        if w.seg[r, s].uses == 0:
            if have > 0:
                unlink(w, r, s)
                w.rep[r].evictable -= have
            w.rep[r].pinned += have
        w.seg[r, s].uses += 1
        if want > have:
            w.rep[r].pinned += want - have
            w.seg[r, s].cached = want
    w.rep[r].pinned += private
    w.job[i].private = private
    shrink(w, r)
    return hit * size, chunk


@njit(cache=True)
def release(w, r, i, length):  # type: ignore[no-untyped-def]
    """Unpin the blocks of request i, whose KV holds `length` tokens; full ones stay cached until evicted."""
    first, end = w.job[i].chain_from, w.job[i].chain_to
    w.rep[r].pinned -= w.job[i].private
    if end > first and length >= w.chain[end - 1].end:
        own = w.chain[end - 1].segment
        start = 0 if end - 1 == first else w.chain[end - 2].end // w.lim[0].block_size
        gained = min(length // w.lim[0].block_size - start - w.seg[r, own].cached, w.job[i].private)
        if gained > 0:
            w.seg[r, own].cached += gained
            w.rep[r].pinned += gained
    w.job[i].private = 0
    for c in range(end - 1, first - 1, -1):
        s = w.chain[c].segment
        w.seg[r, s].uses -= 1
        if w.seg[r, s].uses == 0 and w.seg[r, s].cached > 0:
            w.rep[r].pinned -= w.seg[r, s].cached
            w.rep[r].evictable += w.seg[r, s].cached
            link_newest(w, r, s)


# ---- accounting of time


@njit(cache=True)
def mark(w, r, t0, t1, prefilling, decoding):  # type: ignore[no-untyped-def]
    """Spread a stretch of work over the bins, and sample the gauges at the ends of bins passed."""
    last = w.tel.shape[1] - 1
    length = t1 - t0
    b = min(int(t0 / w.lim[0].width), last)
    t = t0
    while True:
        upto = min(t1, (b + 1) * w.lim[0].width) if b < last else t1
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


@njit(cache=True)
def sample(w, r, t1):  # type: ignore[no-untyped-def]
    """Write the gauges at each end of a bin up to `t1`."""
    while w.rep[r].edge < w.tel.shape[1] and (w.rep[r].edge + 1) * w.lim[0].width <= t1:
        e = w.rep[r].edge
        w.tel[r, e].running = w.rep[r].running
        w.tel[r, e].waiting = w.rep[r].waiting
        w.tel[r, e].blocks = w.rep[r].pinned
        w.rep[r].edge += 1


@njit(cache=True)
def settle(w, r, i, decoding, hour):  # type: ignore[no-untyped-def]
    """Write what request i used since it was last settled, as of hour `hour`."""
    decode = 0.0
    if decoding:
        decode = (
            w.rep[r].equal
            - w.job[i].equal_at
            + (w.job[i].born_context - w.job[i].born_step) * (w.rep[r].weight - w.job[i].weight_at)
            + (w.rep[r].weighted_steps - w.job[i].weighted_at)
        )
        w.job[i].equal_at, w.job[i].weight_at, w.job[i].weighted_at = (
            w.rep[r].equal,
            w.rep[r].weight,
            w.rep[r].weighted_steps,
        )
    if decode > 0.0 or w.job[i].prefill_seconds > 0.0:
        k = w.lim[0].shares
        w.lim[0].shares = k + 1  # beyond the room there is, rows are only counted, and the caller makes more
        if k < w.share.shape[0]:
            w.share[k].request, w.share[k].hour = i, hour
            w.share[k].prefill, w.share[k].decode = w.job[i].prefill_seconds, max(decode, 0.0)
    w.job[i].prefill_seconds = 0.0


@njit(cache=True)
def spend(w, r, t0, seconds, steps, equal, weight, chunk_count):  # type: ignore[no-untyped-def]
    """Charge `steps` equal steps from t0; the last one may cross the hour, and is split there."""
    s0, t, kept = w.rep[r].steps, t0, 1.0
    while steps == 1 and t0 + seconds > w.bounds[w.rep[r].hour]:
        part = max(w.bounds[w.rep[r].hour] - t, 0.0) / seconds
        charge(w, r, s0, 1, equal * part, weight * part, chunk_count, part)
        t, kept = w.bounds[w.rep[r].hour], kept - part
        close_hour(w, r)
    charge(w, r, s0, steps, equal * kept, weight * kept, chunk_count, kept)


@njit(cache=True)
def charge(w, r, s0, steps, equal, weight, chunk_count, part):  # type: ignore[no-untyped-def]
    """Move the accumulators that the decoding sequences are settled from."""
    w.rep[r].equal += equal * steps
    w.rep[r].weight += weight * steps
    w.rep[r].weighted_steps += weight * (s0 * steps + steps * (steps - 1) / 2.0)
    for k in range(chunk_count):
        w.job[w.chunk[k].request].prefill_seconds += w.chunk[k].seconds * part


@njit(cache=True)
def close_hour(w, r):  # type: ignore[no-untyped-def]
    """Settle every running request at the end of the hour."""
    for k in range(w.rep[r].running):
        i = w.slots[r, k]
        settle(w, r, i, w.job[i].finish_step > 0, w.rep[r].hour)
    w.rep[r].hour += 1


# ---- the queue and the batch


@njit(cache=True)
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


@njit(cache=True)
def dequeue(w, r):  # type: ignore[no-untyped-def]
    """Take the first waiting request."""
    i = w.rep[r].head
    w.rep[r].head = w.job[i].follower
    if w.rep[r].head < 0:
        w.rep[r].tail = -1
    w.rep[r].waiting -= 1
    return i


@njit(cache=True)
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


@njit(cache=True)
def rescan(w, r):  # type: ignore[no-untyped-def]
    """Find the step at which the next sequence ends."""
    soonest = FOREVER
    for k in range(w.rep[r].running):
        step = w.job[w.slots[r, k]].finish_step
        if 0 < step < soonest:
            soonest = step
    w.rep[r].next_finish = soonest


@njit(cache=True)
def preempt(w, r):  # type: ignore[no-untyped-def]
    """Send the youngest running request back to the front of the queue."""
    i = leave(w, r, w.rep[r].running - 1)
    w.job[i].computed = 0
    w.job[i].preemptions += 1
    w.tel[r, bin_of(w, w.rep[r].clock)].preemptions += 1.0
    enqueue(w, r, i, True)
    rescan(w, r)


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def mark_tokens(w, r, t0, t1, tokens):  # type: ignore[no-untyped-def]
    """Spread generated tokens over the bins."""
    last = w.tel.shape[1] - 1
    b = min(int(t0 / w.lim[0].width), last)
    t = t0
    while b < last and (b + 1) * w.lim[0].width < t1:
        w.tel[r, b].output_tokens += tokens * ((b + 1) * w.lim[0].width - t) / (t1 - t0)
        t = (b + 1) * w.lim[0].width
        b += 1
    w.tel[r, b].output_tokens += tokens * (t1 - t) / (t1 - t0)


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def may_admit(w, r):  # type: ignore[no-untyped-def]
    """A quick look whether the first waiting request could get its own blocks, or has left."""
    i = w.rep[r].head
    if w.job[i].scheduled < 0.0 and w.rep[r].clock > w.job[i].arrival + w.job[i].patience:
        return True
    return w.rep[r].pinned < w.lim[0].blocks or w.rep[r].running == 0


@njit(cache=True)
def route(w, i, turn):  # type: ignore[no-untyped-def]
    """Choose the replica of request i among those that the router believes in; -1 where there is none."""
    n = w.rep.shape[0]
    best, least = -1, FOREVER
    for k in range(n):
        r = (turn + k) % n
        if w.rep[r].routed == 0:
            continue
        if w.lim[0].policy == ROUND_ROBIN:
            return r
        load = w.rep[r].running + w.rep[r].waiting
        if load < least:
            best, least = r, load
    if w.lim[0].policy == PREFIX_AFFINE and best >= 0:
        r = w.job[i].affinity % n
        if w.rep[r].routed == 1 and w.rep[r].running + w.rep[r].waiting <= least + w.lim[0].slack:
            return r
    return best


@njit(cache=True)
def kill(w, r, t):  # type: ignore[no-untyped-def]
    """The engine dies: everything on it is lost, and its cache."""
    while w.rep[r].running > 0:
        i = leave(w, r, w.rep[r].running - 1)
        w.job[i].status, w.job[i].last = DEAD, max(t, w.job[i].first)
    while w.rep[r].head >= 0:
        i = dequeue(w, r)
        w.job[i].status, w.job[i].last = DEAD, t
    w.rep[r].next_finish = FOREVER
    flush(w, r)
    w.rep[r].alive = 0


@njit(cache=True)
def control(w, r, kind, value, t):  # type: ignore[no-untyped-def]
    """Apply one control event to a replica."""
    if kind == SET_FACTOR:
        w.rep[r].factor = value
    elif kind == KILL:
        kill(w, r, t)
    elif kind == UNROUTE:
        w.rep[r].routed = 0
    elif kind == ROUTE:
        w.rep[r].routed = 1
    elif kind == FLUSH:
        flush(w, r)
    elif kind == START:
        w.rep[r].alive = 1


@njit(cache=True)
def run(w, events, end):  # type: ignore[no-untyped-def]
    """Simulate one deployment from 0 to `end` seconds under control events (EVENT, in order of time)."""
    replicas, e, turn = w.rep.shape[0], 0, 0
    for i in range(w.job.shape[0] + 1):
        t = w.job[i].arrival if i < w.job.shape[0] else end
        while e < events.shape[0] and events[e].at <= min(t, end):
            r = events[e].replica
            advance(w, r, events[e].at)
            control(w, r, events[e].kind, events[e].value, events[e].at)
            e += 1
        if t >= end:
            break
        for r in range(replicas):
            if w.rep[r].clock < t:
                advance(w, r, t)
        r = route(w, i, turn)
        turn += 1
        w.job[i].replica = r
        if w.job[i].patience < 0.0:
            continue
        if r < 0 or w.rep[r].waiting >= w.lim[0].max_queue:
            w.job[i].status, w.job[i].last = FULL, t
        elif w.rep[r].alive == 0:
            w.job[i].status, w.job[i].last = DEAD, t + CONNECTION_REFUSED_SECONDS
        else:
            enqueue(w, r, i, False)
    for r in range(replicas):
        advance(w, r, end)
        for k in range(w.rep[r].running):
            i = w.slots[r, k]
            settle(w, r, i, w.job[i].finish_step > 0, w.rep[r].hour)
