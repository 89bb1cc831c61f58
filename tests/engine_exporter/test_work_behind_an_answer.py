"""Work that outlives its answer, or has several turns: promised responses, tools, and servers that end meanwhile."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from engine_exporter import semconv, vllm_middleware
from engine_exporter.testing import PROMPT_TOKENS, FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

RESPONSES = "/v1/responses"
PROMISED = {"model": "base", "input": "x", "background": True, "store": True}


class Promising(FakeVllm):
    """Answers at once that the work is queued, and does it behind, as vLLM's `/v1/responses` with `background`."""

    def __post_init__(self):
        super().__post_init__()
        self.go_on = asyncio.Event()
        self.works = {}
        self.stored = {}
        self.state.openai_serving_responses = SimpleNamespace(background_tasks=self.works, response_store=self.stored)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        self.scopes.append(scope)
        name = f"resp_{len(self.scopes):016x}"
        scope["state"] = {"request_metadata": SimpleNamespace(request_id=name, final_usage_info=None)}
        work = self.works[name] = asyncio.ensure_future(self._work(name))
        work.add_done_callback(lambda _: self.works.pop(name))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"status": "queued"}'})

    async def _work(self, name):
        for turn in range(self.turns):
            states = self._add(f"{name}_{turn}")
            self._step(states)
            await self.go_on.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            self.bench.clock.pass_(2.0)
            self._step(states)
            if self.fails is not None and turn == self.turns - 1:
                self._abort(states)
                self.stored[name] = SimpleNamespace(status="failed")
                self.fails()
                return
            self._finish(states)

    turns, fails = 1, None


def promised(during, **parts):
    async def go():
        bench = exporter_for_tests()
        engine = Promising(bench)
        vars(engine).update(parts)
        app = FleetmeterMiddleware(engine, bench.exporter)
        answer = await post(app, RESPONSES, PROMISED)
        assert answer.body == b'{"status": "queued"}'
        assert bench.rows == [], "its tokens are still to come"
        await during(engine, app)
        for _ in range(20):
            await asyncio.sleep(0)
        return bench

    return asyncio.run(go())


async def let_go_on(engine, app):
    await asyncio.sleep(0)
    engine.go_on.set()
    await asyncio.wait(list(engine.works.values()))


@pytest.mark.parametrize("turns", [1, 3])
def test_a_promised_response_is_one_row_with_the_tokens_of_the_work(turns):
    bench = promised(let_go_on, turns=turns)
    row = bench.row
    assert (row[semconv.OUTCOME], row[semconv.OUTPUT_TOKENS]) == ("ok", 2 * turns)
    assert row[semconv.INPUT_TOKENS] == turns * PROMPT_TOKENS
    assert row[semconv.E2E] == pytest.approx(2.0 * turns)
    assert len(bench.exporter.finished) == 0 and bench.exporter.faults_count == 0


def test_a_promised_response_that_is_cancelled_is_charged_for_what_was_made():
    async def cancel(engine, app):
        await asyncio.sleep(0)
        (work,) = engine.works.values()
        work.cancel()

    bench = promised(cancel)
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.OUTPUT_TOKENS]) == ("client_disconnect", 1)


@pytest.mark.parametrize(("fails", "kind"), [(lambda: None, "failed"), (lambda: 1 / 0, "ZeroDivisionError")])
def test_a_promised_response_whose_work_fails_is_an_error_and_charged_for_all_turns(fails, kind, monkeypatch):
    monkeypatch.setattr(vllm_middleware, "_FOLLOW_STEP_SECONDS", 0)
    bench = promised(let_go_on, fails=fails, turns=2)
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.ERROR_TYPE]) == ("error", kind)
    assert bench.row[semconv.OUTPUT_TOKENS] == 4


def test_rows_that_are_still_to_come_are_made_when_the_server_ends():
    async def end(engine, app):
        await asyncio.sleep(0)

        async def nothing(*_):
            return {}

        await app({"type": "lifespan"}, nothing, nothing)

    bench = promised(end)
    assert bench.row[semconv.OUTPUT_TOKENS] == 1


class Turning(FakeVllm):
    """Two turns of one response: tools were called between them, and each is a request of the engine's own."""

    async def _answer(self, asked, states, send):
        name = states[0].external_req_id
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for turn in range(2):
            turned = self._add(f"{name}_{turn}")
            for _ in range(3):
                self._step(turned)
                chunk = b'event: response.output_text.delta\ndata: {"delta": "x"}\n\n'
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if turn == 0:
                self._finish(turned)
        self.turned = turned
        self.closed.set()
        await asyncio.Event().wait()

    def _abort(self, states):
        super()._abort(states)
        if self.closed.is_set():
            super()._abort(self.turned)

    def _add(self, name):
        return super()._add(name) if "_" in name else [SimpleNamespace(external_req_id=name, request_id="none")]


def test_a_client_that_leaves_in_a_later_turn_is_charged_for_that_turn_too():
    bench = exporter_for_tests()
    engine = Turning(bench, Reply())
    app = FleetmeterMiddleware(engine, bench.exporter)

    async def go():
        engine.closed = asyncio.Event()
        await post(app, RESPONSES, {"model": "base", "input": "x", "stream": True}, leave=engine.closed)
        await asyncio.sleep(0.05)

    asyncio.run(go())
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.OUTPUT_TOKENS]) == ("client_disconnect", 6)
    assert bench.row[semconv.INPUT_TOKENS] == 2 * PROMPT_TOKENS


class Echoing(FakeVllm):
    """With `--enable-request-id-headers`: the request's id is the answer's, or one that vLLM makes."""

    async def __call__(self, scope, receive, send):
        async def echoing(message):
            if message["type"] == "http.response.start":
                own = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"made by vLLM")
                self.headers = [(b"content-type", b"text/event-stream"), (b"x-request-id", own)]
                message = {**message, "headers": list(self.headers)}
            await send(message)

        await super().__call__(scope, receive, echoing)


@pytest.mark.parametrize("sent", [["mine"], [""], ["first", "second"], ["x" * 300]])
def test_a_client_gets_its_own_request_id_back(sent):
    bench = exporter_for_tests()
    engine = Echoing(bench, Reply())
    got = []

    async def listening(app, scope, receive, send):
        async def heard(message):
            if message["type"] == "http.response.start":
                got.append(message["headers"])
            await send(message)

        headers = [*scope["headers"], *((b"x-request-id", one.encode()) for one in sent)]
        await app({**scope, "headers": headers}, receive, heard)

    for app in (engine, FleetmeterMiddleware(engine, bench.exporter)):
        body = json.dumps({"model": "base", "stream": True}).encode()
        asyncio.run(post(lambda *parts, app=app: listening(app, *parts), body=body))
    assert got[1] == got[0] != engine.headers
    assert dict(got[1])[b"x-request-id"] == sent[0].encode()
    assert bench.row.get(semconv.CLIENT_REQUEST_ID) == (sent[0][:128] or None)
