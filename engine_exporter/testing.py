"""Published doubles: vLLM's front end without an engine, and an exporter that keeps its spans in a list.

The double keeps to what vLLM 0.32.0 was seen to do: which ids it gives, when it records a finished request, what a
stream's chunks look like, what it answers to errors, and what is left readable when a client goes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from engine_exporter.api_keys import ApiKeys
from engine_exporter.config import ExporterConfig
from engine_exporter.exporter import Exporter, jwt_claims
from engine_exporter.span_queue import SpanQueue
from engine_exporter.vllm_stats import FleetmeterStatLogger

PROMPT_TOKENS = 40
CACHED_TOKENS = 32


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """The time now, seconds."""
        return self.seconds

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def unix_ns(self) -> int:
        """A wall clock that keeps step."""
        return int(self.seconds * 1e9) + 1_700_000_000_000_000_000


class KeptSpans(SpanExporter):
    """Takes spans into a list; can be told to fail or to hang."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep them, or fail like a collector that is down."""
        if self.down:
            return SpanExportResult.FAILURE
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open."""


class ListQueue(SpanQueue):
    """A queue without a thread: spans are in `spans` at once."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.lost = 0
        self.overflow_count = 0
        self.late_count = 0
        self.offered_count = 0

    @property
    def sent_count(self) -> int:
        """All of them."""
        return len(self.spans)

    @property
    def failed_count(self) -> int:
        """None ever fails."""
        return 0

    @property
    def queued_count(self) -> int:
        """None ever waits."""
        return 0

    @property
    def dropped_count(self) -> int:
        """What the test says."""
        return self.lost

    def offer(self, span: ReadableSpan) -> bool:
        """Keep it."""
        self.spans.append(span)
        return True

    def close(self, timeout_seconds: float) -> None:
        """Nothing is open."""


