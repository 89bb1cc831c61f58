"""Draws token counts from ServeGen's published distributions: one per client, field and window of 6 hours."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELDS = ("input_tokens", "output_tokens", "text_tokens", "image_count", "image_tokens")


class LengthTables:
    """The distributions of one model."""

    def __init__(self, path: Path, category: str, model: str) -> None:
        """Read the bins of the model, and remember where each distribution begins."""
        import numpy as np
        from pyarrow import parquet

        table = parquet.read_table(
            path,
            columns=["client_id", "window_s", "field", "bin", "prob"],
            filters=[("category", "=", category), ("model", "=", model), ("field", "in", FIELDS)],
        ).sort_by([(name, "ascending") for name in ("client_id", "field", "window_s", "bin")])
        self._bins: NDArray[np.int64] = table["bin"].to_numpy().astype(np.int64)
        self._weights: NDArray[np.float64] = table["prob"].to_numpy().astype(np.float64)
        self._slices: dict[tuple[int, str], dict[int, tuple[int, int]]] = {}
        groups = table.group_by(["client_id", "field", "window_s"], use_threads=False).aggregate([("bin", "count")])
        position = 0
        for client, field, window, length in zip(
            *(groups[name].to_pylist() for name in groups.column_names), strict=True
        ):
            self._slices.setdefault((client, field), {})[window] = (position, position + length)
            position += length

    def draw(
        self, random: np.random.Generator, client: int, at_seconds: int, field: str, rows: int
    ) -> NDArray[np.int64] | None:
        """Draw counts from the client's distribution of that time, else of the last before it, else of the first.

        Returns:
            `rows` counts, or None where the data has no such distribution of the client.
        """
        import numpy as np

        windows = self._slices.get((client, field))
        if windows is None:
            return None
        known = sorted(windows)
        begin, end = windows[known[max(bisect_right(known, at_seconds) - 1, 0)]]
        heights = np.cumsum(self._weights[begin:end])
        places = np.searchsorted(heights, random.random(rows) * heights[-1], side="right")
        drawn: NDArray[np.int64] = self._bins[begin:end][places]
        return drawn

    def draw_sums(
        self, random: np.random.Generator, client: int, at_seconds: int, field: str, counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Draw for every row `counts` values and add them up, e.g. the tokens of a request's images."""
        import numpy as np

        values = self.draw(random, client, at_seconds, field, int(counts.sum()))
        owners = np.repeat(np.arange(len(counts)), counts)
        weights = None if values is None else values
        return np.bincount(owners, weights=weights, minlength=len(counts)).astype(np.int64) * (values is not None)
