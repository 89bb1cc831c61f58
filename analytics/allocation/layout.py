"""How the compiled allocation lays out its state: the pieces that requests are cut into by hour, and its names."""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""The decorator of every compiled function of this package but its entry point; they cannot be called from Python."""

HOUR = 3_600_000_000
"""Microseconds of an hour."""

TOKENS, PHASE_TIME, KV_TOKEN_SECONDS, STEP_SHARE, SHAPLEY = 0, 1, 2, 3, 4
AUTO = 5
"""Methods, as the compiled code numbers them; AUTO takes the best that an hour's data allows."""
METHODS = ("tokens", "phase_time", "kv_token_seconds", "step_share", "shapley", "auto")
"""Names of the methods, in the order of their numbers."""

STATE_OK, STATE_FAILED, STATE_NEVER_RAN = 0, 1, 2
"""What became of a request: it was answered; it ran and failed; it never came into the engine."""

NONE_KNOWN, PHASES_KNOWN, STEPS_KNOWN, ENTERS = 0, 1, 2, 4
"""Flags of a piece: the moment of its first token, its shares of engine steps, and that it enters the engine here."""

PIECE = np.dtype(
    [
        # when: the part in this hour, and the whole request's time in the engine; µs after the chunk's start
        ("lo", "i8"), ("hi", "i8"), ("begin", "i8"), ("first", "i8"), ("end", "i8"),
        # what the request did in all: tokens, and its share of engine steps in s
        ("prompt", "i8"), ("cached", "i8"), ("made", "i8"), ("prefill_steps", "f8"), ("decode_steps", "f8"),
        # its row, its entry's key, flags, preemptions, and its place among those that are equal to it
        ("row", "i8"), ("key", "i8"), ("flags", "i4"), ("preemptions", "i4"), ("tie", "i8"),
        # the weights of this piece: computed prompt, cached prompt, output
        ("input_weight", "i8"), ("cached_weight", "i8"), ("output_weight", "i8"),
        # the amounts of this piece: the same three, and how much of the first paid for work done again
        ("input_units", "i8"), ("cached_units", "i8"), ("output_units", "i8"), ("redone_units", "i8"),
    ]
)  # fmt: skip
"""One request in one hour of its replica."""

FIELDS = (
    "input_units", "cached_units", "output_units", "redone_units", "saved_units", "requests_count", "input_tokens",
    "cached_tokens", "output_tokens",
)  # fmt: skip
"""What is summed up by (method, key)."""
INPUT, CACHED, OUTPUT, REDONE, SAVED, REQUESTS, INPUT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS = range(9)

CELL = np.dtype(
    [
        # given: the bill of the cell, and how much of the hour is billed
        ("bill_units", "i8"), ("billed_us", "i8"), ("billed", "i8"),
        # found: microseconds and units by what they went to, and the method
        ("busy_us", "i8"), ("busy_units", "i8"), ("fault_units", "i8"), ("cold_start_units", "i8"),
        ("idle_units", "i8"), ("unweighed_units", "i8"), ("method", "i8"), ("pieces", "i8"), ("ambiguous", "i8"),
    ]
)  # fmt: skip
"""One replica in one hour. `billed` is 0 where the replica has no bill then: its requests are left out."""
FAULT, COLD_START = 0, 1
OUTAGE = np.dtype([("cell", "i8"), ("lo", "i8"), ("hi", "i8"), ("kind", "i8")])
"""A stretch of a cell in which its replica was down or loading; µs after the chunk's start, disjoint, by cell."""
