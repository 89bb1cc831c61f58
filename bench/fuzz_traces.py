"""Feeds odd bytes to both decoders of traces: the same rows, or the same error; ends with 1 on a difference.

Seeded: bodies of odd but valid spans, whole or with bytes changed. With atheris (`--engine atheris`) libFuzzer mutates.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from types import FunctionType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import attribute_values, request_rows
from collector import decode_traces as decode_traces_module
from collector.decode_traces import decode_traces
from collector.decoded import Decoded
from collector.errors import PermanentError
from collector.request_rows import NATIVE_ATTRIBUTES
from collector.testing import key_values
from engine_exporter import semconv

RECEIVED_US = 1_790_000_100_000_000
NAMES = [
    *(one.name for one in semconv.REQUEST_ATTRIBUTES), *NATIVE_ATTRIBUTES, "service.name", "service.instance.id",
    "host.name", "gen_ai.response.model", "exception.type", "exception.message", "gen_ai.prompt",
    "gen_ai.prompt.0.content", "telemetry.sdk.name",
    "process.pid", "process.command_args", "a", "b", "schlüssel", "", "gen_ai.response.id",
]  # fmt: skip
TEXTS = [
    "", "x", "ok", "error", "live", "batch", "12", "1.5", "true", " padded ", "naïve", "検索", "かな", "\u3000",
    "x\x85", "\x1f", "stop", "OK", "a" * 40, "b" * 16_384, "é" * 9000, "fleetmeter=1", "llm_request", "vllm.x",
]  # fmt: skip
NUMBERS = [0, 1, -1, 200, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 0.25, 12.0, 12.5, 1e300, 9.3e18, 1e-7, 0.1 + 0.2, math.nan, math.inf, -math.inf, -0.5]
TIMES = [0, 1, 946_684_800_000_000_000, 1_790_000_000_123_456_789, 1_790_000_001_000_000_001, 2**63, 2**64 - 1]


def same(one: Any, other: Any) -> bool:
    """Compare values of rows; NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (one != one and other != other)
    return bool(one == other)


def difference(body: bytes, walked: Decoded | None, received_us: int = RECEIVED_US) -> str:
    """Say where the walker's rows are not those of the reference decoder; nothing where it left the body to it."""
    if walked is None:
        return ""
    try:
        expected = decode_traces(body, received_us)
    except PermanentError as error:
        return f"the reference refuses it ({error}), the walker took it"
    if expected.rejected or expected.accepted_count != walked.accepted_count:
        return f"the reference takes {expected.accepted_count} spans, the walker {walked.accepted_count}"
    wanted, found = expected.tables, walked.tables
    if set(wanted) != set(found):
        return f"the reference fills {sorted(wanted)}, the walker {sorted(found)}"
    for table, rows in wanted.items():
        for number, (want, have) in enumerate(zip(rows.to_pylist(), found[table].to_pylist(), strict=True)):
            for name, value in want.items():
                if not same(value, have[name]):
                    return f"{table}[{number}].{name}: {value!r} expected, {have[name]!r} found"
    return ""


def some_value(choose: random.Random) -> Any:
    """A value of any kind."""
    kind = choose.random()
    if kind < 0.35:
        return choose.choice(TEXTS[:-4]) if choose.random() < 0.97 else choose.choice(TEXTS)
    if kind < 0.55:
        return choose.choice(NUMBERS) if choose.random() < 0.5 else choose.randrange(1000)
    if kind < 0.75:
        return choose.choice(FLOATS) if choose.random() < 0.5 else choose.random()
    if kind < 0.85:
        return choose.random() < 0.5
    if kind < 0.9:
        return choose.randbytes(3)
    return [some_value(choose) for _ in range(choose.randrange(3))]


def some_attributes(choose: random.Random, most: int) -> list[Any]:
    """Attributes; names come again now and then, and some values are unset."""
    picked = [choose.choice(NAMES) for _ in range(choose.randrange(most + 1))]
    if choose.random() < 0.8:
        picked = list(dict.fromkeys(picked))
    made = [pair for name in picked for pair in key_values({name: some_value(choose)})]
    for pair in made:
        if choose.random() < 0.02:
            pair.ClearField("value")
    return made


