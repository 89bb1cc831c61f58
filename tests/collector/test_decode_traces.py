"""OTLP traces in, rows out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decode_traces import decode_traces
from collector.errors import PermanentError
from collector.testing import any_value, key_values, span_message, traces_body
from engine_exporter import semconv

NOW_US = 1_790_000_100_000_000

FULL = {
    "infer.request.outcome": "ok",
    "infer.team": "search",
    "infer.app": "answers",
    "infer.user.hash": "u1",
    "infer.api_key.hash": "k1",
    "gen_ai.request.model": "llama",
    "infer.adapter": "lora-1",
    "http.route": "/v1/chat/completions",
    "infer.request.mode": "live",
    "gen_ai.request.stream": True,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 64,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.usage.reasoning.output_tokens": 5,
    "infer.latency.ttft_seconds": 0.25,
    "infer.latency.tpot_seconds": 0.01,
    "infer.latency.max_gap_seconds": 0.05,
    "infer.latency.e2e_seconds": 1.25,
    "infer.latency.queue_seconds": 0.1,
    "infer.latency.prefill_seconds": 0.15,
    "infer.latency.decode_seconds": 1.0,
    "infer.preemptions_count": 1,
    "infer.source": "vllm_exporter",
    "infer.estimated": False,
    "http.response.status_code": 200,
    "infer.identity.trust": "verified",
    "infer.step.prefill_seconds": 0.02,
    "infer.step.decode_seconds": 0.3,
}
RESOURCE = {
    "service.name": "vllm",
    "infer.deployment": "llama-prod",
    "infer.replica": "llama-0",
    "k8s.cluster.name": "eu-1",
    "cloud.region": "eu-west-1",
    "infer.engine.name": "vllm",
    "infer.engine.version": "0.32.0",
    "infer.gpu.type": "H100",
    "infer.gpu.count": 2,
    "telemetry.sdk.name": "opentelemetry",
}


def requests(*spans, **more):
    decoded = decode_traces(traces_body(*spans, **more), NOW_US)
    assert not decoded.rejected, decoded.message
    return decoded.tables["requests"].to_pylist()


def request(attributes, resource=None, **fields):
    given_outcome = {"infer.request.outcome": "ok", **attributes}
    (row,) = requests(span_message(1, given_outcome, **fields), resource=resource)
    return row


def test_every_attribute_of_semconv_reaches_its_column():
    (row,) = requests(span_message(1, FULL), resource=RESOURCE)
    for attribute in semconv.REQUEST_ATTRIBUTES:
        sent = {**RESOURCE, **FULL}.get(attribute.name)
        expected = sent[0] if isinstance(sent, list) else sent
        assert row[attribute.column] == expected, attribute.column
    assert row["trace_id"] == "0" * 31 + "1"
    assert row["span_id"] == "0" * 15 + "1"
    assert row["started_at"].isoformat() == "2026-09-21T14:13:20.001000"
    assert (row["ended_at"] - row["started_at"]).total_seconds() == 1.5
    assert dict(row["attributes"]) == {"service.name": "vllm"}


def test_an_attribute_of_the_span_wins_over_the_resource():
    row = request({"infer.replica": "from-span"}, {"infer.replica": "from-resource", "infer.team": "resource-team"})
    assert row["replica"] == "from-span"
    assert row["team"] == "resource-team"
    assert dict(row["attributes"]) == {}


@pytest.mark.parametrize(
    ("name", "value", "column", "expected"),
    [
        ("gen_ai.usage.input_tokens", "12", "input_tokens", 12),
        ("gen_ai.usage.input_tokens", 12.0, "input_tokens", 12),
        ("gen_ai.usage.input_tokens", 12.5, "input_tokens", None),
        ("gen_ai.usage.input_tokens", -1, "input_tokens", None),
        ("gen_ai.usage.input_tokens", True, "input_tokens", None),
        ("gen_ai.usage.input_tokens", "many", "input_tokens", None),
        ("gen_ai.usage.input_tokens", "9007199254740993", "input_tokens", 9007199254740993),
        ("infer.preemptions_count", 2**40, "preemptions_count", None),
        ("infer.latency.ttft_seconds", 1, "ttft_seconds", 1.0),
        ("infer.latency.ttft_seconds", "0.5", "ttft_seconds", 0.5),
        ("infer.latency.ttft_seconds", math.nan, "ttft_seconds", None),
        ("infer.latency.ttft_seconds", math.inf, "ttft_seconds", None),
        ("infer.latency.ttft_seconds", -0.5, "ttft_seconds", None),
        ("gen_ai.request.stream", "true", "stream", True),
        ("gen_ai.request.stream", 0, "stream", False),
        ("gen_ai.request.stream", "perhaps", "stream", None),
        ("infer.team", 42, "team", "42"),
        ("infer.team", "  ", "team", None),
        ("infer.request.mode", "batch", "mode", "batch"),
        ("infer.request.mode", "bulk", "mode", None),
        ("gen_ai.response.finish_reasons", "length", "finish_reason", "length"),
        ("gen_ai.response.finish_reasons", ["stop", "length"], "finish_reason", "stop"),
    ],
)
def test_a_value_of_another_type_is_coerced_or_null_and_kept_beside(name, value, column, expected):
    row = request({name: value})
    assert row[column] == expected
    kept = dict(row["attributes"])
    assert (name in kept) == (expected is None or (isinstance(value, list) and len(value) > 1))


def test_the_outcome_is_one_of_five_in_any_case():
    assert request({"infer.request.outcome": "Client_Disconnect"})["outcome"] == "client_disconnect"


def test_an_unknown_outcome_rejects_its_span_alone():
    body = traces_body(
        span_message(1, {"infer.request.outcome": "ok"}), span_message(2, {"infer.request.outcome": "fine"})
    )
    decoded = decode_traces(body, NOW_US)
    assert decoded.tables["requests"].num_rows == decoded.accepted_count == 1
    assert [one.reason for one in decoded.rejected] == [
        "infer.request.outcome is 'fine'; it is one of client_disconnect, engine_dead, error, ok, rejected"
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": b"short"}, "a trace id has 16 bytes"),
        ({"trace_id": b""}, "a trace id has 16 bytes"),
        ({"trace_id": bytes(16)}, "a trace id has 16 bytes"),
        ({"span_id": bytes(8)}, "a span id has 8 bytes"),
        ({"span_id": b"123456789"}, "a span id has 8 bytes"),
        ({"start_time_unix_nano": 0}, "before 2000"),
        ({"start_time_unix_nano": 1_790_000_000}, "before 2000"),
        ({"start_time_unix_nano": 2**63}, "more than a day ahead"),
        ({"start_time_unix_nano": 2**64 - 1}, "more than a day ahead"),
    ],
)
def test_one_bad_span_never_takes_its_batch_down(fields, reason):
    decoded = decode_traces(traces_body(span_message(1), span_message(2, **fields), span_message(3)), NOW_US)
    assert [row["span_id"][-1] for row in decoded.tables["spans"].to_pylist()] == ["1", "3"]
    assert len(decoded.rejected) == 1
    assert reason in decoded.message


def test_a_span_that_ends_before_it_starts_has_no_end():
    row = request({}, end_time_unix_nano=1)
    assert (row["ended_at"], row["e2e_seconds"]) == (None, None)


def test_a_request_without_e2e_gets_the_duration_of_its_span():
    assert request({})["e2e_seconds"] == 1.5


def test_a_request_that_names_no_source_says_that_it_came_over_otlp():
    row = request({}, {"service.instance.id": "host-7"})
    assert (row["source"], row["estimated"], row["replica"]) == ("otlp", False, "host-7")


NATIVE = {
    "gen_ai.request.id": "chatcmpl-1",
    "gen_ai.usage.prompt_tokens": 199,
    "gen_ai.usage.completion_tokens": 9,
    "gen_ai.latency.time_to_first_token": 0.02,
    "gen_ai.latency.e2e": 0.1,
    "gen_ai.latency.time_in_queue": 0.001,
    "gen_ai.latency.time_in_model_prefill": 0.01,
    "gen_ai.latency.time_in_model_decode": 0.08,
    "gen_ai.latency.time_in_model_inference": 0.09,
}


def test_vllms_own_span_becomes_a_request():
    span = span_message(1, NATIVE, name="llm_request", kind=2)
    (row,) = requests(span, scope="vllm.tracing.otel", resource={"infer.replica": "r"})
    assert (row["source"], row["outcome"], row["engine"]) == ("vllm_span", "ok", "vllm")
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"], row["team"]) == (199, 9, None, None)
    assert (row["ttft_seconds"], row["e2e_seconds"], row["queue_seconds"]) == (0.02, 0.1, 0.001)
    assert (row["prefill_seconds"], row["decode_seconds"], row["tpot_seconds"]) == (0.01, 0.08, 0.01)
    assert dict(row["attributes"]) == {
        "gen_ai.request.id": "chatcmpl-1",
        "gen_ai.latency.time_in_model_inference": "0.09",
    }


@pytest.mark.parametrize("state", ["fleetmeter=1", "other=a, fleetmeter=1", "fleetmeter=1,b=2"])
def test_vllms_own_span_of_a_request_that_the_exporter_measured_is_no_second_request(state):
    span = span_message(1, NATIVE, name="llm_request", trace_state=state)
    decoded = decode_traces(traces_body(span, scope="vllm.tracing.otel"), NOW_US)
    assert list(decoded.tables) == ["spans"]


def test_another_tracestate_does_not_hide_vllms_span():
    span = span_message(1, NATIVE, name="llm_request", trace_state="vendor=fleetmeter")
    assert list(decode_traces(traces_body(span, scope="vllm.tracing.otel"), NOW_US).tables) == ["requests"]


SGLANG = {
    "rid": "1f3a9c0d4e5b", "module": "sglang::request", "gen_ai.request.id": "1f3a9c0d4e5b",
    "gen_ai.usage.prompt_tokens": 812, "gen_ai.usage.completion_tokens": 41, "gen_ai.usage.cached_tokens": 512,
    "gen_ai.request.max_tokens": 64, "gen_ai.response.model": "llama-3.1-8b",
    "gen_ai.response.finish_reasons": '["stop"]',
    "gen_ai.latency.time_to_first_token": 0.05, "gen_ai.latency.e2e": 0.85, "gen_ai.latency.time_in_queue": 0.002,
    "gen_ai.latency.time_in_model_prefill": 0.04, "gen_ai.latency.time_in_model_decode": 0.8,
}  # fmt: skip
SGLANG_SCOPE = "sglang server"


@pytest.mark.parametrize("name", [" Req 1f3a9c0d", "decode Req 1f3a9c0d"])
def test_sglangs_own_span_becomes_a_request(name):
    span = span_message(1, SGLANG, name=name, kind=1)
    (row,) = requests(span, scope=SGLANG_SCOPE, resource={"service.name": "sglang", "infer.replica": "s-0"})
    assert (row["source"], row["outcome"], row["engine"], row["replica"]) == ("sglang_span", "ok", "sglang", "s-0")
    assert (row["model"], row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (
        "llama-3.1-8b",
        812,
        41,
        512,
    )
    assert row["finish_reason"] == "stop"
    assert (row["ttft_seconds"], row["e2e_seconds"], row["queue_seconds"]) == (0.05, 0.85, 0.002)
    assert (row["prefill_seconds"], row["decode_seconds"], row["tpot_seconds"]) == (0.04, 0.8, 0.02)
    assert {"rid", "module", "gen_ai.request.id"} <= dict(row["attributes"]).keys()
    assert "gen_ai.usage.cached_tokens" not in dict(row["attributes"])


def test_a_request_that_sglang_aborted_is_one_whose_client_left():
    aborted = span_message(1, {**SGLANG, "gen_ai.response.finish_reasons": '["abort"]'}, name=" Req 1f3a9c0d")
    (row,) = requests(aborted, scope=SGLANG_SCOPE)
    assert (row["outcome"], row["finish_reason"]) == ("client_disconnect", "abort")


@pytest.mark.parametrize("reasons", ["[", "stop", '{"a": 1}', "[1]", "[" * 100_000])
def test_finish_reasons_in_another_form_stay_what_they_are(reasons):
    span = span_message(1, {**SGLANG, "gen_ai.response.finish_reasons": reasons}, name=" Req 1f3a9c0d")
    (row,) = requests(span, scope=SGLANG_SCOPE)
    assert (row["outcome"], row["finish_reason"][:1]) == ("ok", reasons[0])


@pytest.mark.parametrize(
    ("changes", "scope", "fields"),
    [
        ({}, SGLANG_SCOPE, {"name": "prefill Req 1f3a9c0d"}),
        ({}, SGLANG_SCOPE, {"name": "decode_loop"}),
        ({}, "langchain", {}),
        ({"gen_ai.usage.completion_tokens": None}, SGLANG_SCOPE, {}),
        ({}, SGLANG_SCOPE, {"trace_state": "fleetmeter=1"}),
    ],
)
def test_other_spans_of_sglang_and_those_of_measured_requests_are_no_requests(changes, scope, fields):
    attributes = {name: value for name, value in {**SGLANG, **changes}.items() if value is not None}
    span = span_message(1, attributes, **{"name": " Req 1f3a9c0d", **fields})
    assert list(decode_traces(traces_body(span, scope=scope), NOW_US).tables) == ["spans"]


@pytest.mark.parametrize("parent", [bytes(8), b"1234567", b"123456789", b""])
def test_a_parents_id_that_is_none_is_null(parent):
    decoded = decode_traces(traces_body(span_message(7, parent_span_id=parent)), NOW_US)
    assert decoded.tables["spans"]["parent_span_id"].to_pylist() == [None]


def test_a_span_keeps_what_it_said():
    span = span_message(
        7, {"db": "pg", "n": 3, "ok": True, "x": 0.5, "list": ["a", 1], "raw": b"\x00\x01"},
        name="retrieve", kind=3, parent_span_id=(5).to_bytes(8), status={"code": 2, "message": "boom"},
        events=[{"name": "exception", "attributes": key_values({"exception.type": "Timeout"})}],
    )  # fmt: skip
    decoded = decode_traces(traces_body(span, resource={"service.name": "gateway"}, scope="httpx"), NOW_US)
    (row,) = decoded.tables["spans"].to_pylist()
    assert row["parent_span_id"] == "0" * 15 + "5"
    assert (row["name"], row["kind"], row["service"], row["scope"]) == ("retrieve", "client", "gateway", "httpx")
    assert (row["status"], row["status_message"], row["duration_seconds"]) == ("error", "boom", 1.5)
    assert dict(row["attributes"]) == {
        "service.name": "gateway", "exception.type": "Timeout", "db": "pg", "n": "3", "ok": "true", "x": "0.5",
        "list": '["a", 1]', "raw": "AAE=",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["gen_ai.prompt", "gen_ai.prompt.0.content", "gen_ai.completion.0.content", "gen_ai.input.messages",
     "gen_ai.output.messages", "gen_ai.system_instructions", "input.value", "llm.input_messages.0.message.content"],
)  # fmt: skip
def test_prompts_and_completions_are_never_stored(name):
    assert dict(request({name: "a secret"})["attributes"]) == {}


def test_token_counts_are_no_content():
    assert request({"gen_ai.prompt_tokens_details": 3})["attributes"] == [("gen_ai.prompt_tokens_details", "3")]


def test_long_attributes_are_cut():
    ((_, text),) = request({"blob": "x" * 100_000})["attributes"]
    assert len(text) == 16_384
    assert text.endswith("…")


def test_a_key_that_comes_twice_has_its_last_value():
    span = span_message(1) | {"attributes": [*key_values({"a": 1}), *key_values({"a": 2})]}
    decoded = decode_traces(traces_body(span), NOW_US)
    assert decoded.tables["spans"].to_pylist()[0]["attributes"] == [("a", "2")]


def test_an_empty_body_is_an_empty_export():
    assert decode_traces(b"", NOW_US).rows_count == 0


@pytest.mark.parametrize("body", [b"garbage", b"\x0a\xff\xff\xff\xff\x0f", b'{"resourceSpans": []}'])
def test_garbage_is_refused(body):
    with pytest.raises(PermanentError, match="not an OTLP"):
        decode_traces(body, NOW_US)


VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=10),
    st.lists(st.one_of(st.text(max_size=5), st.integers(-5, 5)), max_size=3),
)  # fmt: skip


@given(
    attributes=st.dictionaries(
        st.one_of(st.sampled_from([one.name for one in semconv.REQUEST_ATTRIBUTES]), st.text(max_size=10)),
        VALUES, max_size=10,
    ),
    start=st.integers(0, 2**64 - 1),
    end=st.integers(0, 2**64 - 1),
    kind=st.integers(-1, 9),
    as_request=st.booleans(),
)  # fmt: skip
def test_any_span_becomes_one_row_or_one_reject(attributes, start, end, kind, as_request):
    if as_request:
        attributes["infer.request.outcome"] = "ok"
    spans = [
        span_message(1, attributes, kind=kind, end_time_unix_nano=end),
        span_message(2, attributes, start_time_unix_nano=start, end_time_unix_nano=end),
    ]
    decoded = decode_traces(traces_body(*spans, resource=attributes), NOW_US)
    assert decoded.accepted_count == decoded.rows_count
    assert decoded.accepted_count + len(decoded.rejected) == 2


def test_any_value_covers_every_kind_that_the_tests_send():
    assert any_value(b"x").WhichOneof("value") == "bytes_value"
