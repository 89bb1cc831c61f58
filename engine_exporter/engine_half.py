"""The engine's half of a request: what vLLM counted and timed, kept until the HTTP half asks for it.

vLLM's statistics classes are not a stable interface, so every field is read by name with a default. A field that a
version lacks is None, never 0.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine_exporter.step_settling import COUNTED, ESTIMATED, StepShare
from engine_exporter.vllm_steps import EngineSteps

_KEY = re.compile(r"[0-9a-f]{16,}")


def join_key(engine_request_id: str) -> str:
    """The hex digits that an engine's id is built around: 32 where they are ours, 16 or more where they are vLLM's.

    >>> join_key("cmpl-0af7651916cd43dd8448eb211c80319c-0")
    '0af7651916cd43dd8448eb211c80319c'
    >>> join_key("resp_af5de02d7e51fd21_0")
    'af5de02d7e51fd21'
    """
    match = _KEY.search(engine_request_id)
    return match.group() if match else engine_request_id


@dataclass(slots=True)  # made for every request: frozen ones take three times as long to make
class GeneratedSequence:
    """One generated sequence (one prompt, one choice) as the engine saw it."""

    request_id: str
    """The engine's id; the choices of one prompt share it."""
    finish_reason: str | None
    """stop, length, abort, error, repetition; None while it runs."""
    input_tokens: int | None
    """Prompt tokens, the cached ones included; None where prefill was not reported."""
    cached_tokens: int | None
    output_tokens: int | None
    queue_seconds: float | None
    prefill_seconds: float | None
    decode_seconds: float | None
    ttft_seconds: float | None
    """Arrival in the API process to first token."""
    preemptions_count: int | None
    adapter: str | None = None
    prompt_tokens: int | None = None
    """Length of the prompt, prefilled or not."""
    share: StepShare | None = None
    """What it had of the engine's steps."""


class Finished(NamedTuple):
    """What the plugin keeps of a finished sequence."""

    stats: Any
    """vLLM's `FinishedRequestStats`."""
    share: StepShare | None


@dataclass(slots=True)
class EngineHalf:
    """All sequences of one HTTP request together."""

    input_tokens: int | None = None
    """Prompt tokens, every prompt once, as `usage` counts them."""
    cached_tokens: int | None = None
    output_tokens: int | None = None
    prefilled_tokens: int | None = None
    """Prompt tokens as the engine counts them: once for every choice."""
    prompt_tokens: int | None = None
    """Length of the prompts, prefilled or not."""
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    preemptions_count: int | None = None
    finish_reasons: tuple[str, ...] = ()
    adapter: str | None = None
    sequences_count: int = 0
    prefill_step_seconds: float | None = None
    """Share of the engine's steps while it was prefilled; of all sequences together."""
    decode_step_seconds: float | None = None
    step_source: str | None = None
    """counted or estimated: how well the composition of those steps is known."""


def of_finished(row: Any) -> GeneratedSequence:
    """Read one `FinishedRequestStats`, or what the plugin kept of it."""
    stats, share = row if isinstance(row, Finished) else (row, None)
    decode = getattr(stats, "decode_time", None)
    e2e = getattr(stats, "e2e_latency", None)
    reason = getattr(stats, "finish_reason", None)
    prompt = getattr(stats, "num_prompt_tokens", None)
    return GeneratedSequence(
        request_id=str(getattr(stats, "request_id", "") or ""),
        finish_reason=None if reason is None else str(reason),
        input_tokens=prompt,
        cached_tokens=getattr(stats, "num_cached_tokens", None),
        output_tokens=getattr(stats, "num_generation_tokens", None),
        queue_seconds=getattr(stats, "queued_time", None),
        prefill_seconds=getattr(stats, "prefill_time", None),
        decode_seconds=decode,
        ttft_seconds=None if e2e is None or decode is None else max(e2e - decode, 0.0),
        preemptions_count=getattr(stats, "num_preemptions", None),
        prompt_tokens=prompt,
        share=share,
    )


def of_live(state: Any, share: StepShare | None = None) -> GeneratedSequence:
    """Read one live `RequestState`, as it is when the client has gone."""
    stats = getattr(state, "stats", None)
    prefilled = not getattr(state, "is_prefilling", True)
    prompt = getattr(state, "prompt_len", None)
    queued, scheduled, first, last = (
        getattr(stats, name, 0.0) for name in ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
    )
    return GeneratedSequence(
        request_id=str(getattr(state, "external_req_id", "") or getattr(state, "request_id", "")),
        finish_reason=None,
        input_tokens=prompt if prefilled else None,
        cached_tokens=getattr(state, "num_cached_tokens", None) if prefilled else None,
        output_tokens=getattr(stats, "num_generation_tokens", None),
        queue_seconds=_span(queued, scheduled),
        prefill_seconds=_span(scheduled, first),
        decode_seconds=_span(first, last),
        ttft_seconds=getattr(stats, "first_token_latency", None) or None,
        preemptions_count=getattr(stats, "num_preemptions", None),
        adapter=getattr(state, "lora_name", None),
        prompt_tokens=prompt,
        share=share,
    )


def _span(start: float, end: float) -> float | None:
    return max(end - start, 0.0) if start and end else None


