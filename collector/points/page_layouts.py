"""A page of text without its values: the heads of its lines, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collector.points.interning import bytes_of
from collector.points.page_walk import COMMENT, SAMPLE, walk_page
from collector.points.walking import DONE
from collector.prometheus_text import halves_of

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """A page without its values."""

    heads: npt.NDArray[np.uint8]
    ends: Places
    kinds: npt.NDArray[np.int8]

    @property
    def samples_count(self) -> int:
        """How many lines have a value."""
        return int(np.count_nonzero(self.kinds == SAMPLE))

    def text(self, values: Sequence[int]) -> bytes:
        """Return the page with values."""
        given = iter(values)
        whole = self.heads.tobytes()
        lines = [
            whole[self.ends[line] : self.ends[line + 1]] + (b" %d" % next(given) if kind == SAMPLE else b"")
            for line, kind in enumerate(self.kinds)
        ]
        return b"\n".join([*lines, b""])


def read_layout(body: bytes) -> Layout:
    """Cut a page into heads and values.

    Raises:
        ValueError: a line has more than a value, or is none.
    """
    parts: list[bytes] = []
    kinds: list[int] = []
    for line in body.decode().split("\n"):
        if not line:
            continue
        if line.startswith("#"):
            parts.append(line.encode())
            kinds.append(COMMENT)
            continue
        if line != line.strip():
            raise ValueError("spaces around a line")
        head, tail = halves_of(line)
        if tail[:1] != " " or len(tail.split()) != 1 or tail[1:] != tail.strip():
            raise ValueError("more than a value")
        parts.append(head.encode())
        kinds.append(SAMPLE)
    ends = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Layout(bytes_of(b"".join(parts)), ends, np.array(kinds, np.int8))


def values_of(layout: Layout, body: bytes) -> Numbers | None:
    """Return a page's values; None where it is another page."""
    count = layout.samples_count
    values, uncertain = np.empty(count), np.empty((count, 3), np.int64)
    state, left = walk_page(bytes_of(body), layout.heads, layout.ends, layout.kinds, values, uncertain)
    if state != DONE:
        return None
    try:
        for sample, start, end in uncertain[:left].tolist():
            values[sample] = float(body[start:end])
    except ValueError:
        return None
    return values
