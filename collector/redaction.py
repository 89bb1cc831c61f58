"""What of a span's attributes is kept: no prompts and completions, not too many, none too long.

Works on the decoded columns, so it is one rule for every decoder and every door, and costs one look at each distinct
name.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collector.redacted_names import REDACTED

ATTRIBUTES = pa.map_(pa.string(), pa.string())


@dataclass(frozen=True, slots=True)
class AttributeRules:
    """What is kept of the attributes that fill no column of their own."""

    redacted: tuple[str, ...] = REDACTED
    """Globs of names that are dropped; case does not matter."""
    count_limit: int = 128
    """Attributes of a row beyond so many are dropped."""
    value_bytes_limit: int = 4096
    """A longer value is cut to so many characters."""
    _known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)
    _dropped: list[re.Pattern[str]] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.redacted:
            whole = "|".join(fnmatch.translate(glob.lower()) for glob in self.redacted)
            self._dropped.append(re.compile(whole))

    def drops(self, name: str) -> bool:
        """Tell whether an attribute of that name is dropped."""
        if (known := self._known.get(name)) is None:
            known = any(pattern.match(name.lower()) for pattern in self._dropped)
            if len(self._known) < 10_000:  # names are the senders' to choose
                self._known[name] = known
        return known

    def applied(self, rows: pa.Table) -> tuple[pa.Table, Mapping[str, int]]:
        """Apply the rules to every column of attributes.

        Returns:
            The rows, and how many attributes went by reason: redacted, too_many, too_long.
        """
        counts = {"redacted": 0, "too_many": 0, "too_long": 0}
        for index, column in enumerate(rows.schema):
            if column.type == ATTRIBUTES and rows.num_rows:
                kept = self._column(rows.column(index), counts)
                if kept is not None:
                    rows = rows.set_column(index, column, kept)
        return rows, counts

    def _column(self, column: pa.ChunkedArray, counts: dict[str, int]) -> pa.Array | None:
        """Return the column as the rules leave it, or None where they change nothing."""
        whole = column.combine_chunks()
        array = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
        offsets = np.asarray(array.offsets).astype(np.int64)
        first, last = int(offsets[0]), int(offsets[-1])
        names, values = array.keys.slice(first, last - first), array.items.slice(first, last - first)
        offsets = offsets - first
        keep = self._by_name(names)
        counts["redacted"] += int(np.count_nonzero(~keep))
        sizes = np.diff(offsets)
        if sizes.size and int(sizes.max()) > self.count_limit:
            room = within(keep, offsets, self.count_limit)
            counts["too_many"] += int(np.count_nonzero(keep & ~room))
            keep &= room
        long = np.asarray(pc.fill_null(pc.greater(pc.binary_length(values), self.value_bytes_limit), False))
        cut_count = int(np.count_nonzero(long & keep))
        counts["too_long"] += cut_count
        if cut_count:
            values = pc.utf8_slice_codeunits(values, 0, self.value_bytes_limit)
        if keep.all() and not cut_count:
            return None
        ends = np.concatenate([[0], np.cumsum(keep)])[offsets]
        chosen = pa.array(keep)
        missing = array.is_null()
        positions = pa.array(ends.astype(np.int32), pa.int32())
        made = pa.MapArray.from_arrays(positions, names.filter(chosen), values.filter(chosen))
        return pc.if_else(missing, pa.nulls(len(made), ATTRIBUTES), made) if array.null_count else made

    def _by_name(self, names: pa.Array) -> npt.NDArray[np.bool_]:
        """Tell for each name whether it is kept."""
        coded = names.dictionary_encode() if not isinstance(names, pa.DictionaryArray) else names
        kept = np.array([not self.drops(str(name)) for name in coded.dictionary.to_pylist()], np.bool_)
        return kept[np.asarray(coded.indices)] if kept.size else np.ones(len(names), np.bool_)


def within(keep: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.bool_]:
    """Tell which entries are among the first so many that are kept of their row."""
    before = np.concatenate([[0], np.cumsum(keep)])
    starts = np.repeat(before[offsets[:-1]], np.diff(offsets))
    return np.asarray(before[:-1] - starts < limit)
