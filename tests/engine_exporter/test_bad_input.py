"""Whatever comes in, whatever breaks in us: the answer is, byte for byte, the one without us."""

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from engine_exporter import (
    api_keys,
    degradation,
    detail_sampling,
    engine_half,
    exporter,
    finishing,
    http_half,
    identity,
    jwt_claims,
    label_bound,
    large_body,
    phase_spans,
    realtime,
    request_attributes,
    request_body,
    request_headers,
    request_metrics,
    semconv,
    span_queue,
    step_board,
    step_history,
    step_settling,
    step_shares,
    trace_context,
    trusted_peers,
    vllm_front_end,
    vllm_middleware,
    vllm_stats,
    vllm_step_stats,
    vllm_steps,
)
from engine_exporter.testing import PROMPT_TOKENS, FakeVllm, KeptSpans, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware
from engine_exporter.vllm_stats import FleetmeterStatLogger

CHAT = {"model": "base", "stream": True, "user": "ann", "metadata": {"team": "red"}}
HEADERS = {"authorization": "Bearer sk-1", "x-team": "red", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
TRANSPORT = {"__call__", "receive", "send", "_begin", "_end", "_session", "_fault", "measure_session", "__init__"}
"""They are what stands between the server and vLLM: they call everything else, inside a `try`."""
MODULES = (
    api_keys, degradation, detail_sampling, engine_half, exporter, finishing, http_half, identity, jwt_claims,
    label_bound, large_body, phase_spans, realtime, request_attributes, request_body, request_headers, request_metrics,
    span_queue, step_board,
    step_history, step_settling, step_shares, trace_context, trusted_peers, vllm_front_end, vllm_middleware, vllm_stats,
    vllm_step_stats, vllm_steps,
)  # fmt: skip
PLUGIN = {"log", "log_engine_initialized", "record_sleep_state"}
"""What vLLM itself calls of the plugin, beside the transport; they do nothing."""
BETWEEN_PROCESSES = SimpleNamespace(
    parallel_config=SimpleNamespace(_api_process_count=2, _api_process_rank=0, world_size=2),
    device_config=SimpleNamespace(device_type="cuda"),
)


def own_functions():
    """Every function and method of ours that a request runs through: (owner, name)."""
    for module in MODULES:
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and name not in TRANSPORT:
                yield module, name
            if inspect.isclass(value) and value.__module__ == module.__name__:
                for method, function in vars(value).items():
                    kept = TRANSPORT | ({"record"} | PLUGIN if value is FleetmeterStatLogger else set())
                    kept = kept - {"__init__"} | {"close"} if value.__module__ in STEPS else kept
                    if isinstance(function, functools.partial | type(own_functions)) and method not in kept:
                        yield value, method


STEPS = {module.__name__ for module in (step_board, step_history, step_settling, step_shares, vllm_steps)}
"""The plugin makes their objects itself, where vLLM starts; all others are made with the exporter."""
FUNCTIONS = [pytest.param(owner, name, id=f"{owner.__name__}.{name}") for owner, name in own_functions()]


class SteppingVllm(FakeVllm):
    """The double, whose stat logger is told of every step, as vLLM's is."""

    def _step(self, states):
        first = not states[0].stats.num_generation_tokens
        super()._step(states)
        iteration = SimpleNamespace(
            finished_requests=[], num_generation_tokens=len(states),
            inter_token_latencies_iter=[] if first else [1e-3] * len(states),
            time_to_first_tokens_iter=[1e-2] * len(states) if first else [],
            num_prompt_tokens=PROMPT_TOKENS if first else 0,
        )  # fmt: skip
        self.plugin.record(SimpleNamespace(num_running_reqs=len(states), num_waiting_reqs=0), iteration)


def answers(wrapped, config=None):
    """What clients got for a stream, a whole answer, a refusal, an error in a stream and one that left."""
    bench = exporter_for_tests(team_header="x-team", trust_any_peer=True, body_team="metadata.team", hash_salt="pepper")
    engine = SteppingVllm(bench, config=config)
    app = FleetmeterMiddleware(engine, bench.exporter) if wrapped else engine
    error = {"error": {"code": 500, "type": "Internal"}}

    async def go():
        got = []
        cases = [
            (Reply(), CHAT),
            (Reply(), {**CHAT, "stream": False}),
            (Reply(status=404, error=error), CHAT),
            (Reply(error=error, error_after=2), CHAT),
            (Reply(hold_after=3), CHAT),
        ]
        for reply, body in cases:
            engine.reply, engine.closed = reply, asyncio.Event()
            leave = engine.closed if reply.hold_after else None
            got.append(await post(app, body=body, headers=HEADERS, leave=leave))
        return got

    return asyncio.run(go()), bench


BARE, _ = answers(wrapped=False)


def test_there_is_something_to_break():
    assert len(FUNCTIONS) > 120


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("owner", "name"), FUNCTIONS)
def test_an_error_at_any_call_of_ours_changes_no_answer(owner, name, processes, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(FleetmeterStatLogger, "faults_count", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    real = inspect.getattr_static(owner, name)
    calls = []

    def broken(*_, **__):
        calls.append(name)
        raise RuntimeError(f"broken {name}")

    bench = None

    def break_it():
        monkeypatch.setattr(owner, name, broken)
        for module in MODULES:  # where it was imported by name
            for other, value in list(vars(module).items()):
                if value is real:
                    monkeypatch.setattr(module, other, broken)

    original = exporter_for_tests

    def breaking(*arguments, **named):
        made = original(*arguments, **named)
        break_it()
        return made

    monkeypatch.setitem(globals(), "exporter_for_tests", breaking)
    got, bench = answers(wrapped=True, config=BETWEEN_PROCESSES if processes > 1 else None)
    faults = bench.exporter.faults_count + FleetmeterStatLogger.faults_count
    monkeypatch.undo()
    assert got == BARE
    if calls and name != "fault":
        assert faults > 0


class Injected:
    """Raises at the n-th use of any part of the exporter."""

    def __init__(self, inner, counter, fail_at):
        self.__dict__.update(inner=inner, counter=counter, fail_at=fail_at)

    def __getattr__(self, name):
        if name not in ("fault", "faults_count") and next(self.counter) == self.fail_at:
            raise RuntimeError(f"broken at use {self.fail_at}: {name}")
        return getattr(self.inner, name)


@pytest.mark.parametrize("fail_at", range(0, 60, 2))
def test_an_error_at_the_nth_use_of_the_exporter_changes_no_answer(fail_at, caplog):
    bench = exporter_for_tests()
    engine = FakeVllm(bench)
    app = FleetmeterMiddleware(engine, Injected(bench.exporter, itertools.count(), fail_at))
    answer = asyncio.run(post(app, body=CHAT))
    assert answer.status == 200 and answer.body == BARE[0].body


PLANS = {}


async def planned(scope, receive, send):
    """Answers as the plan says that the query names; the body it got is part of the answer."""
    plan = PLANS[scope["query_string"]]
    size = 0
    while plan.reads:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    scope.setdefault("state", {})["request_metadata"] = plan.metadata
    if plan.status is None:
        return  # it ends without a word
    kept = sorted(name + b"=" + value for name, value in scope["headers"] if name.startswith(b"x-kept"))
    headers = [(b"x-size", str(size).encode()), (b"x-saw", b"|".join(kept).hex().encode())]
    headers += [(b"content-type", plan.type)]
    if plan.echoes:  # as vLLM does with `--enable-request-id-headers`
        headers += [next(header for header in scope["headers"] if header[0] == b"x-request-id")]
    await send({"type": "http.response.start", "status": plan.status, "headers": headers})
    for chunk in plan.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if plan.raises:
        raise RuntimeError("engine broke")
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def running(app):
    config = uvicorn.Config(
        app, port=0, log_level="critical", lifespan="off", ws="none", date_header=False, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        pass
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def servers():
    bench = exporter_for_tests(
        team_header="x-team", user_header="x-user", trusted_peers=["127.0.0.1"], hash_salt="pepper"
    )
    with running(planned) as bare, running(FleetmeterMiddleware(planned, bench.exporter)) as measured:
        yield bare, measured, bench


def exchange(port, request, *, wait=True):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        if not wait:
            return b""
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


NAMES = st.sampled_from(
    [b"authorization", b"traceparent", b"tracestate", b"x-request-id", b"x-api-key", b"x-team", b"x-user", b"x-kept",
     b"x-forwarded-for", b"content-type", b"sec-websocket-protocol"]
)  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if 32 < byte < 127 or byte > 127)),
    st.just(b"multipart/form-data; boundary=cut"),
    st.sampled_from([b"Bearer ", b"Bearer ey.ey.ey", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"a=b,,=," * 20]),
)
PIECES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from(
        [b"data: {", b'data: {"error"', b'data: {"error": {"code": 1e999}}\n\n', b"data: [DONE]\n\n", b"event: error\n",
         b"event: response.failed\ndata: []", b"\xff\xfe", b'{"error": [[[', b"data: \xf0\x9f\n\n"]
    ),
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b'{"model": "base", "stream": true}', b'{"model": "\\ud800", "stream": true, "user": {}, "n": 1e400}',
         b'--cut\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--cut\r\n\r\n\r\n--cut--',
         b'--cut\r\ncontent-disposition: form-data; name=model; filename="\xff"\r\n\r\n' + b"x" * 70_000,
         b"[" * 5000, b'{"stream": true, "metadata": {"user_id": []}}', b'{"model":"m","x":"' + b"y" * 300_000 + b'"}']
    ),
)  # fmt: skip
ROUTES = st.sampled_from(
    [
        b"/v1/chat/completions",
        b"/v1/responses",
        b"/v1/audio/transcriptions",
        b"/v1/embeddings",
        b"/pooling",
        b"/other",
        b"/%ff",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    route=ROUTES,
    method=st.sampled_from([b"POST", b"POST", b"POST", b"GET", b"OPTIONS"]),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    body=BODIES,
    status=st.sampled_from([200, 200, 200, 400, 401, 404, 500, 503, None]),
    chunks=st.lists(PIECES, max_size=5),
    raises=st.booleans(),
    reads=st.booleans(),
    kind=st.sampled_from([b"application/json", b"text/event-stream; charset=utf-8"]),
    usage=st.sampled_from([None, 7, SimpleNamespace(), SimpleNamespace(prompt_tokens="many", completion_tokens=-1)]),
)
def test_a_real_servers_answer_is_the_same_with_and_without_us(
    servers, route, method, headers, body, status, chunks, raises, reads, kind, usage
):
    bare, measured, bench = servers
    metadata = SimpleNamespace(request_id=usage, final_usage_info=usage)
    name = b"%d" % len(PLANS)
    echoes = any(key == b"x-request-id" for key, _ in headers)
    PLANS[name] = SimpleNamespace(
        status=status, chunks=chunks, raises=raises, reads=reads, metadata=metadata, type=kind, echoes=echoes
    )
    lines = [b"%s %s?%s HTTP/1.1" % (method, route, name), b"host: test", b"connection: close"]
    lines += [b"content-length: %d" % len(body), *(key + b": " + value for key, value in headers)]
    request = b"\r\n".join(lines) + b"\r\n\r\n" + body
    assert exchange(measured, request) == exchange(bare, request)
    for span in bench.queue.spans:
        assert encode_spans([span]).resource_spans
    bench.queue.spans.clear()
    assert bench.exporter.faults_count == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/chat/comp",
        b"POST /v1/chat/completions?still HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n",
        b"POST /v1/chat/completions?still HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_client_that_sends_nothing_or_half_leaves_the_server_as_it_was(servers, sent):
    _, measured, bench = servers
    PLANS[b"still"] = PLANS[b"after"] = SimpleNamespace(
        status=200, chunks=[b"whole"], raises=False, reads=True, metadata=None, type=b"text/plain", echoes=False
    )
    exchange(measured, sent, wait=False)
    after = b"POST /v1/chat/completions?after HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
    assert b"whole" in exchange(measured, after)
    assert bench.exporter.faults_count == 0


def test_a_huge_body_is_neither_kept_nor_parsed():
    ran = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, check=True)
    model, stream, user, peak, faults = json.loads(ran.stdout)
    assert (model, stream, user) == ("base", True, "ann")
    assert peak < 2 * request_body.BODY_LIMIT_BYTES
    assert faults == 0


