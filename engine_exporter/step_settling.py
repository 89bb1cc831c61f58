"""A request against the history of its engine's steps: what it had of them, from its own times. Pure."""

from __future__ import annotations

from typing import NamedTuple

from engine_exporter.step_history import Moment, StepHistory
from engine_exporter.step_shares import decode_seconds, prefill_seconds
from engine_exporter.vllm_step_stats import EngineLimits

COUNTED, ESTIMATED = "counted", "estimated"
"""How well the composition of a request's steps is known."""


class StepShare(NamedTuple):
    """What one sequence had of the engine's steps. Unit: s."""

    prefill_seconds: float
    decode_seconds: float
    source: str
    """counted or estimated."""


def settle(
    history: StepHistory,
    limits: EngineLimits,
    scheduled: float,
    first: float,
    last: float,
    prompt: int,
    cached: int,
    made: int,
    preemptions: int,
    *,
    finished: bool,
) -> StepShare | None:
    """What one sequence had of the steps; None where its steps are not kept.

    Args:
        history: of the engine that ran it.
        limits: of that engine.
        scheduled: when it was first scheduled. Unit: s of the engine's monotonic clock, as the next two.
        first: its first token.
        last: its last token.
        prompt: tokens of its prompt.
        cached: those of them that were found in the cache.
        made: tokens generated.
        preemptions: how often it was sent back to the queue.
        finished: it did so in the last step of the history; else its last step is known by its time alone.
    """
    at_last, newest = history.nearest(last), len(history) - 1
    if at_last <= 0:  # before the first step that was seen, or before those that are kept
        return None
    at_first = history.first_token_nearest(first, (at_last - 1 if made > 1 else at_last) if finished else newest)
    if not finished:  # its steps were told of later than they ended: the last one at most as late as the first
        latest = history[history.nearest(last + history[at_first].at - first)].at
        at_last = max(at_last, min(history.before(latest), at_first + made - 1))
    moment = history[at_first]
    steps = at_last - at_first
    decode = 0.0
    if made > 1 and steps > 0:
        extra = max(made - 1 - steps, 0) / 2  # several tokens a step: the context grows faster
        decode = decode_seconds(moment.mark, history[at_last].mark, prompt + extra)
        if steps > made - 1:  # it was out of the batch for some
            decode *= (made - 1) / steps
    prefill = _prefill(history, limits, scheduled, at_first, moment, max(prompt - cached, 0))
    counted = limits.processes == 1 and not preemptions and prefill is not None
    return StepShare(prefill or 0.0, decode, COUNTED if counted else ESTIMATED)


def _prefill(
    history: StepHistory,
    limits: EngineLimits,
    scheduled: float,
    at_first: int,
    moment: Moment,
    computed: int,
) -> float | None:
    if at_first == 0:  # its step is older than those that are kept
        return None
    before = history[at_first - 1]
    if limits.processes > 1:
        return _among(before, moment, computed)
    start = history.before(scheduled)
    if limits.asynchronous and 0 <= start < at_first - 1 and history[start + 1].busy:
        start += 1  # the step under way when it was scheduled had been put together before
    earlier = seconds = 0.0
    if start < at_first - 1:
        origin = history[max(start, 0)]
        chunks = before.chunk_tokens - origin.chunk_tokens
        if chunks > 0.0:
            earlier = min(chunks, max(computed - 1, 0))
            seconds = (before.chunk_seconds - origin.chunk_seconds) * earlier / chunks
    rest = computed - earlier
    return seconds + prefill_seconds(before.mark, moment.mark, rest, moment.position)


def _among(before: Moment, moment: Moment, computed: int) -> float:
    """As above with several processes: what did not fit into the last step was prefilled before it."""
    chunks = moment.chunk_tokens - before.chunk_tokens
    earlier = min(chunks, float(max(computed - 1, 0)))
    seconds = (moment.chunk_seconds - before.chunk_seconds) * earlier / chunks if chunks > 0.0 else 0.0
    rest = computed - earlier
    return seconds + prefill_seconds(before.mark, moment.mark, rest, moment.position)