def unite(finished: Sequence[GeneratedSequence], live: Sequence[GeneratedSequence] = ()) -> EngineHalf:
    """Put the sequences of one request together.

    A sequence that was seen alive and has finished since is taken once, as finished: the pair is found by id and
    counts. Tokens add up; times are those of the slowest sequence, the first token that of the fastest.

    Args:
        finished: what the stat logger was told.
        live: what was running when the client went.
    """
    waiting = [(row.request_id, row.prompt_tokens, row.output_tokens) for row in finished]
    sequences = list(finished)
    for row in live:
        pair = (row.request_id, row.prompt_tokens, row.output_tokens)
        if pair in waiting:
            waiting.remove(pair)
        else:
            sequences.append(row)
    if len(sequences) == 1:
        return _single(sequences[0])
    if not sequences:
        return EngineHalf()
    first_of_prompt: dict[str, GeneratedSequence] = {}
    for row in sequences:
        first = first_of_prompt.get(row.request_id)
        # The first choice of a prompt pays for its prefill; the others find it cached.
        if first is None or (row.cached_tokens or 0) < (first.cached_tokens or 0) or first.input_tokens is None:
            first_of_prompt[row.request_id] = row
    prompts = list(first_of_prompt.values())
    decoded = [row for row in sequences if row.decode_seconds is not None and (row.output_tokens or 0) > 1]
    steps = sum((row.output_tokens or 0) - 1 for row in decoded)
    return EngineHalf(
        input_tokens=_sum(row.input_tokens for row in prompts),
        cached_tokens=_sum(row.cached_tokens for row in prompts),
        output_tokens=_sum(row.output_tokens for row in sequences),
        prefilled_tokens=_sum(row.input_tokens for row in sequences),
        prompt_tokens=_sum(row.prompt_tokens for row in prompts),
        queue_seconds=_max(row.queue_seconds for row in sequences),
        prefill_seconds=_max(row.prefill_seconds for row in sequences),
        decode_seconds=_max(row.decode_seconds for row in sequences),
        ttft_seconds=min((row.ttft_seconds for row in sequences if row.ttft_seconds is not None), default=None),
        tpot_seconds=sum(row.decode_seconds or 0.0 for row in decoded) / steps if steps else None,
        preemptions_count=_sum(row.preemptions_count for row in sequences),
        finish_reasons=tuple(row.finish_reason for row in sequences if row.finish_reason),
        adapter=next((row.adapter for row in sequences if row.adapter), None),
        sequences_count=len(sequences),
        **_shares(sequences),
    )


def _single(row: GeneratedSequence) -> EngineHalf:
    steps = (row.output_tokens or 0) - 1
    return EngineHalf(
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        prefilled_tokens=row.input_tokens,
        prompt_tokens=row.prompt_tokens,
        queue_seconds=row.queue_seconds,
        prefill_seconds=row.prefill_seconds,
        decode_seconds=row.decode_seconds,
        ttft_seconds=row.ttft_seconds,
        tpot_seconds=row.decode_seconds / steps if steps > 0 and row.decode_seconds is not None else None,
        preemptions_count=row.preemptions_count,
        finish_reasons=(row.finish_reason,) if row.finish_reason else (),
        adapter=row.adapter,
        sequences_count=1,
        **_shares((row,)),
    )


def _shares(sequences: Sequence[GeneratedSequence]) -> dict[str, Any]:
    shares = [row.share for row in sequences if row.share is not None]
    if not shares:
        return {}
    counted = len(shares) == len(sequences) and all(share.source == COUNTED for share in shares)
    return {
        "prefill_step_seconds": sum(share.prefill_seconds for share in shares),
        "decode_step_seconds": sum(share.decode_seconds for share in shares),
        "step_source": COUNTED if counted else ESTIMATED,
    }


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _max(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


KEEP_SECONDS = 3600.0
"""How long a row waits for its HTTP half: the other sequences of its request may run on for so long."""


class FinishedRows:
    """What the stat logger was told and no HTTP half has asked for yet. Bounded: the oldest go first."""

    def __init__(self, limit: int = 4096, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._rows: OrderedDict[str, tuple[float, list[Any]]] = OrderedDict()
        self.unclaimed_count = 0
        """Rows that left unclaimed: requests that did not come through the middleware, or came too late."""

    def put(self, stats: Any, share: StepShare | None = None) -> None:
        """Keep one `FinishedRequestStats`, and what the request had of the engine's steps."""
        key = join_key(getattr(stats, "request_id", None) or "")
        if not key:  # before 0.22 the rows carry no id: nobody can ever ask for them
            self.unclaimed_count += 1
            return
        row = Finished(stats, share)
        found = self._rows.get(key)
        if found is not None:
            found[1].append(row)
            return
        now = self._now()
        self._rows[key] = (now, [row])
        while len(self._rows) > self._limit or next(iter(self._rows.values()))[0] < now - KEEP_SECONDS:
            _, (_, oldest) = self._rows.popitem(last=False)
            self.unclaimed_count += len(oldest)

    def take(self, key: str) -> list[Any]:
        """Hand out the rows of one request, once."""
        found = self._rows.pop(key, None)
        return [] if found is None else found[1]

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(slots=True)
class EngineFacts:
    """What the plugin learned about the engine when it started."""

    gpu_count: int | None = None
    steps: dict[int, EngineSteps] = field(default_factory=dict)
    """The steps of each engine (data-parallel rank) that this process is told of."""

    def share_of_gone(self, state: Any) -> StepShare | None:
        """What a broken-off request had of the steps; of several engines, of the one that had a step at its last token.

        Args:
            state: its `RequestState`.
        """
        if not self.steps:
            return None
        engines = list(self.steps.values())
        if len(engines) == 1:
            return engines[0].share_of_gone(state)
        last = float(getattr(getattr(state, "stats", None), "last_token_ts", 0.0) or 0.0)
        share = min(engines, key=lambda one: one.history.distance(last)).share_of_gone(state)
        return share._replace(source=ESTIMATED) if share is not None else None


FINISHED = FinishedRows()
"""One process, one engine client: the plugin writes here and the middleware reads."""
FACTS = EngineFacts()
