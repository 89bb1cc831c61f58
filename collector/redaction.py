"""What of a span's attributes is kept: no prompts and completions, not too many, none too long.

Works on the decoded columns, so it is one rule for every decoder and every door, and costs one look at each distinct
name, and at each value that is an object as JSON: names in it are ruled too, alone and behind those that they stand in.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collector.attribute_values import CUT, as_text, is_content
from collector.redacted_names import REDACTED

ATTRIBUTES = pa.map_(pa.string(), pa.string())
DEPTH = 8
"""A name inside an object is ruled behind at most so many of those that it stands in."""
NAME_INSIDE = re.compile(r'"([^"\\]{1,200})"\s*:')
"""A name in an object that can't be read as a whole."""


@dataclass(frozen=True, slots=True)
class AttributeRules:
    """What is kept of the attributes that fill no column of their own."""

    redacted: tuple[str, ...] = REDACTED
    """Globs of names that are dropped, beside those of contents; case does not matter."""
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
            known = is_content(name) or any(pattern.match(name.lower()) for pattern in self._dropped)
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
        values, counts_inside = self._inside(names, values, keep)
        counts["redacted"] += int(np.count_nonzero(~keep)) + counts_inside
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
        if keep.all() and not cut_count and not counts_inside:
            return None
        ends = np.concatenate([[0], np.cumsum(keep)])[offsets]
        chosen = pa.array(keep)
        missing = array.is_null()
        positions = pa.array(ends.astype(np.int32), pa.int32())
        made = pa.MapArray.from_arrays(positions, names.filter(chosen), values.filter(chosen))
        return pc.if_else(missing, pa.nulls(len(made), ATTRIBUTES), made) if array.null_count else made

    def _inside(self, names: pa.Array, values: pa.Array, keep: npt.NDArray[np.bool_]) -> tuple[pa.Array, int]:
        """Rule the names inside values that are objects; return the values, and how many of them have changed.

        An object that can't be read is marked in `keep` as not kept where it was cut here, or has such a name in it.
        """
        begun = pc.or_(pc.starts_with(values, "{"), pc.starts_with(values, "["))
        places = np.flatnonzero(np.asarray(pc.fill_null(begun, False)) & keep)
        if not len(places):
            return values, 0
        found = values.take(pa.array(places))
        places = places[np.asarray(pc.match_substring(found, "{"))]
        written: dict[tuple[str, str], str | None] = {}
        changed: dict[int, str] = {}
        for place in places.tolist():
            name, text = str(names[place]), str(values[place])
            if (name, text) not in written:
                written[name, text] = self._object(name, text)
            if (kept := written[name, text]) is None:
                keep[place] = False
            elif kept != text:
                changed[place] = kept
        if not changed:
            return values, 0
        mask = np.zeros(len(values), np.bool_)
        mask[list(changed)] = True
        return pc.replace_with_mask(values, pa.array(mask), pa.array(changed.values(), values.type)), len(changed)

    def _object(self, name: str, text: str) -> str | None:
        """Return the text of an object as the rules leave it; None where it can't be read, and may not be kept."""
        try:
            value = json.loads(text)
            kept = self._without(value, (name,))
        except (ValueError, RecursionError):
            return None if text.endswith(CUT) or any(map(self.drops, NAME_INSIDE.findall(text))) else text
        return text if kept == value else as_text(kept)

    def _without(self, value: Any, path: tuple[str, ...]) -> Any:
        """Take out of a value what is dropped by its name, alone or behind those that it stands in."""
        if isinstance(value, list):
            return [self._without(one, path) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, one in value.items():
            inside = (*path, name)[-DEPTH:]
            if not any(self.drops(".".join(inside[start:])) for start in range(len(inside))):
                kept[name] = self._without(one, inside)
        return kept

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
