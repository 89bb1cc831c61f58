"""What each piece of an hour weighs under a method, compiled; whole numbers, of which only ratios matter.

Where the data of a method lacks for a piece, the piece weighs what its tokens weigh, at the rate at which the pieces
that have the data exchange tokens for weight. Queue time weighs nothing under any method.
"""

from __future__ import annotations

import numpy as np

from analytics.allocation.exact import MOST_WEIGHT, multiply_divide
from analytics.allocation.layout import (
    AUTO,
    KV_TOKEN_SECONDS,
    PHASE_TIME,
    PHASES_KNOWN,
    SHAPLEY,
    STEP_SHARE,
    STEPS_KNOWN,
    TOKENS,
    compiled,
)
from analytics.allocation.phases import phase_weights
from analytics.allocation.pieces import whole_us

MOST_PRODUCT = float(1 << 55)


@compiled
def portion(whole, start, stop, p):  # type: ignore[no-untyped-def]
    """The part of `whole`, spread evenly from start to stop, that lies in the piece; all pieces sum to the whole."""
    if start >= stop:  # a moment: it belongs to one piece
        at = min(start, p.end - 1) if p.end > p.begin else start
        return whole if p.lo <= at < p.hi or p.begin == p.end else 0
    if p.lo <= start and stop <= p.hi:
        return whole
    low, high, length = min(max(p.lo, start), stop) - start, min(max(p.hi, start), stop) - start, stop - start
    return multiply_divide(whole, high, length)[0] - multiply_divide(whole, low, length)[0]


@compiled
def token_weights(p, weigh):  # type: ignore[no-untyped-def]
    """Weights by tokens: a prompt's over its prefill, an output's over its decoding, where those are known."""
    known = p.flags & PHASES_KNOWN != 0
    first, then = (p.first, p.first) if known else (p.end, p.begin)
    return (
        portion((p.prompt - p.cached) * weigh[0], p.begin, first, p),
        portion(p.cached * weigh[1], p.begin, first, p),
        portion(p.made * weigh[2], then, p.end, p),
    )


@compiled
def bounded_product(tokens, milliseconds):  # type: ignore[no-untyped-def]
    """tokens * milliseconds, at most 2**55."""
    if float(tokens) * float(milliseconds) >= MOST_PRODUCT:
        return np.int64(MOST_PRODUCT)
    return tokens * milliseconds


@compiled
def kv_weights(p):  # type: ignore[no-untyped-def]
    """Token-milliseconds of KV cache: the prompt's for as long as it runs, an output token's from when it is made."""
    known = p.flags & PHASES_KNOWN != 0
    all_ms = (p.end - p.begin) // 1000
    decode_ms = (p.end - p.first) // 1000 if known else all_ms
    then = p.first if known else p.begin
    return (
        portion(bounded_product(p.prompt - p.cached, all_ms), p.begin, p.end, p),
        portion(bounded_product(p.cached, all_ms), p.begin, p.end, p),
        portion(bounded_product(p.made, decode_ms) // 2, then, p.end, p),
    )


@compiled
def step_weights(p):  # type: ignore[no-untyped-def]
    """Measured shares of engine steps, in µs: that of prefill over its phase, that of decoding over the rest."""
    known = p.flags & PHASES_KNOWN != 0
    first, then = (p.first, p.first) if known else (p.end, p.begin)
    return (
        portion(whole_us(p.prefill_steps), p.begin, first, p),
        0,
        portion(whole_us(p.decode_steps), then, p.end, p),
    )


@compiled
def best_method(piece, weigh):  # type: ignore[no-untyped-def]
    """The best method for which nine tenths of the hour's token weight have the data."""
    total, steps, phases, any_steps, any_phases = 0.0, 0.0, 0.0, False, False
    for k in range(piece.shape[0]):
        p = piece[k]
        if p.input_weight < 0:
            continue
        weight = float((p.prompt - p.cached) * weigh[0] + p.cached * weigh[1] + p.made * weigh[2])
        total += weight
        if p.flags & STEPS_KNOWN:
            any_steps = True
            steps += weight
        if p.flags & PHASES_KNOWN:
            any_phases = True
            phases += weight
    if any_steps and steps >= 0.9 * total:
        return STEP_SHARE
    if any_phases and phases >= 0.9 * total:
        return PHASE_TIME
    return TOKENS


@compiled
def fill_in(piece, weigh, needed):  # type: ignore[no-untyped-def]
    """Weigh the pieces that lack the data by tokens, at the exchange rate of those that have it."""
    known, tokens, lacking = 0, 0, False
    for k in range(piece.shape[0]):
        p = piece[k]
        if p.input_weight < 0:
            continue
        if p.flags & needed == 0:
            lacking = True
            continue
        i, c, o = token_weights(p, weigh)
        known = min(known + p.input_weight + p.cached_weight + p.output_weight, MOST_WEIGHT)
        tokens = min(tokens + i + c + o, MOST_WEIGHT)
    if not lacking:
        return
    for k in range(piece.shape[0]):
        p = piece[k]
        if p.input_weight < 0 or p.flags & needed != 0:
            continue
        i, c, o = token_weights(p, weigh)
        if tokens > 0 and known > 0 and float(max(i, c, o)) / tokens * known < MOST_PRODUCT:
            i, c, o = (
                multiply_divide(known, i, tokens)[0],
                multiply_divide(known, c, tokens)[0],
                multiply_divide(known, o, tokens)[0],
            )
        p.input_weight, p.cached_weight, p.output_weight = i, c, o


@compiled
def weigh_pieces(piece, hour_at, method, weigh, packed, teams_count, team):  # type: ignore[no-untyped-def]
    """Fill in the weights of a cell's pieces; return the method that was taken and the sum of the weights."""
    if method == AUTO:
        method = best_method(piece, weigh)
    needed = 0
    if method in (PHASE_TIME, SHAPLEY):
        needed = PHASES_KNOWN
        phase_weights(piece, hour_at, packed, method == SHAPLEY, teams_count, team)
    elif method == STEP_SHARE:
        needed = STEPS_KNOWN
    for k in range(piece.shape[0]):
        p = piece[k]
        if p.input_weight < 0:
            continue
        if method == TOKENS:
            p.input_weight, p.cached_weight, p.output_weight = token_weights(p, weigh)
        elif method == KV_TOKEN_SECONDS:
            p.input_weight, p.cached_weight, p.output_weight = kv_weights(p)
        elif method == STEP_SHARE and p.flags & STEPS_KNOWN != 0:
            p.input_weight, p.cached_weight, p.output_weight = step_weights(p)
    if needed != 0:
        fill_in(piece, weigh, needed)
    return method, sum_weights(piece)


@compiled
def sum_weights(piece):  # type: ignore[no-untyped-def]
    """The sum of a cell's weights; where it is beyond bounds, all are shifted down first. Who never ran weighs 0."""
    about = 0.0
    for k in range(piece.shape[0]):
        p = piece[k]
        if p.input_weight < 0:
            p.input_weight = 0
        about += float(p.input_weight) + float(p.cached_weight) + float(p.output_weight)
    shift = 0
    while about >= MOST_WEIGHT:
        about *= 0.5
        shift += 1
    total = 0
    for k in range(piece.shape[0]):
        p = piece[k]
        if shift:
            p.input_weight >>= shift
            p.cached_weight >>= shift
            p.output_weight >>= shift
        total += p.input_weight + p.cached_weight + p.output_weight
    return total
