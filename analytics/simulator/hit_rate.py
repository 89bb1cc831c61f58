"""What share of a trace's prefix blocks an LRU cache of some size would have held.

Two orders of use within a request are in use. `in_order` touches a prompt's blocks from its start, so that the end
of the
prompt is the most recent: the textbook LRU over the blocks as they are listed, by which Mooncake's published hit
rates come
out. `tail_first` frees them from the end, so that beginnings outlive ends: what vLLM does, and our engine model.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from analytics.simulator.engine.layout import SEGMENT
from analytics.simulator.engine.prefix_cache import link_newest, unlink
from analytics.simulator.traces import TraceRequests

Order = Literal["in_order", "tail_first"]


def lru_hit_ratio(trace: TraceRequests, capacity_blocks: int | None, order: Order = "in_order") -> float | None:
    """Hits over lookups of all prefix blocks of a trace, requests one after the other.

    Args:
        trace: Requests with prefix blocks. A block's id names it together with all before it, so that a block is only
            ever there if those before it were.
        capacity_blocks: Blocks that the cache holds; None is without end.
        order: Which end of a prompt is the more recent.

    Returns:
        A ratio; None where the trace has no block.
    """
    if trace.block_ids.size == 0:
        return None
    capacity = trace.distinct_blocks if capacity_blocks is None else capacity_blocks
    row = np.zeros(trace.distinct_blocks + 1, SEGMENT)
    row["older"] = row["newer"] = trace.distinct_blocks
    hits = _count(row, trace.block_from, trace.block_ids, capacity, order == "tail_first")
    return float(hits) / trace.block_ids.size


@njit  # type: ignore[untyped-decorator]
def _count(row: Any, starts: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], capacity: int, tail_first: bool) -> int:
    end, held, hits = row.shape[0] - 1, 0, 0
    for i in range(starts.shape[0] - 1):
        first, last = starts[i], starts[i + 1]
        whole = True
        for k in range(first, last):
            whole = whole and row[ids[k]].cached == 1
            hits += whole
        for k in range(first, last):
            s = ids[last - 1 - (k - first)] if tail_first else ids[k]
            if row[s].cached == 1:
                unlink(row, s)
            else:
                row[s].cached = 1
                held += 1
            link_newest(row, s)
        while held > capacity:
            s = row[end].newer
            unlink(row, s)
            row[s].cached = 0
            held -= 1
    return hits