def some_span(choose: random.Random, span: Any) -> None:
    """Fill a span; most are good."""
    good = choose.random() < 0.95
    span.trace_id = choose.randbytes(16) if good else choose.randbytes(choose.randrange(18))
    span.span_id = choose.randbytes(8) if good else bytes(8)
    span.parent_span_id = choose.choice([b"", choose.randbytes(8)])
    span.name = choose.choice(["chat", "llm_request", "llm_request", "", "söker"])
    span.start_time_unix_nano = TIMES[3] if good else choose.choice(TIMES)
    span.end_time_unix_nano = choose.choice([TIMES[4], TIMES[4], choose.choice(TIMES)])
    span.kind = choose.choice([0, 1, 2, 3, 4, 5, 9])
    span.trace_state = choose.choice(["", "", "a=b", "fleetmeter=1"])
    span.flags = choose.choice([0, 257])
    span.attributes.extend(some_attributes(choose, 8))
    if choose.random() < 0.6:
        span.attributes.extend(
            key_values({semconv.OUTCOME: choose.choice(["ok", "ok", "error", "rejected", "OK", "no", True])})
        )
    if choose.random() < 0.3:
        span.status.code = choose.choice([0, 1, 2])
        span.status.message = choose.choice(["", "boom", "naïve"])
    for _ in range(choose.choice([0, 0, 0, 1, 2])):
        event = span.events.add(name=choose.choice(["exception", "exception", "other"]), time_unix_nano=TIMES[3])
        event.attributes.extend(some_attributes(choose, 3))
    if choose.random() < 0.1:
        span.links.add(trace_id=choose.randbytes(16), span_id=choose.randbytes(8)).attributes.extend(
            some_attributes(choose, 2)
        )


def some_body(choose: random.Random) -> bytes:
    """A body of a few spans under a resource or two; one in two has bytes changed."""
    request = ExportTraceServiceRequest()
    for _ in range(choose.choice([0, 1, 1, 1, 2])):
        block = request.resource_spans.add(schema_url=choose.choice(["", "u"]))
        block.resource.attributes.extend(some_attributes(choose, choose.choice([0, 2, 8])))
        for _ in range(choose.choice([1, 1, 2])):
            scope = block.scope_spans.add()
            scope.scope.name = choose.choice(["", "test", "vllm.tracing"])
            scope.scope.attributes.extend(some_attributes(choose, 1))
            for _ in range(choose.randrange(4)):
                some_span(choose, scope.spans.add())
    body = bytearray(request.SerializeToString())
    if body and choose.random() < 0.5:
        for _ in range(choose.choice([1, 1, 2, 5])):
            mutate(choose, body)
    return bytes(body)


def mutate(choose: random.Random, body: bytearray) -> None:
    """Change, cut, copy or put in some bytes."""
    at = choose.randrange(len(body) + 1)
    how = choose.randrange(4)
    if how == 0 and at < len(body):
        body[at] = choose.choice([choose.randrange(256), body[at] ^ (1 << choose.randrange(8)), 0, 255])
    elif how == 1:
        del body[at : at + choose.choice([1, 1, 3, 20])]
    elif how == 2:
        body[at:at] = body[at : at + choose.randrange(30)]
    else:
        body[at:at] = choose.randbytes(choose.choice([1, 2, 10]))


def run_seeded(seconds: float, seed: int, group: int = 8) -> int:
    """Compare until the time is over; several bodies a walk."""
    from collector.trace_walker import TraceWalker

    choose = random.Random(seed)
    walker = TraceWalker()
    bodies_count = taken = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        bodies = [some_body(choose) for _ in range(group)]
        for body, walked in zip(bodies, walker.decode([(body, RECEIVED_US) for body in bodies]), strict=True):
            bodies_count += 1
            taken += walked is not None
            if found := difference(body, walked):
                print(f"seed {seed}, body {bodies_count}: {found}\n{body.hex()}")
                return 1
    print(f"seed {seed}: {bodies_count} bodies, {taken} decoded by the walker, no difference")
    return 0


def run_atheris(seconds: float, seed: int) -> int:
    """Let libFuzzer change bodies; it ends the process by itself, with a code of its own on a difference."""
    import atheris

    from collector.trace_walker import TraceWalker

    # libFuzzer sees which branches of the reference a body takes; the walker is machine code.
    for module in (decode_traces_module, request_rows, attribute_values):
        for function in list(vars(module).values()):
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                atheris.instrument_func(function)
    walker = TraceWalker()
    walker.decode([(b"", RECEIVED_US)])
    choose = random.Random(seed)

    def change(data: bytes, most: int, number: int) -> bytes:
        return bytes(atheris.Mutate(some_body(random.Random(number)) if number % 3 == 0 else data, most))

    def compare(data: bytes) -> None:
        (walked,) = walker.decode([(data, RECEIVED_US)])
        if found := difference(data, walked):
            raise AssertionError(f"{found}\n{data.hex()}")

    arguments = [f"-max_total_time={max(1, round(seconds))}", f"-seed={choose.randrange(1, 2**31)}", "-max_len=4096"]
    atheris.Setup([sys.argv[0], *arguments], compare, custom_mutator=change)
    atheris.Fuzz()
    return 0


def main() -> int:
    """Run one engine."""
    parser = argparse.ArgumentParser(prog="python -m bench fuzz_traces", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="how long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31), help="printed at the end")
    parser.add_argument("--engine", choices=("seeded", "atheris"), default="seeded")
    asked = parser.parse_args()
    return (run_seeded if asked.engine == "seeded" else run_atheris)(asked.seconds, asked.seed)
