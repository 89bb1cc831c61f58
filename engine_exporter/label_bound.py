"""Bounds the values of a metric's label: what may be named is named, all the rest is `other`. Pure but for its memory.

A label with one value a client's word would grow without end, and every series costs memory here, on the wire and in
every store behind. Rows of `requests` are not bounded: they carry every team by name.
"""

from __future__ import annotations

from collections.abc import Iterable

OTHER = "other"
"""Stands for every value beyond the bound."""
UNKNOWN = "unknown"
"""Stands for no value."""


class LabelBound:
    """The values of one label."""

    def __init__(self, allowed: Iterable[str], limit: int) -> None:
        """Take the bound.

        Args:
            allowed: the only values that are named; empty: the first `limit` that come from a source that can be
                trusted.
            limit: how many values are named without an allow-list.
        """
        self._named: dict[str, str] = {value: value for value in allowed}
        self._closed = bool(self._named)
        self._limit = limit

    def value(self, text: str | None, trusted: bool) -> str:
        """The label's value.

        Args:
            text: what it would be without a bound.
            trusted: whether more than a client's word stands behind it; without, it takes no place.
        """
        if text is None:
            return UNKNOWN
        found = self._named.get(text)
        if found is not None:
            return found
        if self._closed or not trusted or len(self._named) >= self._limit:
            return OTHER
        self._named[text] = text
        return text

    def __len__(self) -> int:
        return len(self._named)
