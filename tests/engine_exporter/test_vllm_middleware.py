"""One request in, one span out: every way a request can end, and nothing of ours ever in its way."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from engine_exporter import semconv
from engine_exporter.api_keys import add_key
from engine_exporter.http_half import WireError, read_error
from engine_exporter.request_body import Asked, read_body
from engine_exporter.testing import CACHED_TOKENS, PROMPT_TOKENS, FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

CHAT = {"model": "base", "messages": [{"role": "user", "content": "hello"}], "stream": True}
WHOLE = {**CHAT, "stream": False}


def served(reply=None, **config):
    bench = exporter_for_tests(**config)
    engine = FakeVllm(bench, reply or Reply())
    return bench, engine, FleetmeterMiddleware(engine, bench.exporter)


def asked(app, *arguments, **named):
    return asyncio.run(post(app, *arguments, **named))


def left(app, engine, body):
    async def go():
        engine.closed = asyncio.Event()
        answer = await post(app, body=body, leave=engine.closed)
        await asyncio.sleep(0.05)
        return answer

    return asyncio.run(go())


def test_a_streamed_answer_becomes_one_row_with_both_halves():
    bench, _, app = served(Reply(chunks=4, first_seconds=0.5, gap_seconds=0.1))
    answer = asked(app, body=CHAT)
    assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")
    row = bench.row
    assert row[semconv.OUTCOME] == "ok"
    assert row[semconv.STREAM] is True
    assert row[semconv.TTFT] == pytest.approx(0.5)
    assert row[semconv.MAX_GAP] == pytest.approx(0.1)
    assert row[semconv.E2E] == pytest.approx(0.8)
    assert (row[semconv.INPUT_TOKENS], row[semconv.CACHED_TOKENS], row[semconv.OUTPUT_TOKENS]) == (40, 32, 4)
    assert (row[semconv.QUEUE], row[semconv.PREFILL]) == (0.1, 0.4)
    assert row[semconv.TPOT] == pytest.approx(0.1)
    assert row[semconv.PREEMPTIONS] == 1
    assert row[semconv.FINISH_REASONS] == ("stop",)
    assert row[semconv.ESTIMATED] is False
    assert len(bench.exporter.finished) == 0


def test_every_attribute_is_in_the_closed_list():
    bench, engine, app = served(Reply(sequences=2))
    asked(app, body={**CHAT, "n": 2, "user": "u", "model": "alias"}, headers={"x-request-id": "mine"})
    engine.reply = Reply(status=404, error={"error": {"type": "NotFoundError", "code": 404}})
    asked(app, body={**CHAT, "model": "nope"})
    known = {attribute.name for attribute in semconv.REQUEST_ATTRIBUTES + semconv.FURTHER_ATTRIBUTES}
    assert {name for row in bench.rows for name in row} <= known


def test_the_span_says_when_where_and_who():
    bench, _, app = served(cluster="lab", deployment="chat")
    asked(app, body=CHAT)
    (span,) = bench.queue.spans
    assert span.name == "chat base"
    assert span.end_time - span.start_time == 800_000_000
    resource = span.resource.attributes
    assert resource[semconv.REPLICA] == "replica-0"
    assert (resource[semconv.CLUSTER], resource[semconv.DEPLOYMENT], resource[semconv.ENGINE]) == (
        "lab",
        "chat",
        "vllm",
    )


def test_an_answer_in_one_piece_takes_its_first_token_from_the_engine():
    bench, _, app = served(Reply(chunks=3))
    asked(app, body=WHOLE)
    assert bench.row[semconv.STREAM] is False
    assert bench.row[semconv.TTFT] == pytest.approx(1.0 - 0.2)
    assert semconv.MAX_GAP not in bench.row


def test_choices_count_their_prompt_once_as_usage_does_and_the_engines_count_is_kept():
    bench, _, app = served(Reply(chunks=3, sequences=2))
    asked(app, body={**CHAT, "n": 2})
    assert bench.row[semconv.INPUT_TOKENS] == PROMPT_TOKENS
    assert bench.row[semconv.PREFILLED_TOKENS] == 2 * PROMPT_TOKENS
    assert bench.row[semconv.OUTPUT_TOKENS] == 6
    assert bench.row[semconv.CHOICES] == 2


def test_first_token_of_responses_is_the_first_delta_not_the_opening():
    opening = (b'event: response.created\ndata: {"type":"response.created"}\n\n',)
    bench, _, app = served(Reply(opening=opening, first_seconds=2.0))
    asked(app, "/v1/responses", {"model": "base", "input": "x", "stream": True})
    assert bench.row[semconv.TTFT] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "model", "adapter", "other"),
    [
        ("base", "base", None, None),
        ("alias", "base", None, "alias"),
        ("adapter-polite", "base", "adapter-polite", None),
        ("nobody", None, None, "nobody"),
    ],
)
def test_base_model_and_adapter_are_told_apart(name, model, adapter, other):
    bench, _, app = served()
    asked(app, body={**CHAT, "model": name})
    assert bench.row.get(semconv.REQUEST_MODEL) == model
    assert bench.row.get(semconv.ADAPTER) == adapter
    assert bench.row.get(semconv.MODEL_ASKED) == other


@pytest.mark.parametrize("body", [CHAT, WHOLE], ids=["stream", "whole"])
def test_a_client_that_leaves_is_charged_what_was_generated(body):
    bench, engine, app = served(Reply(chunks=10, hold_after=3))
    left(app, engine, body)
    row = bench.row
    assert row[semconv.OUTCOME] == "client_disconnect"
    assert (row[semconv.INPUT_TOKENS], row[semconv.CACHED_TOKENS], row[semconv.OUTPUT_TOKENS]) == (
        PROMPT_TOKENS,
        CACHED_TOKENS,
        3,
    )
    assert row[semconv.FINISH_REASONS] == ("abort",)


def test_a_client_that_leaves_before_prefill_spent_nothing_and_input_is_unknown():
    bench, engine, app = served(Reply(chunks=10, hold_after=0))
    left(app, engine, CHAT)
    assert bench.row[semconv.OUTCOME] == "client_disconnect"
    assert semconv.INPUT_TOKENS not in bench.row
    assert bench.row[semconv.OUTPUT_TOKENS] == 0
    assert bench.row[semconv.PROMPT_TOKENS] == PROMPT_TOKENS


def test_a_client_that_leaves_after_the_last_chunk_has_got_everything():
    bench, _, _ = served()

    async def engine(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b'data: {"a":1}\n\n', "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        await receive()

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    messages = [{"type": "http.request", "body": json.dumps(CHAT).encode()}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    asyncio.run(FleetmeterMiddleware(engine, bench.exporter)(scope, receive, send))
    assert bench.row[semconv.OUTCOME] == "ok"


def test_a_server_that_cannot_write_any_more_means_a_client_that_left():
    bench, _, app = served()

    async def broken(message):
        if message["type"] == "http.response.body":
            raise OSError("connection reset")

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    messages = [{"type": "http.request", "body": json.dumps(CHAT).encode()}]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    with pytest.raises(OSError, match="reset"):
        asyncio.run(app(scope, receive, broken))
    assert bench.row[semconv.OUTCOME] == "client_disconnect"


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"error": "Unauthorized"}, "401"),
        (404, {"error": {"type": "NotFoundError", "code": 404, "message": "secret prompt"}}, "NotFoundError"),
        (400, {"error": {"type": "BadRequestError", "code": 400}}, "BadRequestError"),
        (503, {"error": {"type": "ServiceUnavailable", "code": 503}}, "ServiceUnavailable"),
    ],
)
def test_refusals_are_rejected_with_their_class_and_without_their_message(status, error, kind):
    bench, _, app = served(Reply(status=status, error=error))
    assert asked(app, body=CHAT).status == status
    assert bench.row[semconv.OUTCOME] == "rejected"
    assert bench.row[semconv.ERROR_TYPE] == kind
    assert bench.row[semconv.HTTP_STATUS] == status
    assert semconv.TTFT not in bench.row
    assert "secret prompt" not in str(bench.row)


def test_a_key_refused_before_the_body_was_read_says_nothing_about_the_body():
    bench, _, app = served(Reply(status=401, error={"error": "Unauthorized"}))
    asked(app, body=CHAT)
    assert semconv.STREAM not in bench.row


STREAM_503 = {"error": {"code": 503, "type": "ServiceUnavailableError", "message": "queue is full"}}
STREAM_500 = {"error": {"code": 500, "type": "InternalServerError", "message": "boom"}}


@pytest.mark.parametrize(
    ("error", "after", "dies", "outcome"),
    [
        (STREAM_503, 0, False, "rejected"),
        (STREAM_500, 2, False, "error"),
        (STREAM_500, 2, True, "engine_dead"),
        (STREAM_500, 0, True, "engine_dead"),
    ],
)
def test_an_error_inside_a_stream_is_seen_through_its_status_200(error, after, dies, outcome):
    bench, _, app = served(Reply(error=error, error_after=after, engine_dies=dies))
    assert asked(app, body=CHAT).status == 200
    assert bench.row[semconv.OUTCOME] == outcome
    assert bench.row[semconv.ERROR_TYPE] == error["error"]["type"]
    assert (semconv.TTFT in bench.row) is (after > 0)


@pytest.mark.parametrize(("dies", "outcome"), [(False, "error"), (True, "engine_dead")])
def test_a_500_is_an_error_and_a_dead_engine_is_called_so(dies, outcome):
    bench, _, app = served(Reply(status=500, error=STREAM_500, engine_dies=dies))
    asked(app, body=CHAT)
    assert bench.row[semconv.OUTCOME] == outcome
    (span,) = bench.queue.spans
    assert span.status.is_ok is False


def test_an_exception_of_the_engine_passes_through_and_is_counted():
    bench, _, app = served(Reply(raises=RuntimeError("engine broke")))
    with pytest.raises(RuntimeError, match="engine broke"):
        asked(app, body=CHAT)
    assert bench.row[semconv.OUTCOME] == "error"
    assert bench.row[semconv.ERROR_TYPE] == "RuntimeError"


def test_without_the_plugin_usage_stands_in():
    usage = SimpleNamespace(
        prompt_tokens=40, completion_tokens=4,
        prompt_tokens_details=SimpleNamespace(cached_tokens=16),
        completion_tokens_details=SimpleNamespace(reasoning_tokens=3),
    )  # fmt: skip
    bench, _, app = served(Reply(records=False, usage=usage))
    asked(app, body=WHOLE)
    row = bench.row
    assert (row[semconv.INPUT_TOKENS], row[semconv.CACHED_TOKENS], row[semconv.OUTPUT_TOKENS]) == (40, 16, 4)
    assert row[semconv.REASONING_TOKENS] == 3
    assert semconv.QUEUE not in row


def test_without_the_plugin_a_streams_live_state_stands_in():
    bench, _, app = served(Reply(records=False, chunks=5))
    asked(app, body=CHAT)
    row = bench.row
    assert (row[semconv.INPUT_TOKENS], row[semconv.OUTPUT_TOKENS]) == (PROMPT_TOKENS, 5)
    assert row[semconv.QUEUE] == pytest.approx(0.1)
    assert row[semconv.TPOT] == pytest.approx(0.1)


def test_the_engine_gets_our_request_id_and_our_span_as_parent():
    bench, engine, app = served()
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    headers = {"x-request-id": "twice", "traceparent": caller, "tracestate": "fleetmeter=old,vendor=1"}
    asked(app, body=CHAT, headers=headers)
    got = dict(engine.scopes[0]["headers"])
    (span,) = bench.queue.spans
    assert got[b"x-request-id"] != b"twice" and len(got[b"x-request-id"]) == 32
    assert bench.row[semconv.CLIENT_REQUEST_ID] == "twice"
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert got[b"traceparent"].decode() == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert got[b"tracestate"].decode() == f"fleetmeter={span.context.span_id:016x},vendor=1"


def test_a_request_without_a_trace_starts_one():
    bench, engine, app = served()
    asked(app, body=CHAT, headers={"traceparent": "garbage", "tracestate": "vendor=1"})
    (span,) = bench.queue.spans
    assert span.parent is None and span.context.trace_id != 0
    assert dict(engine.scopes[0]["headers"])[b"tracestate"].decode() == f"fleetmeter={span.context.span_id:016x}"


def test_api_keys_say_team_and_app(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search", "ranker")
    bench, engine, _ = served()
    bench = exporter_for_tests(path)
    engine.bench = bench
    engine.plugin._finished = bench.exporter.finished
    app = FleetmeterMiddleware(engine, bench.exporter)
    asked(app, body=CHAT, headers={"authorization": "Bearer sk-1"})
    asked(app, body=CHAT, headers={"x-api-key": "sk-1"})
    asked(app, body=CHAT, headers={"authorization": "Bearer stranger"})
    asked(app, body=CHAT)
    teams = [(row.get(semconv.TEAM), row.get(semconv.APP)) for row in bench.rows]
    assert teams == [("search", "ranker"), ("search", "ranker"), (None, None), (None, None)]
    hashes = [row.get(semconv.API_KEY_HASH) for row in bench.rows]
    assert hashes[0] == hashes[1] and hashes[2] not in (None, hashes[0]) and hashes[3] is None
    assert "sk-1" not in str(bench.rows)


def test_a_trusted_gateway_may_name_team_user_and_mode():
    bench, _, app = served(
        team_header="X-Team", user_header="X-User", mode_header="X-Mode", hash_salt="pepper", trust_any_peer=True
    )
    asked(app, body=CHAT, headers={"x-team": "red", "x-user": "ann", "x-mode": "batch"})
    asked(app, body={**CHAT, "user": "ann"}, headers={"x-mode": "nonsense"})
    first, second = bench.rows
    assert (first[semconv.TEAM], first[semconv.MODE]) == ("red", "batch")
    assert second[semconv.MODE] == "live"
    assert first[semconv.USER_HASH] == second[semconv.USER_HASH] != "ann"


def test_headers_that_nobody_declared_trusted_say_nothing():
    bench, _, app = served()
    asked(app, body=CHAT, headers={"x-team": "red"})
    assert semconv.TEAM not in bench.row


@pytest.mark.parametrize(
    ("path", "method"), [("/health", "GET"), ("/v1/models", "GET"), ("/tokenize", "POST"), ("/metrics", "POST")]
)
def test_routes_that_are_not_inference_pass_untouched(path, method):
    bench, engine, app = served()
    asked(app, path, method=method)
    assert bench.rows == []
    assert "x-request-id" not in dict(engine.scopes[0]["headers"])


def test_a_root_path_is_taken_off_the_route():
    bench, _, app = served()
    asked(app, "/prefix/v1/chat/completions", CHAT, root_path="/prefix")
    assert bench.row[semconv.ENDPOINT] == "/v1/chat/completions"


def test_bodies_that_are_not_json_do_no_harm():
    bench, _, app = served(Reply(status=400, error={"error": {"type": "BadRequestError", "code": 400}}))
    for body in (b"\xff\xfe\x00", b"[1,2]", b"{", b'{"model": 7, "stream": "yes", "n": {}}'):
        asked(app, body=body)
    assert {row[semconv.OUTCOME] for row in bench.rows} == {"rejected"}
    assert bench.exporter.faults_count == 0


def test_a_large_body_still_says_its_model():
    bench, _, app = served()
    text = 'say \\"model\\": \\"trick\\" ' + "x" * 1_200_000
    body = f'{{"messages":[{{"role":"user","content":"{text}"}}],"model":"adapter-polite","stream": true}}'
    asked(app, body=body.encode())
    assert bench.row[semconv.ADAPTER] == "adapter-polite"
    assert bench.row[semconv.STREAM] is True


class Broken:
    def __getattr__(self, name):
        raise ValueError(f"broken {name}")


@pytest.mark.parametrize("part", ["keys", "finished", "queue", "random_bits", "monotonic"])
def test_whatever_breaks_in_us_the_request_goes_on_and_the_fault_is_counted(part):
    bench, _, app = served()
    setattr(bench.exporter, part, Broken())
    answer = asked(app, body=CHAT)
    assert answer.status == 200 and answer.body.count(b"data: ") == 5
    assert bench.exporter.faults_count > 0


def test_without_an_exporter_everything_passes():
    bench, engine, _ = served()
    app = FleetmeterMiddleware(engine, bench.exporter)
    app.exporter = None
    assert asked(app, body=CHAT).status == 200
    assert bench.rows == []


def test_lost_spans_are_told_in_the_rows_that_do_arrive():
    bench, _, app = served()
    bench.queue.lost = 7
    asked(app, body=CHAT)
    assert bench.row[semconv.LOST_COUNT] == 7


def test_the_end_of_the_server_sends_what_is_left():
    bench, _, app = served()
    closed = []
    bench.queue.close = closed.append

    async def nothing(*_):
        return {}

    asyncio.run(app({"type": "lifespan"}, nothing, nothing))
    assert closed == [3.0]


def test_a_request_that_the_server_cancels_is_an_error_not_a_client_that_left():
    bench, engine, app = served(Reply(chunks=10, hold_after=3))

    async def go():
        engine.closed = asyncio.Event()
        task = asyncio.ensure_future(post(app, body=CHAT))
        await engine.closed.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)

    asyncio.run(go())
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.ERROR_TYPE]) == ("error", "CancelledError")
    assert bench.row[semconv.OUTPUT_TOKENS] == 3


@pytest.mark.parametrize("field", [{"user": "ann"}, {"safety_identifier": "ann"}, {"metadata": {"user_id": "ann"}}])
def test_the_end_user_is_hashed_wherever_the_api_has_it(field):
    bench, _, app = served(hash_salt="pepper")
    asked(app, body={**CHAT, **field})
    assert len(bench.row[semconv.USER_HASH]) == 16


@pytest.mark.parametrize(
    "odd",
    [{"model": "\ud800"}, {"user": "\udfff"}, {"n": 10**30}, {"n": -(10**30)}, {"model": ["base"]}, {"metadata": 1}],
)
def test_no_value_of_a_client_keeps_its_span_from_being_sent(odd, caplog):
    bench, _, app = served(Reply(sequences=2), hash_salt="0123456789abcdef")
    asked(app, body={**CHAT, **odd})
    (span,) = bench.queue.spans
    assert encode_spans([span]).resource_spans
    assert bench.exporter.faults_count == 0
    assert not caplog.records


def test_an_errors_odd_class_keeps_no_span_from_being_sent():
    bench, _, app = served(Reply(status=500, error={"error": {"type": "\ud800", "code": 10**30}}))
    asked(app, body=CHAT)
    assert encode_spans(bench.queue.spans).resource_spans


def test_a_body_that_nests_too_deep_says_nothing():
    assert read_body(b"[" * 100_000) == Asked()
    assert read_error(b"[" * 100_000, 400) == WireError(400, "400")
