"""The prefix cache and the blocks of the KV cache, compiled.

The cache is LRU by block. Blocks that are always used together form a segment (a common system prompt, a
conversation), of
which the first `cached` blocks are there; eviction trims the least recently used segment from its end, as vLLM frees
blocks
in reverse order. That is the same as a list of single blocks, at the cost of one step a segment. Segments in use are
pinned
and not in the list.
"""

from __future__ import annotations

from analytics.simulator.engine.layout import compiled


@compiled
def unlink(row, s):  # type: ignore[no-untyped-def]
    """Take a segment out of the LRU list of one replica's row of segments."""
    o, n = row[s].older, row[s].newer
    row[o].newer = n
    row[n].older = o


@compiled
def link_newest(row, s):  # type: ignore[no-untyped-def]
    """Put a segment at the recently used end."""
    end = row.shape[0] - 1
    o = row[end].older
    row[s].older, row[s].newer = o, end
    row[o].newer = s
    row[end].older = s


@compiled
def shrink(w, r):  # type: ignore[no-untyped-def]
    """Evict from the least recently used end until pinned and cached blocks fit."""
    me = w.rep[r]
    lim = w.lim[0]
    end = w.seg.shape[1] - 1
    excess = me.evictable + me.pinned - lim.blocks
    while excess > 0:
        s = w.seg[r, end].newer
        if s == end:  # one request alone may overrun
            break
        cut = min(excess, w.seg[r, s].cached)
        w.seg[r, s].cached -= cut
        me.evictable -= cut
        excess -= cut
        if w.seg[r, s].cached == 0:
            unlink(w.seg[r], s)


@compiled
def flush(w, r):  # type: ignore[no-untyped-def]
    """Forget every cached block that no running request holds."""
    me = w.rep[r]
    end = w.seg.shape[1] - 1
    while w.seg[r, end].newer != end:
        s = w.seg[r, end].newer
        me.evictable -= w.seg[r, s].cached
        w.seg[r, s].cached = 0
        unlink(w.seg[r], s)


@compiled
def wanted_blocks(w, i, c, size):  # type: ignore[no-untyped-def]
    """Full blocks of request i in link c of its chain; the last link is its own and grows with what it made."""
    job = w.job[i]
    start = 0 if c == job.chain_from else w.chain[c - 1].end // size
    end = w.chain[c].end
    if c == job.chain_to - 1 and job.born_context > end:
        end = job.born_context  # preempted before: its own blocks may still be there
    return max(end // size - start, 0)


@compiled
def admit(w, r, i, target, room):  # type: ignore[no-untyped-def]
    """Give request i its cached prefix and the blocks of its first chunk, of at most `room` tokens.

    Returns (cached tokens, chunk), or (-1, 0) where the blocks do not suffice.
    """
    me = w.rep[r]
    lim = w.lim[0]
    job = w.job[i]
    size = lim.block_size
    most = (target - 1) // size  # the last token is always computed
    hit, new, unpinned, whole = 0, 0, 0, True
    blocks = 0
    for c in range(job.chain_from, job.chain_to):
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
    reach = target if lim.reserve_prompt else hit * size + chunk
    private = max(-(-reach // size) - blocks, 0)
    if me.pinned + unpinned + new + private > lim.blocks:
        return -1, 0
    private = max(-(-(hit * size + chunk) // size) - blocks, 0)
    for c in range(job.chain_from, job.chain_to):
        s, want = w.chain[c].segment, wanted_blocks(w, i, c, size)
        have = w.seg[r, s].cached
        if w.seg[r, s].uses == 0:
            if have > 0:
                unlink(w.seg[r], s)
                me.evictable -= have
            me.pinned += have
        w.seg[r, s].uses += 1
        if want > have:
            me.pinned += want - have
            w.seg[r, s].cached = want
    me.pinned += private
    job.private = private
    shrink(w, r)
    return hit * size, chunk


@compiled
def release(w, r, i, length):  # type: ignore[no-untyped-def]
    """Unpin the blocks of request i, whose KV holds `length` tokens; full ones stay cached until evicted."""
    me = w.rep[r]
    lim = w.lim[0]
    job = w.job[i]
    first, end = job.chain_from, job.chain_to
    me.pinned -= job.private
    if end > first and length >= w.chain[end - 1].end:
        own = w.chain[end - 1].segment
        start = 0 if end - 1 == first else w.chain[end - 2].end // lim.block_size
        gained = min(length // lim.block_size - start - w.seg[r, own].cached, job.private)
        if gained > 0:
            w.seg[r, own].cached += gained
            me.pinned += gained
    job.private = 0
    for c in range(end - 1, first - 1, -1):
        s = w.chain[c].segment
        w.seg[r, s].uses -= 1
        if w.seg[r, s].uses == 0 and w.seg[r, s].cached > 0:
            me.pinned -= w.seg[r, s].cached
            me.evictable += w.seg[r, s].cached
            link_newest(w.seg[r], s)
