"""A websocket session is one row; its messages pass as they are."""

import asyncio
import json

import pytest

from engine_exporter import semconv
from engine_exporter.api_keys import add_key
from engine_exporter.testing import exporter_for_tests
from engine_exporter.vllm_middleware import FleetmeterMiddleware

UPDATE = {"type": "websocket.receive", "text": json.dumps({"type": "session.update", "model": "whisper"})}
AUDIO = {"type": "websocket.receive", "text": json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"})}
BYE = {"type": "websocket.disconnect", "code": 1000}
GONE = {"type": "websocket.disconnect", "code": 1006}
ACCEPT = {"type": "websocket.accept"}


def said(**event):
    return {"type": "websocket.send", "text": json.dumps(event)}


DONE = said(type="transcription.done", text="the secret words", usage={"prompt_tokens": 10, "completion_tokens": 4})


def session(sent, received=(UPDATE, AUDIO, BYE), path="/v1/realtime", headers=(), raises=None, **config):
    bench = exporter_for_tests(**config)
    passed, scopes = [], []

    async def engine(scope, receive, send):
        scopes.append(scope)
        for message in sent:
            await send(dict(message))
        if raises:
            raise raises
        for _ in received:
            passed.append(await receive())
        bench.clock.pass_(30)

    queue, out = list(received), []

    async def receive():
        return dict(queue.pop(0))

    async def send(message):
        out.append(message)

    app = FleetmeterMiddleware(engine, bench.exporter)
    scope = {"type": "websocket", "path": path, "headers": list(headers), "server": ("127.0.0.1", 8000)}
    try:
        asyncio.run(app(scope, receive, send))
    except RuntimeError:
        assert raises
    assert out == list(sent)
    assert raises or passed == list(received)
    return bench, scopes


def test_a_session_is_a_row_with_its_duration_its_model_and_the_usage_it_reported(tmp_path):
    bench, _ = session([ACCEPT, said(type="session.created"), DONE, DONE])
    row = bench.row
    assert (row[semconv.OUTCOME], row[semconv.ENDPOINT], row[semconv.HTTP_STATUS]) == ("ok", "/v1/realtime", 101)
    assert row[semconv.E2E] == pytest.approx(30)
    assert (row[semconv.INPUT_TOKENS], row[semconv.OUTPUT_TOKENS]) == (20, 8)
    assert row[semconv.REQUEST_MODEL] == "whisper"
    assert "secret" not in str(row)
    assert bench.exporter.faults_count == 0


@pytest.mark.parametrize(
    ("sent", "received", "outcome"),
    [
        ([ACCEPT], [GONE], "client_disconnect"),
        ([{"type": "websocket.close", "code": 1008}], [], "rejected"),
        ([{"type": "websocket.http.response.start", "status": 401, "headers": []}], [], "rejected"),
        ([ACCEPT, said(type="error", error="no such model", code="model_not_found")], [BYE], "rejected"),
        ([ACCEPT, said(type="error", error="boom", code="processing_error")], [BYE], "error"),
        ([ACCEPT, said(type="error", error="x", code="invalid_audio"), DONE], [BYE], "ok"),
        ([ACCEPT, {"type": "websocket.close", "code": 1011}], [], "error"),
        ([ACCEPT, {"type": "websocket.close"}], [], "ok"),
        ([], [GONE], "client_disconnect"),
    ],
)
def test_how_a_session_ended(sent, received, outcome):
    bench, _ = session(sent, received)
    assert bench.row[semconv.OUTCOME] == outcome


def test_an_exception_passes_through_and_is_an_error():
    bench, _ = session([ACCEPT], raises=RuntimeError("engine broke"))
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.ERROR_TYPE]) == ("error", "RuntimeError")


def test_the_key_of_a_browser_comes_as_a_subprotocol(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search")
    bench = exporter_for_tests(path)
    app = FleetmeterMiddleware(_closing, bench.exporter)
    headers = [(b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1")]

    async def send(_):
        pass

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": headers}
    asyncio.run(app(scope, None, send))
    assert bench.row[semconv.TEAM] == "search"


async def _closing(scope, receive, send):
    await send(ACCEPT)
    await send({"type": "websocket.close"})


def test_other_websockets_pass_untouched():
    bench, scopes = session([ACCEPT], [BYE], path="/other", headers=[(b"x-team", b"red")])
    assert bench.rows == [] and scopes[0]["headers"] == [(b"x-team", b"red")]


@pytest.mark.parametrize("text", ["", "{", '{"type": "transcription.done"', "[" * 300, '{"type":"error","code":{}}'])
def test_broken_events_do_no_harm(text):
    bench, _ = session([ACCEPT, {"type": "websocket.send", "text": text}], [{"type": "websocket.receive"}, BYE])
    assert len(bench.rows) == 1


def test_a_sessions_length_is_no_latency():
    bench, _ = session([ACCEPT, DONE])
    ((_, sums),) = bench.exporter.metrics.items()
    assert sums.outcomes["ok"] == 1 and sum(sums.latencies["e2e"].counts) == 0
