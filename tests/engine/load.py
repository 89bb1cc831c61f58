"""A mixed load of four teams on one vLLM server, seeded, and what its clients saw.

support: streamed chats behind one long system prompt; some polite adapter.  search: short completions, not streamed,
often.  agents: conversations that grow turn by turn, streamed, some broken off.  evals: every endpoint there is, with
choices and several prompts, streamed or not (not part of `plan`).  And what goes wrong in life: unknown models,
prompts that are too long, wrong keys, bad values, clients that leave.
"""

import asyncio
import itertools
import json
import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MODEL = "tiny-qwen3"
PLANNED = ("support", "search", "agents")
TEAMS = {"support": "helpdesk", "search": "ranker", "agents": "coder", "evals": "judge"}
KEYS = {team: f"sk-{team}-0123456789abcdef" for team in TEAMS}
ADAPTERS = ("adapter-polite", "adapter-terse")
WORDS = tuple(
    """return class import value index string error object method module file path name type list number call test
    default function argument result raise thread buffer socket parser token frame stack line code time date event
    queue lock signal process signature handler request answer cache block prefix batch step node edge graph tree
    """.split()  # noqa: SIM905
)
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ENDS = ("response.completed", "response.incomplete", "message_stop")
"""How the last event of /v1/responses and /v1/messages is called; the others say [DONE]."""


@dataclass
class Ask:
    """One request to make."""

    at_seconds: float
    team: str
    kind: str
    path: str
    body: dict
    key: str
    leave_after_chunks: int | None = None
    leave_after_seconds: float | None = None
    traced: bool = False
    headers: dict = field(default_factory=dict)
    charged: str | None = None
    """The team that it is charged to, where that is not its key's."""


@dataclass
class Seen:
    """What the client saw of it."""

    ask: Ask
    outcome: str
    status: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    ttft_seconds: float | None = None
    trace_id: str | None = None


def words(source: random.Random, count: int) -> str:
    return " ".join(source.choices(WORDS, k=count))


def plan(seed: int, seconds: float, per_second: float, busy: tuple[float, float] = (0.5, 0.7)) -> list[Ask]:
    """Poisson arrivals, three times as many in the busy part of the time."""
    source = random.Random(seed)
    makers = {"support": support(source), "search": search(source), "agents": agents(source)}
    asks, at = [], 0.0
    while True:
        at += source.expovariate(3 * per_second)
        if at >= seconds:
            return asks
        if not busy[0] <= at / seconds < busy[1] and source.random() > 1 / 3:
            continue
        team = source.choices(PLANNED, weights=(3, 4, 3))[0]
        ask = next(makers[team])
        ask.at_seconds = at
        asks.append(spoilt(source, ask) if source.random() < 0.06 else ask)


def chat(team: str, messages: list[dict], most: int, stream: bool = True, model: str = MODEL, **more) -> Ask:
    body = {"model": model, "messages": messages, "max_tokens": most, "temperature": 1.0, "ignore_eos": True, **more}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Ask(0.0, team, "chat", CHAT, body, KEYS[team])


def support(source: random.Random):
    manual = {"role": "system", "content": words(source, 180)}
    while True:
        ask = chat(
            "support",
            [manual, {"role": "user", "content": words(source, source.randint(5, 60))}],
            source.randint(40, 160),
            stream=source.random() < 0.85,
            model="adapter-polite" if source.random() < 0.2 else MODEL,
            user=f"user-{source.randint(1, 40)}",
        )
        ask.traced = source.random() < 0.4
        if source.random() < 0.05:
            ask.body["max_tokens"], ask.leave_after_chunks, ask.kind = 400, source.randint(2, 30), "leaver"
        yield ask


def search(source: random.Random):
    while True:
        body = {
            "model": MODEL,
            "prompt": words(source, source.randint(8, 120)),
            "max_tokens": source.randint(4, 24),
            "ignore_eos": True,
        }
        ask = Ask(0.0, "search", "completion", COMPLETIONS, body, KEYS["search"])
        if source.random() < 0.04:
            body["max_tokens"], ask.leave_after_seconds, ask.kind = 700, 0.4, "leaver"
        yield ask


def agents(source: random.Random):
    for conversation in itertools.count():
        messages = [{"role": "system", "content": words(source, 120)}]
        for turn in range(source.randint(2, 6)):
            messages.append({"role": "user", "content": words(source, source.randint(10, 40))})
            ask = chat(
                "agents",
                list(messages),
                source.randint(60, 300),
                model="adapter-terse" if source.random() < 0.1 else MODEL,
            )
            ask.headers = {"x-request-id": f"conversation-{conversation % 7}-turn-{turn}"}
            ask.traced = source.random() < 0.6
            if source.random() < 0.1:
                ask.body["max_tokens"], ask.leave_after_chunks, ask.kind = 500, source.randint(1, 60), "leaver"
            yield ask
            messages.append({"role": "assistant", "content": words(source, source.randint(20, 60))})


