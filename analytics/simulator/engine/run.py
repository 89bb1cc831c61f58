"""One deployment: replicas behind a router, from event to event, compiled.

`run` is the only function with a compiled form on disk. Numba looks at the file of a cached function alone, so its key
holds the digest of all files of this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt
from numba import njit

from analytics.allocation import layout, step_costs
from analytics.simulator.engine.accounting import settle
from analytics.simulator.engine.batch import dequeue, enqueue, leave
from analytics.simulator.engine.layout import (
    CONNECTION_REFUSED_SECONDS,
    DEAD,
    FLUSH,
    FOREVER,
    FULL,
    KILL,
    PREFIX_AFFINE,
    ROUND_ROBIN,
    ROUTE,
    SET_FACTOR,
    START,
    UNROUTE,
    World,
    compiled,
)
from analytics.simulator.engine.measured import forget
from analytics.simulator.engine.prefix_cache import flush
from analytics.simulator.engine.steps import advance


@compiled
def route(w, i, turn):  # type: ignore[no-untyped-def]
    """Choose the replica of request i among those that the router believes in; -1 where there is none."""
    lim = w.lim[0]
    job = w.job[i]
    n = w.rep.shape[0]
    best, least = -1, FOREVER
    for k in range(n):
        r = (turn + k) % n
        if w.rep[r].routed == 0:
            continue
        if lim.policy == ROUND_ROBIN:
            return r
        load = w.rep[r].running + w.rep[r].waiting
        if load < least:
            best, least = r, load
    if lim.policy == PREFIX_AFFINE and best >= 0:
        r = job.affinity % n
        if w.rep[r].routed == 1 and w.rep[r].running + w.rep[r].waiting <= least + lim.slack:
            return r
    return best


@compiled
def kill(w, r, t):  # type: ignore[no-untyped-def]
    """The engine dies: everything on it is lost, and its cache."""
    me = w.rep[r]
    while me.running > 0:
        i = leave(w, r, me.running - 1)
        job = w.job[i]
        job.status, job.last = DEAD, max(t, job.first)
    while me.head >= 0:
        i = dequeue(w, r)
        job = w.job[i]
        job.status, job.last = DEAD, t
    me.next_finish = FOREVER
    flush(w, r)
    forget(w, r)
    me.alive = 0


@compiled
def control(w, r, kind, value, t):  # type: ignore[no-untyped-def]
    """Apply one control event to a replica."""
    me = w.rep[r]
    if kind == SET_FACTOR:
        me.factor = value
    elif kind == KILL:
        kill(w, r, t)
    elif kind == UNROUTE:
        me.routed = 0
    elif kind == ROUTE:
        me.routed = 1
    elif kind == FLUSH:
        flush(w, r)
    elif kind == START:
        me.alive = 1


def source_digest() -> int:
    """A number that changes with any file of this package."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(step_costs.__file__), Path(layout.__file__)]
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def entry(digest: int, keep: bool) -> Callable[[World, npt.NDArray[Any], float], None]:
    """The entry point under the digest of its sources: numba keys a cached closure by what it closes over."""

    @njit(cache=keep, error_model="numpy")
    def run(w, events, end):  # type: ignore[no-untyped-def]
        if digest < 0:  # never so: this makes the digest part of the cache's key
            return
        lim = w.lim[0]
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
            if r < 0 or w.rep[r].waiting >= lim.max_queue:
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

    return cast("Callable[[World, npt.NDArray[Any], float], None]", run)


def compile_entry() -> Callable[[World, npt.NDArray[Any], float], None]:
    """The entry point, its compiled form kept on disk where there is a folder that can be written."""
    try:
        return entry(source_digest(), keep=True)
    except RuntimeError:  # numba found neither the package's folder nor the user's cache writable
        return entry(source_digest(), keep=False)


run = compile_entry()
"""Simulate one deployment: `run(world, events, end)` fills the world to `end` seconds; EVENT rows in order of time."""
