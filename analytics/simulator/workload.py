"""What is asked of the fleet: each stream's turns, drawn day by day, and their prompts as chains of shared segments."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from analytics.simulator import incidents
from analytics.simulator.arrivals import cycle_rate, day_arrivals, day_of, random_of, start_of
from analytics.simulator.config import FleetConfig, LengthConfig, ModelConfig, StreamConfig
from analytics.simulator.traces import TraceRequests, read_trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

TURNS_MOST = 40
FOREVER_SECONDS = 1e12


class Ending(IntEnum):
    """How a request is going to end if nothing else happens to it."""

    STOP = 0
    LENGTH = 1
    DISCONNECT = 2
    ERROR = 3
    REJECTED = 4


@dataclass(frozen=True)
class Turns:
    """Requests, one element of each array a request."""

    at: Floats
    """Arrival. Unit: s after the origin of the simulation."""
    stream: Ints
    """Index into the configuration's streams."""
    prompt: Ints
    """Prompt tokens, all of them."""
    output: Ints
    """Tokens generated before it ends as `ending` says."""
    ending: Ints
    """An `Ending`."""
    patience: Floats
    """How long the client waits in the queue. Unit: s."""
    user: Ints
    """End user within the stream."""
    conversation: Ints
    """Conversation within (stream, day); unique with `day`."""
    day: Ints
    """Day on which the conversation began."""
    shared: Ints
    """Tokens of the stream's common prefix."""
    history: Ints
    """Tokens of the conversation so far, after the common prefix."""
    ids: Bytes
    """24 random bytes: trace id and span id. Shape (n, 24)."""

    def take(self, which: npt.NDArray[np.bool_] | Ints) -> Turns:
        """Some of the requests."""
        return Turns(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


@dataclass(frozen=True)
class Workload:
    """The requests of one deployment, in order of arrival, with their chains (see `layout.LINK`)."""

    turns: Turns
    chain_from: Ints
    chain_segment: Ints
    chain_end: Ints
    segments: int


def join(parts: list[Turns]) -> Turns:
    """Concatenate; at least one part."""
    return Turns(**{field.name: np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Turns)})


def draw_lengths(rng: np.random.Generator, length: LengthConfig, count: int) -> Ints:
    """Lognormal counts of tokens, from 1 to `most`."""
    drawn = length.median * np.exp(length.sigma * rng.standard_normal(count))
    return np.clip(np.rint(drawn), 1, length.most).astype(np.int64)


def stream_key(config: FleetConfig, index: int) -> tuple[object, ...]:
    """What a stream's draws are keyed by: its names, and which of several alike it is."""
    s = config.streams[index]
    alike = sum((o.team, o.app, o.model) == (s.team, s.app, s.model) for o in config.streams[:index])
    return (s.team, s.app, s.model, alike)


def draw_day(config: FleetConfig, index: int, seed: int, day: int, window: incidents.Clock) -> Turns:
    """Every turn of the conversations that begin on one day in one stream."""
    stream = config.streams[index]
    rng = random_of(seed, "turns", *stream_key(config, index), day)
    offset = (start_of(day) - window.origin).total_seconds()
    per_second = stream.requests_per_day / 86_400.0 / stream.turns_mean

    def rate(seconds: Floats) -> Floats:
        spike = incidents.rate_factor(config, stream, seconds + offset, window)
        return per_second * cycle_rate(stream.cycle, day, seconds, window.shift_seconds) * spike

    starts = day_arrivals(rng, stream.arrival, stream.cv, rate) + offset
    turns = np.minimum(rng.geometric(1.0 / stream.turns_mean, starts.size), TURNS_MOST)
    first = np.repeat(np.cumsum(turns) - turns, turns)
    conversation = np.repeat(np.arange(starts.size), turns)
    count = int(turns.sum())
    think = stream.think_seconds * np.exp(0.8 * rng.standard_normal(count))
    think[np.arange(count) == first] = 0.0
    passed = np.cumsum(think)
    at = np.repeat(starts, turns) + (passed - passed[first] if count else passed)
    asked = draw_lengths(rng, stream.prompt, count)
    answered = draw_lengths(rng, stream.output, count)
    longer = np.rint(answered * incidents.output_factor(config, stream, at, window)).astype(np.int64)
    answered = np.clip(longer, 1, stream.output.most)
    said = np.cumsum(asked + answered)
    before = said - asked - answered
    history = before - before[first] if count else before
    user = np.repeat(rng.zipf(1.6, starts.size) % stream.users, turns)
    drawn = Turns(
        at=at, stream=np.full(count, index), prompt=stream.shared_prefix_tokens + history + asked, output=answered,
        ending=np.where(answered >= stream.output.most, Ending.LENGTH, Ending.STOP).astype(np.int64),
        patience=stream.patience_seconds * np.exp(0.5 * rng.standard_normal(count)),
        user=user, conversation=conversation, day=np.full(count, day),
        shared=np.full(count, stream.shared_prefix_tokens), history=history,
        ids=rng.integers(0, 256, (count, 24), dtype=np.uint8),
    )  # fmt: skip
    return break_off(drawn, stream, rng)


def break_off(turns: Turns, stream: StreamConfig, rng: np.random.Generator) -> Turns:
    """Let some requests be refused, fail, or lose their client in the middle of the answer."""
    count = turns.at.size
    luck, part = rng.random(count), rng.random(count)
    refused = luck < stream.rejected_ratio
    failing = ~refused & (luck < stream.rejected_ratio + stream.error_ratio)
    leaving = luck > 1.0 - stream.disconnect_ratio
    ending = turns.ending.copy()
    ending[refused], ending[failing], ending[leaving] = Ending.REJECTED, Ending.ERROR, Ending.DISCONNECT
    broken = failing | leaving
    output = np.where(broken, np.maximum((turns.output * part).astype(np.int64), 1), turns.output)
    changed = {field.name: getattr(turns, field.name) for field in fields(turns)}
    return Turns(**{**changed, "ending": ending, "output": output})