HUGE = """
import json, tracemalloc
from engine_exporter.request_body import BodyReader
from engine_exporter.testing import exporter_for_tests
bench = exporter_for_tests()
reader = BodyReader()
parts = [b'{"model": "base", "stream": true, "messages": "', *[b"x" * 65536] * 400, b'", "user": "ann"}']
tracemalloc.start()
for part in parts:
    reader.add(part)
_, peak = tracemalloc.get_traced_memory()
asked = reader.read()
print(json.dumps([asked.model, asked.stream, asked.user, peak, bench.exporter.faults_count]))
"""
"""In a process of its own, where no other thread takes memory."""


@given(st.binary(max_size=600_000 // 1000), st.lists(st.integers(1, 200), max_size=5), st.integers(1, 300))
def test_a_body_reads_alike_however_it_is_cut(body, cuts, limit):
    def read(parts):
        reader = request_body.BodyReader()
        for part in parts:
            reader.add(part)
        return reader.read()

    whole = read([body])
    parts, rest = [], body
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    assert read([*parts, rest]) == whole


@pytest.mark.parametrize("jump_seconds", [-86_400.0, 86_400.0])
def test_a_wall_clock_that_jumps_changes_no_duration(jump_seconds):
    bench = exporter_for_tests()
    jumps = itertools.cycle([0.0, jump_seconds])
    bench.exporter.unix_ns = lambda: bench.clock.unix_ns() + int(next(jumps) * 1e9)
    asyncio.run(post(FleetmeterMiddleware(FakeVllm(bench), bench.exporter), body=CHAT))
    (span,) = bench.queue.spans
    assert span.end_time - span.start_time == 800_000_000
    assert bench.row[semconv.E2E] == pytest.approx(0.8)


def test_a_monotonic_clock_that_goes_back_makes_no_negative_time():
    bench = exporter_for_tests()
    times = itertools.cycle([1000.0, 990.0, 1005.0, 980.0])
    bench.exporter.monotonic = lambda: next(times)
    asyncio.run(post(FleetmeterMiddleware(FakeVllm(bench), bench.exporter), body=CHAT))
    (span,) = bench.queue.spans
    assert span.end_time >= span.start_time
    assert min(bench.row[semconv.E2E], bench.row.get(semconv.TTFT, 0), bench.row[semconv.MAX_GAP]) >= 0


FRAMES = 10


def taken_by_us():
    """Bytes that are held by what the exporter called: threads of other tests take memory too."""
    gc.collect()
    ours = tracemalloc.Filter(True, str(Path(exporter.__file__).parent / "*"), all_frames=True)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)


def test_memory_stays_bounded_while_the_collector_is_gone():
    """Ten times as many requests as the queue holds, and nothing that grows with them."""
    down = KeptSpans()
    down.down = True
    bench = exporter_for_tests(team_header="x-team", trust_any_peer=True)
    queue = span_queue.SpanQueue(down, limit=100, interval_seconds=0.01, patience_seconds=3600)
    bench.exporter.queue = queue
    engine = FakeVllm(bench, Reply(chunks=2))
    app = FleetmeterMiddleware(engine, bench.exporter)

    async def serve(count):
        for number in range(count):
            await post(app, body={**CHAT, "user": f"user-{number}"}, headers={"x-team": f"team-{number}"})
            engine.scopes.clear()

    asyncio.run(serve(300))
    tracemalloc.start(FRAMES)
    asyncio.run(serve(100))
    first = taken_by_us()
    asyncio.run(serve(600))
    last = taken_by_us()
    tracemalloc.stop()
    assert queue.queued_count == 100 and queue.overflow_count == 900
    assert last - first < 100_000, "bytes that 600 further requests left behind"
    assert bench.exporter.outcomes["ok"] == 1000, "and every one of them is counted"
    queue.close(0.01)
