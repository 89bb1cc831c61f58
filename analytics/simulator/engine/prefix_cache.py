"""The prefix cache and the blocks of the KV cache, compiled.

The cache is LRU by block. Blocks that are always used together form a segment (a common system prompt, a conversation), of
which the first `cached` blocks are there; eviction trims the least recently used segment from its end, as vLLM frees blocks
in reverse order. That is the same as a list of single blocks, at the cost of one step a segment. Segments in use are pinned
and not in the list.
"""

from __future__ import annotations

from analytics.simulator.engine.layout import compiled


@compiled
def unlink(w, r, s):  # type: ignore[no-untyped-def]
    """Take a segment out of the LRU list."""
    o, n = w.seg[r, s].older, w.seg[r, s].newer
    w.seg[r, o].newer = n
    w.seg[r, n].older = o


@compiled
def link_newest(w, r, s):  # type: ignore[no-untyped-def]
    """Put a segment at the recently used end."""
    end = w.seg.shape[1] - 1
    o = w.seg[r, end].older
    w.seg[r, s].older, w.seg[r, s].newer = o, end
    w.seg[r, o].newer = s
    w.seg[r, end].older = s


@compiled
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


@compiled
def flush(w, r):  # type: ignore[no-untyped-def]
    """Forget every cached block that no running request holds."""
    end = w.seg.shape[1] - 1
    while w.seg[r, end].newer != end:
        s = w.seg[r, end].newer
        w.rep[r].evictable -= w.seg[r, s].cached
        w.seg[r, s].cached = 0
        unlink(w, r, s)


@compiled
def wanted_blocks(w, i, c, size):  # type: ignore[no-untyped-def]
    """Full blocks of request i in link c of its chain; the last link is its own and grows with what it made."""
    start = 0 if c == w.job[i].chain_from else w.chain[c - 1].end // size
    end = w.chain[c].end
    if c == w.job[i].chain_to - 1 and w.job[i].born_context > end:
        end = w.job[i].born_context  # preempted before: its own blocks may still be there
    return max(end // size - start, 0)


@compiled
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


@compiled
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
