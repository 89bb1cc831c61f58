"""How the compiled engine lays out its state: record arrays, and the World that holds them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from analytics.allocation.step_costs import FEATURES, PRIOR

compiled = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""The decorator of every compiled function."""

DONE, GAVE_UP, DEAD, FULL = 1, 2, 3, 4
"""How a request left: ran to its end, left the queue, lost with its engine, turned away. 0 is still there."""
SET_FACTOR, KILL, UNROUTE, ROUTE, FLUSH, START = 0, 1, 2, 3, 4, 5
"""Control events of a replica."""
ROUND_ROBIN, LEAST_LOADED, PREFIX_AFFINE = 0, 1, 2
CONNECTION_REFUSED_SECONDS = 0.02
FOREVER = 1 << 60

LIMITS = np.dtype(
    [
        ("step", "f8"), ("prefill_step", "f8"), ("hidden_tokens", "f8"), ("prefill", "f8"), ("attention", "f8"),
        ("sequence", "f8"), ("context", "f8"), ("max_seqs", "i8"),
        ("max_tokens", "i8"), ("blocks", "i8"), ("block_size", "i8"), ("max_queue", "i8"), ("reserve_prompt", "i8"),
        ("policy", "i8"), ("slack", "i8"), ("width", "f8"), ("shares", "i8"),
    ]
)  # fmt: skip
"""What an engine is allowed and the seconds of its steps; `width` of a telemetry bin; `shares` counts rows of SHARE."""

JOB = np.dtype(
    [
        # asked: arrival s, tokens, patience s (below 0: never reaches the engine), routing key, its links of the chain
        ("arrival", "f8"), ("prompt", "i8"), ("output", "i8"), ("patience", "f8"), ("affinity", "i8"),
        ("chain_from", "i8"),
        ("chain_to", "i8"),
        # what became of it: times in s, -1 where it never came to that
        ("status", "i4"), ("replica", "i4"), ("scheduled", "f8"), ("first", "f8"), ("last", "f8"), ("cached", "i8"),
        ("made", "i8"), ("preemptions", "i4"), ("max_gap", "f8"),
        # while it is there: queue, KV, and the accumulators it is settled against
        ("follower", "i8"), ("computed", "i8"), ("private", "i8"), ("born_step", "i8"), ("born_context", "i8"),
        ("finish_step", "i8"), ("equal_at", "f8"), ("weight_at", "f8"), ("weighted_at", "f8"),
        ("prefill_seconds", "f8"),
        # what the exporter would measure: shares of steps in s, and the running sums when it began to decode
        ("measured_prefill", "f8"), ("measured_decode", "f8"), ("measured_equal_at", "f8"),
        ("measured_weight_at", "f8"), ("measured_weighted_at", "f8"),
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
        # what the exporter would measure: running sums, steps seen and learned from, and when the costs are next solved
        ("measured_equal", "f8"), ("measured_weight", "f8"), ("measured_weighted", "f8"), ("seen", "i8"),
        ("learned", "i8"), ("solve_at", "i8"),
    ]
)  # fmt: skip
BIN = np.dtype(
    [
        ("busy", "f8"), ("prefilling", "f8"), ("sequence_seconds", "f8"), ("input_tokens", "f8"),
        ("queried_tokens", "f8"),
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
    cost: npt.NDArray[Any]
    """The costs of a step that the exporter would have learned, by replica."""
    product: npt.NDArray[Any]
    """What they are learned from: weighted sums of products of two features, by replica."""
    target: npt.NDArray[Any]
    """Likewise, of feature times seconds."""
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
        ("solve_at", 8),
    ):
        rep[name] = value
    seg = np.zeros((replicas, segments + 1), SEGMENT)
    seg["older"], seg["newer"] = segments, segments
    most, size = int(limits["max_seqs"][0]), int(limits["block_size"][0])
    return World(
        lim=limits, job=job, chain=chain, rep=rep, slots=np.zeros((replicas, most), np.int64),
        residues=np.zeros((replicas, size), np.int64), seg=seg, tel=np.zeros((replicas, bins), BIN),
        share=np.zeros(shares, SHARE), chunk=np.zeros(most + 1, CHUNK), cost=np.tile(PRIOR, (replicas, 1)),
        product=np.zeros((replicas, FEATURES, FEATURES)), target=np.zeros((replicas, FEATURES)), bounds=bounds,
    )  # fmt: skip
