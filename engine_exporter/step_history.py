"""The running sums of an engine after each of its last steps, found by the time at which the step ended. Pure."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from engine_exporter.step_shares import Mark, StepShares

HISTORY_STEPS = 32_768
"""Steps that are kept at least: ten minutes of 20 ms. About 5 MB at most, twice as many being kept before a cut."""
_WIDTH = 11


class Moment(NamedTuple):
    """The engine right after one step."""

    at: float
    """When the step ended. Unit: s of the engine's monotonic clock, as far as it is known here."""
    mark: Mark
    chunk_tokens: float
    """Running sum of tokens in prefill chunks that did not complete their prompt."""
    chunk_seconds: float
    """Running sum of the seconds that those chunks were given."""
    busy: bool
    """The step began where the one before ended."""
    position: float = 0.0
    """The mean position, in their sequences, of the tokens that completed prompts in this step."""


class StepHistory:
    """Appended to once a step, asked once or twice a request."""

    __slots__ = ("_dropped", "_first_tokens", "_limit", "_rows", "_times")

    def __init__(self, limit: int = HISTORY_STEPS) -> None:
        """Start empty; `limit` steps are kept at least, twice as many at most."""
        self._limit = limit
        self._times = array("d")
        self._rows = array("d")
        self._dropped = 0
        self._first_tokens = array("q")
        """The steps that made first tokens, by their number since the start: `_dropped` more than their index."""

    def __len__(self) -> int:
        return len(self._times)

    def append(self, moment: Moment, first_tokens: bool = False) -> None:
        """Take in the moment after a step, and whether it made first tokens; times never fall."""
        if first_tokens:
            self._first_tokens.append(self._dropped + len(self._times))
        self._times.append(moment.at)
        self._rows.extend(moment.mark)
        self._rows.extend((moment.chunk_tokens, moment.chunk_seconds, 1.0 if moment.busy else 0.0, moment.position))
        self._cut()

    def add(self, at: float, sums: StepShares, chunk_tokens: float, chunk_seconds: float) -> None:
        """Take in the moment after a step that began where the one before ended: `append`, with less ado."""
        self._times.append(at)
        self._rows.extend(
            (
                sums.steps, sums.equal, sums.weight, sums.weighted_steps, sums.prefill_each, sums.prefill_token,
                sums.prefill_span, chunk_tokens, chunk_seconds, 1.0, 0.0,
            )
        )  # fmt: skip
        self._cut()

    def _cut(self) -> None:
        if len(self._times) > 2 * self._limit:
            cut = len(self._times) - self._limit
            del self._times[:cut]
            del self._rows[: cut * _WIDTH]
            self._dropped += cut
            del self._first_tokens[: bisect_left(self._first_tokens, self._dropped)]

    def __getitem__(self, index: int) -> Moment:
        if index < 0:
            index += len(self._times)
        row = self._rows[index * _WIDTH : (index + 1) * _WIDTH]
        return Moment(self._times[index], Mark(*row[:7]), row[7], row[8], row[9] > 0.0, row[10])

    def nearest(self, at: float) -> int:
        """The index of the step that ended nearest to a time; -1 where nothing is kept."""
        after = bisect_left(self._times, at)
        if after == 0:
            return 0 if self._times else -1
        if after == len(self._times) or at - self._times[after - 1] <= self._times[after] - at:
            return after - 1
        return after

    def first_token_nearest(self, at: float, until: int) -> int:
        """The index of that step which made first tokens and ended nearest to a time; of any step where none is kept.

        Times are off by as much as an event loop is late, which may be several steps: after idleness the engine's clock
        is known no better, and several API processes put their readings together. Every process sees those steps that
        made first tokens of its own requests.

        Args:
            at: when the first token came.
            until: the last step that can have made it.
        """
        end = bisect_right(self._first_tokens, self._dropped + until)
        if end == 0 or at < self._times[0]:  # older than what is kept
            return self.nearest(at)
        after = bisect_left(self._first_tokens, at, 0, end, key=self._ended)
        near = self._first_tokens[max(after - 1, 0) : min(after + 1, end)]
        return min(near, key=lambda step: abs(self._ended(step) - at)) - self._dropped

    def _ended(self, step: int) -> float:
        return self._times[step - self._dropped]

    def distance(self, at: float) -> float:
        """Seconds between a time and the nearest end of a step; infinite where no step is kept."""
        return abs(self._times[self.nearest(at)] - at) if self._times else math.inf

    def before(self, at: float) -> int:
        """The index of the last step that had ended by a time; -1 where none had."""
        return bisect_right(self._times, at) - 1
