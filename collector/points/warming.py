"""Compiles or loads every walker, by walking a small body of each kind."""

from __future__ import annotations

import numpy as np

from collector.point_decoding import Walkers
from collector.points.marks import Marks
from collector.points.otlp import OtlpWalker, walker
from collector.points.page_layouts import read_layout, values_of
from collector.points.page_plans import page_plans
from collector.points.remote_write import FirstWalker, SecondWalker, walk_write

NOW_US = 1_790_000_000_000_000


def compiled_walkers() -> Walkers:
    """Return the decoders, ready."""
    for one in (FirstWalker(), SecondWalker(), OtlpWalker()):
        one.decode(b"", NOW_US)
    marks, none = Marks(), np.zeros(0, np.int64)
    marks.advance(none, none)
    marks.missing(none)
    layout = read_layout(b"a 1\n")
    values_of(layout, b"a 1\n")
    return Walkers(walk_write, walker().decode, page_plans().decode_planned)
