"""A set of 64-bit hashes of keys: 8 bytes a key, in sorted runs that merge as they grow.

A key that is missing is certainly new; one that is found may only share its hash (2^-64 a pair).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


class SeenKeys:
    """Hashes of keys, in runs of which each is over twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def __len__(self) -> int:
        """Return how many hashes are in it."""
        return sum(len(run) for run in self._runs)

    def missing(self, hashes: Hashes) -> Hashes:
        """Return the hashes that are not in the set, sorted and once each."""
        new = once_each(hashes)
        for run in self._runs:
            new = new[~found_in(run, new)]
        return new

    def add(self, new: Hashes) -> None:
        """Put hashes that `missing` returned into the set."""
        while self._runs and len(self._runs[-1]) <= 2 * len(new):
            # Two sorted runs one after the other are what a merge sort is fastest at.
            new = np.sort(np.concatenate([self._runs.pop(), new]), kind="stable")
        if len(new):
            self._runs.append(new)

    def discard(self, gone: Hashes) -> None:
        """Take hashes out again; where two keys share one, neither is remembered any more."""
        gone = once_each(gone)
        if len(gone):
            kept = (run[~found_in(gone, run)] for run in self._runs)
            self._runs = [run for run in kept if len(run)]


def once_each(hashes: Hashes) -> Hashes:
    """Return the hashes sorted and once each, as `np.unique` does at twelve times the cost."""
    ordered = np.sort(hashes)
    return ordered if (apart := ordered[1:] != ordered[:-1]).all() else ordered[np.append(True, apart)]


def found_in(run: Hashes, wanted: Hashes) -> npt.NDArray[np.bool_]:
    """Tell of each wanted hash whether the sorted run has it."""
    places = np.minimum(np.searchsorted(run, wanted), len(run) - 1)
    return np.asarray(run[places] == wanted)
