"""Columns of a walk to Arrow tables. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TIMESTAMP = pa.timestamp("us")


def points_table(
    ids: npt.NDArray[np.int64],
    times_us: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    stale: npt.NDArray[np.bool_],
) -> pa.Table:
    """Return rows of `metric_points`; where `stale` is set the value is null."""
    return pa.table(
        {
            "series_id": pa.array(ids),
            "observed_at": pa.array(times_us).view(TIMESTAMP),
            "value": pa.array(values, mask=stale) if stale.any() else pa.array(values),
        }
    )