def trace_turns(config: FleetConfig, index: int, seed: int, window: incidents.Clock) -> tuple[Turns, TraceRequests]:
    """The requests of a stream that plays a trace, and the trace's prefix blocks."""
    stream = config.streams[index]
    assert stream.trace is not None
    rng = random_of(seed, "trace", *stream_key(config, index))
    length = (window.end - window.start).total_seconds()
    trace = read_trace(stream.trace, length, rng)
    count = trace.at.size
    at = trace.at + (window.start - window.origin).total_seconds()
    factor = incidents.output_factor(config, stream, at, window)
    turns = Turns(
        at=at, stream=np.full(count, index), prompt=np.maximum(trace.input_tokens, 1),
        output=np.maximum(np.rint(trace.output_tokens * factor).astype(np.int64), 1),
        ending=np.full(count, Ending.STOP, np.int64),
        patience=stream.patience_seconds * np.exp(0.5 * rng.standard_normal(count)),
        user=rng.zipf(1.6, count) % stream.users, conversation=np.arange(count), day=np.zeros(count, np.int64),
        shared=np.minimum(stream.shared_prefix_tokens, np.maximum(trace.input_tokens - 1, 0)),
        history=np.zeros(count, np.int64), ids=rng.integers(0, 256, (count, 24), dtype=np.uint8),
    )  # fmt: skip
    return break_off(turns, stream, rng), trace


def draw_workload(config: FleetConfig, model: ModelConfig, seed: int, window: incidents.Clock, room: int) -> Workload:
    """All requests of one deployment that arrive in the window.

    Args:
        config: The fleet.
        model: The deployment.
        seed: The seed of the simulation.
        window: Origin, start and end.
        room: Prompt and output together never exceed it. Unit: tokens.
    """
    parts, blocks = [], {}
    for index, stream in enumerate(config.streams):
        if stream.model != model.model:
            continue
        if stream.trace is not None:
            turns, trace = trace_turns(config, index, seed, window)
            parts.append(turns)
            blocks[index] = trace
        else:
            days = range(day_of(window.start), day_of(window.end) + 1)
            parts += [draw_day(config, index, seed, day, window) for day in days]
    if not parts:
        return Workload(_nothing(), np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    turns = join(parts)
    start, end = window.seconds(window.start), window.seconds(window.end)
    turns = turns.take((turns.at >= start) & (turns.at < end) & (turns.prompt < room))
    turns = turns.take(np.argsort(turns.at, kind="stable"))
    cut = turns.output > room - turns.prompt
    turns.output[cut] = room - turns.prompt[cut]
    turns.ending[cut & (turns.ending == Ending.STOP)] = Ending.LENGTH
    return chain(config, turns, blocks, window)


def chain(config: FleetConfig, turns: Turns, traces: dict[int, TraceRequests], window: incidents.Clock) -> Workload:
    """Write each prompt as a chain: the stream's common prefix, a trace's blocks, the conversation's own segment."""
    count = turns.at.size
    broken = incidents.prefix_broken(config, turns.stream, turns.at, window)
    shared_of = turns.stream
    key = np.stack([turns.stream, turns.day, turns.conversation], axis=1)
    _, conversation = np.unique(key, axis=0, return_inverse=True) if count else (None, np.zeros(0, np.int64))
    conversation = conversation.reshape(-1)
    base = len(config.streams)
    own = base + conversation
    segments = base + (int(conversation.max()) + 1 if count else 0)
    alone = np.flatnonzero(broken)
    own[alone] = segments + np.arange(alone.size)
    segments += alone.size
    shared_end = np.where(broken, 0, turns.shared)
    own_end = np.where(broken, 0, turns.shared + turns.history)
    extra = np.zeros(count, np.int64)
    for index, trace in traces.items():
        mine = (turns.stream == index) & ~broken
        extra[mine] = trace.block_counts[turns.conversation[mine]]
    chain_from = np.concatenate([[0], np.cumsum(2 + extra)])
    chain_segment, chain_end = np.zeros(chain_from[-1], np.int64), np.zeros(chain_from[-1], np.int64)
    chain_segment[chain_from[:-1]], chain_end[chain_from[:-1]] = shared_of, shared_end
    for index, trace in traces.items():
        mine = np.flatnonzero((turns.stream == index) & (extra > 0))
        for i in mine:
            ids, size = trace.blocks_of(int(turns.conversation[i])), trace.block_tokens
            at = chain_from[i] + 1
            chain_segment[at : at + ids.size] = segments + ids
            chain_end[at : at + ids.size] = np.minimum(np.arange(1, ids.size + 1) * size, turns.prompt[i])
            own_end[i] = chain_end[at + ids.size - 1]
        segments += trace.distinct_blocks
    chain_segment[chain_from[1:] - 1], chain_end[chain_from[1:] - 1] = own, own_end
    return Workload(turns, chain_from, chain_segment, chain_end, segments)


def _nothing() -> Turns:
    empty, none = np.zeros(0), np.zeros(0, np.int64)
    return Turns(at=empty, stream=none, prompt=none, output=none, ending=none, patience=empty, user=none,
                 conversation=none, day=none, shared=none, history=none, ids=np.zeros((0, 24), np.uint8))  # fmt: skip