def spoilt(source: random.Random, ask: Ask) -> Ask:
    """What clients do wrong."""
    ask.leave_after_chunks = ask.leave_after_seconds = None
    ask.kind = source.choice(("unknown_model", "too_long", "wrong_key", "bad_value"))
    if ask.kind == "unknown_model":
        ask.body["model"] = "tiny-qwen4"
    elif ask.kind == "too_long":
        ask.body |= (
            {"prompt": words(source, 1500)}
            if ask.path == COMPLETIONS
            else {"messages": [{"role": "user", "content": words(source, 1500)}]}
        )
    elif ask.kind == "wrong_key":
        ask.key = "sk-nobody"
    else:
        ask.body["temperature"] = -1
    return ask


def gateway_tracer(otlp_endpoint: str) -> TracerProvider:
    """The caller's own spans: a gateway and its retrieval step, as a service of their own."""
    provider = TracerProvider(resource=Resource({"service.name": "gateway"}))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"{otlp_endpoint}/v1/traces"), schedule_delay_millis=1000)
    )
    return provider


def take_precedence() -> None:
    """Let the clients run when they have something to do: a spinning engine on few cores can hold them up for a second.

    Without the right to do so they run as they are, and may see an answer whole that they meant to break off.
    """
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))


class Clients:
    """Drives a plan against a server."""

    def __init__(self, url: str, otlp_endpoint: str, seed: int = 0) -> None:
        self.url = url
        self.provider = gateway_tracer(otlp_endpoint)
        self.tracer = self.provider.get_tracer("load")
        self.random = random.Random(seed)
        self.seen: list[Seen] = []

    async def drive(self, asks: list[Ask]) -> list[Seen]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits) as client:
            take_precedence()
            start = time.monotonic()
            tasks = []
            for ask in asks:
                await asyncio.sleep(max(0.0, start + ask.at_seconds - time.monotonic()))
                tasks.append(asyncio.create_task(self.one(client, ask)))
            self.seen += await asyncio.gather(*tasks)
        self.provider.force_flush()
        return self.seen

    async def one(self, client: httpx.AsyncClient, ask: Ask) -> Seen:
        headers = {"authorization": f"Bearer {ask.key}", **ask.headers}
        if not ask.traced:
            return await self.send(client, ask, headers)
        with self.tracer.start_as_current_span("answer question", kind=trace.SpanKind.SERVER) as span:
            span.set_attribute("app", TEAMS[ask.team])
            with self.tracer.start_as_current_span("retrieve documents", kind=trace.SpanKind.CLIENT):
                await asyncio.sleep(self.random.uniform(0.005, 0.04))
            propagate.inject(headers)
            seen = await self.send(client, ask, headers)
            seen.trace_id = f"{span.get_span_context().trace_id:032x}"
            return seen

    async def send(self, client: httpx.AsyncClient, ask: Ask, headers: dict) -> Seen:
        try:
            if ask.body.get("stream"):
                return await self.stream(client, ask, headers)
            timeout = (
                httpx.Timeout(120, read=ask.leave_after_seconds)
                if ask.leave_after_seconds
                else httpx.USE_CLIENT_DEFAULT
            )
            response = await client.post(ask.path, json=ask.body, headers=headers, timeout=timeout)
        except httpx.ReadTimeout:
            return Seen(ask, "client_disconnect")
        seen = Seen(ask, "ok" if response.status_code == 200 else "rejected", response.status_code)
        if response.status_code == 200:
            told = response.json()
            while told.get("status") in ("queued", "in_progress"):  # promised, not answered
                await asyncio.sleep(0.2)
                told = (await client.get(f"{ask.path}/{told['id']}", headers=headers)).raise_for_status().json()
            take_usage(seen, told.get("usage") or {})
        return seen

    async def stream(self, client: httpx.AsyncClient, ask: Ask, headers: dict) -> Seen:
        began = time.monotonic()
        seen = Seen(ask, "client_disconnect")
        async with client.stream("POST", ask.path, json=ask.body, headers=headers) as response:
            seen.status = response.status_code
            if response.status_code != 200:
                await response.aread()
                seen.outcome = "rejected"
                return seen
            chunks = 0
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    seen.outcome = "ok" if seen.outcome == "client_disconnect" else seen.outcome
                    return seen
                seen.ttft_seconds = seen.ttft_seconds or time.monotonic() - began
                data = json.loads(line[6:])
                if error := data.get("error"):
                    seen.outcome = "rejected" if error.get("code") == 503 else "error"
                for holder in (data, data.get("response") or {}, data.get("message") or {}):
                    if isinstance(holder, dict) and holder.get("usage"):
                        take_usage(seen, holder["usage"])
                if data.get("type") in ENDS:
                    seen.outcome = "ok"
                    return seen
                chunks += 1
                if chunks == ask.leave_after_chunks:
                    return seen
        return seen


def take_usage(seen: Seen, usage: dict) -> None:
    """Chat and completions say prompt and completion tokens, messages and responses input and output tokens."""
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = details.get("cached_tokens", usage.get("cache_read_input_tokens"))
    for name, value in (
        ("input_tokens", usage.get("prompt_tokens", usage.get("input_tokens"))),
        ("output_tokens", usage.get("completion_tokens", usage.get("output_tokens"))),
        ("cached_tokens", cached),
    ):
        if value is not None:  # a stream of /v1/messages tells one at its start and the other at its end
            setattr(seen, name, value)
