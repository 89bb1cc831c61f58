"""Bodies of traces to rows by the compiled walker, many bodies at once; what it does not take goes to the reference.

Not safe for two threads at once: one thread decodes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from collector.decoded import Decoded
from collector.walked_rows import Epoch, WalkedRows
from collector.walker import known, tables
from collector.walker.messages import PENDING, walk
from collector.walker.rows import Output

FIRST_ROWS = 8192
"""Rows that the output has room for at first; it grows with the bodies."""
ROWS_LIMIT = 4_000_000


@dataclass(slots=True)
class TraceWalker:
    """The walker with its epoch and its output."""

    limits: Sequence[int] = tables.LIMITS
    """How many names, texts … an epoch holds, as `walker.tables.LIMITS`, and at most as many."""
    _epoch: Epoch = field(init=False)
    _output: Output = field(init=False)

    def __post_init__(self) -> None:
        self._epoch = new_epoch(self.limits)
        self._output = new_output(FIRST_ROWS)

    def decode(self, bodies: Sequence[tuple[bytes, int]]) -> list[Decoded | None]:
        """Decode bodies (`ExportTraceServiceRequest`, received_us); None where the reference decoder is to judge."""
        decoded: list[Decoded | None] = [None] * len(bodies)
        for places, done in self._walks(bodies):
            self._take(places, done, decoded)
        return decoded

    def decode_together(self, bodies: Sequence[tuple[bytes, int]]) -> tuple[Decoded, list[int]]:
        """Decode bodies as if they were one, which costs less where they are small.

        Returns:
            The rows of all, and of each how many spans became rows; -1 where the reference decoder is to judge.
        """
        counts = np.full(len(bodies), -1, np.int64)
        walked: list[WalkedRows] = []
        for places, done in self._walks(bodies):
            counts[done] = places[done, 7] + places[done, 9]
            rows, pairs, span_rows, span_pairs = self._output.filled.tolist()
            requests, spans = self._copied()
            if rows:
                walked.append(slice_of("requests", self._epoch, requests, 0, rows, 0, pairs))
            if span_rows:
                walked.append(slice_of("spans", self._epoch, spans, 0, span_rows, 0, span_pairs))
        return Decoded(accepted_count=int(counts.clip(0).sum()), walked=tuple(walked)), counts.tolist()

    def _walks(self, bodies: Sequence[tuple[bytes, int]]) -> Iterator[tuple[Any, Any]]:
        """Walk until all bodies are done or given up; yield after each walk what was done, its rows in the output."""
        data = np.frombuffer(b"".join([body for body, _ in bodies]) or b"\0", np.uint8)
        places = np.zeros((len(bodies), 11), np.int64)
        ends = np.cumsum([len(body) for body, _ in bodies], dtype=np.int64)
        places[1:, 0], places[:, 1] = ends[:-1], ends
        places[:, 2] = [received_us for _, received_us in bodies]
        states = np.full(len(bodies), PENDING, np.int64)
        fresh = False
        while True:
            before: Any = states == 0
            self._output.filled[:] = 0
            walk(self._epoch.tables.record, self._output, data, places, states)
            done: Any = (states == 0) & ~before
            yield places, done
            full = np.flatnonzero((states == tables.FULL) | (states == tables.MORE_ROOM))
            if not len(full):
                return
            one = int(full[0])
            fresh = self._make_room(states, one, done_any=bool(done.any()), fresh=fresh)

    def _make_room(self, states: Any, one: int, *, done_any: bool, fresh: bool) -> bool:
        """After a walk that broke off: start an epoch, or make the output larger, or give the body up."""
        if states[one] == tables.FULL:
            if fresh and not done_any:
                states[one] = tables.ODD
                return True
            self._epoch = new_epoch(self.limits)
            return True
        if not done_any:
            rows = 2 * len(self._output.request_cells)
            if rows > ROWS_LIMIT:
                states[one] = tables.ODD
            else:
                self._output = new_output(rows)
        return fresh

    def _take(self, places: Any, done: Any, decoded: list[Decoded | None]) -> None:
        """Copy the rows out of the output, once for all bodies; each body's are a view."""
        epoch = self._epoch
        requests, spans = self._copied()
        for number in np.flatnonzero(done):
            first, pair, span, span_pair, rows, pairs, span_rows, span_pairs = places[number, 3:].tolist()
            walked = []
            if rows:
                walked.append(slice_of("requests", epoch, requests, first, rows, pair, pairs))
            if span_rows:
                walked.append(slice_of("spans", epoch, spans, span, span_rows, span_pair, span_pairs))
            decoded[number] = Decoded(accepted_count=rows + span_rows, walked=tuple(walked))

    def _copied(self) -> tuple[list[Any], list[Any]]:
        """Copy the rows of requests and of spans out of the output: cells, ids and pairs."""
        output = self._output
        rows, pairs, span_rows, span_pairs = output.filled.tolist()
        requests = [
            output.request_cells[:rows].copy(),
            output.request_ids[:rows].copy(),
            output.request_pairs[:pairs].copy(),
        ]
        spans = [
            output.span_cells[:span_rows].copy(),
            output.span_ids[:span_rows].copy(),
            output.span_pairs[:span_pairs].copy(),
        ]
        return requests, spans


def slice_of(
    table: str, epoch: Epoch, parts: list[Any], first: int, rows: int, first_pair: int, pairs: int
) -> WalkedRows:
    """Return one body's rows."""
    cells, ids, all_pairs = parts
    return WalkedRows(
        table, epoch, cells[first : first + rows], ids[first : first + rows], all_pairs[first_pair : first_pair + pairs]
    )


def new_output(rows: int) -> Output:
    """Return an output with room for rows, and for eight further attributes each."""
    return Output(
        np.zeros(4, np.int64),
        np.empty((rows, known.REQUEST_CELLS), np.int64),
        np.empty((rows, 48), np.uint8),
        np.empty((8 * rows, 2), np.int32),
        np.empty((rows, known.SPAN_CELLS), np.int64),
        np.empty((rows, 64), np.uint8),
        np.empty((32 * rows, 2), np.int32),
    )


def new_epoch(limits: Sequence[int]) -> Epoch:
    """Return an epoch that knows the names and texts of `walker.known` only."""
    return Epoch(tables.Tables(limits, secrets.randbits(62)))