@dataclass
class Bench:
    """An exporter whose spans can be read, and the clock that it uses."""

    exporter: Exporter
    clock: Clock
    queue: ListQueue

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The attributes of the spans so far."""
        return [dict(span.attributes or {}) for span in self.queue.spans]

    @property
    def row(self) -> dict[str, Any]:
        """The attributes of the one span."""
        (row,) = self.rows
        return row


def exporter_for_tests(api_keys_file: Path | None = None, **config: Any) -> Bench:
    """Build an exporter with a clock that stands still, ids that count, and a list for a collector."""
    clock, queue, numbers = Clock(), ListQueue(), itertools.count(1)
    settings = ExporterConfig(replica="replica-0", **config)
    exporter = Exporter(
        settings,
        ApiKeys(api_keys_file),
        queue,
        tokens=jwt_claims(settings),
        monotonic=clock,
        unix_ns=clock.unix_ns,
        random_bits=lambda _: next(numbers),
        waiting_limit=0,
    )
    return Bench(exporter, clock, queue)


@dataclass
class Reply:
    """How the double answers."""

    chunks: int = 4
    """Tokens of a stream, one a chunk."""
    first_seconds: float = 0.5
    gap_seconds: float = 0.1
    sequences: int = 1
    """Prompts times choices."""
    status: int = 200
    error: dict[str, Any] | None = None
    """Body of a refusal, or of an error inside a stream."""
    error_after: int | None = None
    """Chunks before an error inside a stream."""
    raises: BaseException | None = None
    hold_after: int | None = None
    """Chunks after which the answer waits until it is cancelled: the client goes then."""
    engine_dies: bool = False
    records: bool = True
    """False: no stat-logger plugin is loaded."""
    opening: tuple[bytes, ...] = ()
    """Chunks before the first token, as /v1/responses has them."""
    usage: Any = None


@dataclass
class FakeVllm:
    """An ASGI application that behaves like vLLM's front end."""

    bench: Bench
    reply: Reply = field(default_factory=Reply)
    adapters: tuple[str, ...] = ("adapter-polite",)
    config: Any = None
    """vLLM's configuration, which the plugin is given."""

    def __post_init__(self) -> None:
        exporter = self.bench.exporter
        self.plugin = FleetmeterStatLogger(self.config, finished=exporter.finished, facts=exporter.facts)
        self.processor = SimpleNamespace(external_req_ids=defaultdict(list), request_states={})
        self.engine = SimpleNamespace(output_processor=self.processor, errored=False)
        models = SimpleNamespace(
            base_model_paths=[SimpleNamespace(name="base"), SimpleNamespace(name="alias")],
            lora_requests=dict.fromkeys(self.adapters),
        )
        self.state = SimpleNamespace(engine_client=self.engine, openai_serving_models=models)
        self.scopes: list[Any] = []
        self.closed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request as `reply` says."""
        self.scopes.append(scope)
        if scope["type"] != "http":
            await send({"type": f"{scope['type']}.shutdown.complete"})
            return
        reply = self.reply
        if reply.status == 401:  # vLLM refuses a key before it reads the body
            await self._refuse(send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if reply.raises is not None:
            self.engine.errored = reply.engine_dies
            raise reply.raises
        if reply.status != 200:
            self.engine.errored = reply.engine_dies
            await self._refuse(send)
            return
        headers = dict(scope["headers"])
        name = f"chatcmpl-{headers.get(b'x-request-id', b'0123456789abcdef').decode()}"
        scope.setdefault("state", {})["request_metadata"] = SimpleNamespace(
            request_id=name, final_usage_info=reply.usage
        )
        states = self._add(name)
        answer = asyncio.ensure_future(self._answer(self._parse(body), states, send))
        gone = asyncio.ensure_future(self._wait_gone(receive))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
            self._abort(states)
        if answer.done() and not answer.cancelled() and (error := answer.exception()):
            raise error

    def _parse(self, body: bytes) -> dict[str, Any]:
        return dict(json.loads(body or b"{}"))

    async def _wait_gone(self, receive: Callable[[], Awaitable[Any]]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _refuse(self, send: Any) -> None:
        body = json.dumps(self.reply.error or {"error": "Unauthorized"}).encode()
        await send({"type": "http.response.start", "status": self.reply.status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def _add(self, name: str) -> list[Any]:
        states = []
        for index in range(self.reply.sequences):
            stats = SimpleNamespace(
                num_generation_tokens=0, num_preemptions=0, queued_ts=10.0, scheduled_ts=10.1,
                first_token_ts=0.0, last_token_ts=0.0, first_token_latency=0.0,
            )  # fmt: skip
            state = SimpleNamespace(
                request_id=f"{index}_{name}", external_req_id=name, prompt_len=PROMPT_TOKENS, is_prefilling=True,
                num_cached_tokens=0, lora_name=None, stats=stats,
            )  # fmt: skip
            self.processor.request_states[state.request_id] = state
            self.processor.external_req_ids[name].append(state.request_id)
            states.append(state)
        return states

    def _step(self, states: list[Any]) -> None:
        """One engine step: a token for every sequence."""
        for state in states:
            state.is_prefilling, state.num_cached_tokens = False, CACHED_TOKENS
            state.stats.num_generation_tokens += 1
            state.stats.first_token_ts = state.stats.first_token_ts or 10.5
            state.stats.last_token_ts = 10.4 + 0.1 * state.stats.num_generation_tokens

    def _finish(self, states: list[Any]) -> None:
        finished = [
            SimpleNamespace(
                request_id=state.external_req_id, finish_reason="stop", e2e_latency=1.0, queued_time=0.1,
                prefill_time=0.4, decode_time=0.1 * (state.stats.num_generation_tokens - 1),
                num_prompt_tokens=PROMPT_TOKENS, num_cached_tokens=CACHED_TOKENS,
                num_generation_tokens=state.stats.num_generation_tokens, num_preemptions=1,
            )
            for state in states
        ]  # fmt: skip
        self._abort(states)
        if self.reply.records:
            self.plugin.record(None, SimpleNamespace(finished_requests=finished), mm_cache_stats=None, engine_idx=0)

    def _abort(self, states: list[Any]) -> None:
        for state in states:
            self.processor.request_states.pop(state.request_id, None)
            self.processor.external_req_ids.pop(state.external_req_id, None)

    async def _answer(self, asked: dict[str, Any], states: list[Any], send: Any) -> None:
        reply, clock = self.reply, self.bench.clock
        stream = asked.get("stream") is True
        if stream:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for chunk in reply.opening:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        for index in range(reply.chunks):
            if reply.error_after == index:
                await self._break(send)
                return
            if reply.hold_after == index:
                self.closed.set()
                await asyncio.Event().wait()
            clock.pass_(reply.gap_seconds if index else reply.first_seconds)
            self._step(states)
            if index == reply.chunks - 1:
                self._finish(states)
            if stream:
                chunk = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
                if reply.opening:
                    chunk = b"event: response.output_text.delta\n" + chunk
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if stream:
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    async def _break(self, send: Any) -> None:
        self.engine.errored = self.reply.engine_dies
        chunk = b"data: " + json.dumps(self.reply.error).encode() + b"\n\n"
        for body in (chunk, b"data: [DONE]\n\n"):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Answer:
    """What came back to the double's client."""

    status: int | None = None
    body: bytes = b""


async def post(
    app: Any,
    path: str = "/v1/chat/completions",
    body: dict[str, Any] | bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    leave: asyncio.Event | None = None,
    method: str = "POST",
    root_path: str = "",
    client: tuple[str, int] | None = ("127.0.0.1", 50_000),
) -> Answer:
    """Send one request through an ASGI application, as a server would.

    Args:
        app: the application, or a middleware around it.
        path: the route.
        body: an object for JSON, or bytes.
        headers: request headers.
        leave: the client goes when it is set; None: it stays.
        method: the HTTP method.
        root_path: prefix under which the server is mounted.
        client: address and port that the request comes from.
    """
    raw = body if isinstance(body, bytes) else json.dumps(body or {"model": "base"}).encode()
    half = len(raw) // 2
    messages = [
        {"type": "http.request", "body": raw[:half], "more_body": True},
        {"type": "http.request", "body": raw[half:], "more_body": False},
    ]
    answer, complete = Answer(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        waits = [asyncio.ensure_future(event.wait()) for event in (complete, leave) if event]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body"):
                complete.set()

    scope = {
        "type": "http",
        "app": getattr(app, "app", app),
        "method": method,
        "path": path,
        "root_path": root_path,
        "server": ("127.0.0.1", 8000),
        "client": client,
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    await app(scope, receive, send)
    return answer
