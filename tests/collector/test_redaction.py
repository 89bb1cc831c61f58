"""No prompt and no completion is kept; attributes are bounded in number and length."""

import json
from contextlib import closing
from datetime import UTC, datetime

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.attribute_values import MAX_TEXT_LENGTH, as_text
from collector.client import FileClient, HttpClient
from collector.redaction import ATTRIBUTES, AttributeRules
from collector.testing import running_collector, span_message, traces_body

NAMES = st.sampled_from(["a", "b", "gen_ai.prompt", "gen_ai.prompt.0.content", "Input.Value", "kept", "user.id"])
CELLS = st.none() | st.lists(st.tuples(NAMES, st.text(max_size=8)), max_size=6)


def rows(cells):
    numbers = pa.array(range(len(cells)))
    return pa.table({"number": numbers, "attributes": pa.array(cells, ATTRIBUTES)})


def by_hand(cell, rules):
    if cell is None:
        return None
    kept = [(name, value) for name, value in cell if not rules.drops(name)][: rules.count_limit]
    return [
        (name, value[: rules.value_bytes_limit] if len(value.encode()) > rules.value_bytes_limit else value)
        for name, value in kept
    ]


@given(st.lists(CELLS, max_size=12), st.integers(0, 5), st.integers(1, 6), st.integers(0, 4))
def test_the_columns_are_ruled_as_each_row_would_be(cells, count_limit, value_limit, cut):
    rules = AttributeRules(("gen_ai.prompt*", "input.value"), count_limit, value_limit)
    sliced = rows(cells).slice(cut)
    kept, _ = rules.applied(sliced)
    assert kept["attributes"].to_pylist() == [by_hand(cell, rules) for cell in cells[cut:]]
    assert kept["number"].to_pylist() == sliced["number"].to_pylist()


def test_what_is_dropped_is_counted_by_reason():
    table = rows([[("gen_ai.prompt", "x"), ("a", "1"), ("b", "2"), ("c", "333")], None])
    kept, counts = AttributeRules(("gen_ai.prompt",), 2, 2).applied(table)
    assert kept["attributes"].to_pylist() == [[("a", "1"), ("b", "2")], None]
    assert counts == {"redacted": 1, "too_many": 1, "too_long": 0}


def test_rows_that_need_nothing_are_left_as_they_are():
    table = rows([[("a", "1")], None, []])
    kept, counts = AttributeRules().applied(table)
    assert kept is table
    assert set(counts.values()) == {0}


@pytest.mark.parametrize("name", ["gen_ai.prompt", "GEN_AI.PROMPT.0.content", "Prompt", "messages", "completion"])
def test_contents_are_dropped_without_rules_too(name):
    assert AttributeRules(()).drops(name)


@pytest.mark.parametrize("name", ["gen_ai.prompts_count", "prompt_tokens", "gen_ai.usage.prompt_tokens", "http.url"])
def test_without_rules_all_else_is_kept(name):
    assert not AttributeRules(()).drops(name)


NESTED = [
    ("gen_ai", {"prompt": "S"}, "{}"),
    ("x", {"gen_ai.prompt": "S", "n": 1}, '{"n": 1}'),
    ("GEN_AI", {"Input": {"MESSAGES": ["S"]}}, '{"Input": {}}'),
    ("http", {"request.header.authorization": "S"}, "{}"),
    ("http", {"request": {"header": {"authorization": "S", "host": "h"}}}, '{"request": {"header": {"host": "h"}}}'),
    ("x", {"user.email": "S", "user": [{"name": "S"}, "u"]}, '{"user": [{}, "u"]}'),
    ("retrieval", [{"documents": "S"}], "[{}]"),
    ("gen_ai", {"retrieval": {"query": {"text": "S"}}}, '{"retrieval": {"query": {}}}'),
    ("x", {"a": 1, "b": ["x{", None]}, '{"a": 1, "b": ["x{", null]}'),
    ("x", ["{prompt"], '["{prompt"]'),
]


@pytest.mark.parametrize(("name", "value", "kept"), NESTED)
@pytest.mark.parametrize("around", [[], [("a", "1"), ("user.id", "x")]])
def test_names_inside_objects_are_ruled_alone_and_behind_those_they_stand_in(name, value, kept, around):
    table = rows([None, [*around, (name, json.dumps(value)), ("z", "{not JSON")], []]).slice(1)
    found = AttributeRules().applied(table)[0]["attributes"].to_pylist()
    assert found == [[*around[:1], (name, kept), ("z", "{not JSON")], []]


def test_an_object_that_was_cut_is_not_kept():
    table = rows([[("gen_ai", as_text({"a": "S" * MAX_TEXT_LENGTH, "prompt": "S"})), ("b", "2")]])
    kept, counts = AttributeRules().applied(table)
    assert kept["attributes"].to_pylist() == [[("b", "2")]]
    assert counts["redacted"] == 1


@pytest.mark.parametrize(("text", "kept"), [('{"a": [{"Prompt" : "S', False), ('{"a": "S', True), ("{'a': {}", True)])
def test_an_object_that_a_sender_cut_is_kept_where_no_name_in_it_is_dropped(text, kept):
    found, _ = AttributeRules().applied(rows([[("x", text)]]))
    assert found["attributes"].to_pylist() == [[("x", text)] if kept else []]


def test_what_changed_inside_is_counted():
    _, counts = AttributeRules().applied(rows([[("x", '{"prompt": 1}'), ("y", '{"a": 1}'), ("prompt", "S")]]))
    assert counts == {"redacted": 2, "too_many": 0, "too_long": 0}


def send(collector, span):
    headers = {"Content-Type": "application/x-protobuf"}
    assert httpx.post(collector.otlp_http + "/v1/traces", content=traces_body(span), headers=headers).status_code == 200


SECRETS = [
    ("gen_ai.prompt", "a secret"), ("gen_ai.input.messages", "a secret"), ("input.value", "a secret"),
    ("x", '{"messages": ["a secret"]}'), ("note", "kept"),
]  # fmt: skip


def secret_request():
    now = datetime.now(UTC).replace(tzinfo=None)
    return pa.table(
        {
            "trace_id": [f"{1:032x}"], "span_id": [f"{1:016x}"], "started_at": [now], "outcome": ["ok"],
            "source": ["otlp"], "estimated": [False], "attributes": pa.array([SECRETS], ATTRIBUTES),
        }
    )  # fmt: skip


def test_contents_in_rows_reach_no_table(data_dir):
    with running_collector(data_dir) as collector, closing(HttpClient(collector.api)) as client:
        assert client.land("requests", secret_request()) == 1
        assert collector.value("SELECT attributes::VARCHAR FROM requests") == "{x='{}', note=kept}"


def test_contents_in_rows_reach_no_file(tmp_path):
    with closing(FileClient(tmp_path / "file.duckdb", write=True)) as client:
        assert client.land("requests", secret_request()) == 1
        (found,) = client.query("SELECT attributes::VARCHAR AS text FROM requests").column("text").to_pylist()
    assert found == "{x='{}', note=kept}"


def test_nested_contents_of_spans_and_resources_reach_no_table(data_dir):
    nested = {f"{name}{number}" if name == "x" else name: value for number, (name, value, _) in enumerate(NESTED)}
    outcome = {"infer.request.outcome": "ok"}
    body = traces_body(
        span_message(1, {**nested, **outcome}), span_message(2, nested), resource={"r": {"user.email": "S"}}
    )
    with running_collector(data_dir) as collector:
        headers = {"Content-Type": "application/x-protobuf"}
        assert httpx.post(collector.otlp_http + "/v1/traces", content=body, headers=headers).status_code == 200
        collector.wait_until("SELECT count(*) FROM spans", 1)
        for table in ("requests", "spans"):
            text = str(collector.value(f"SELECT attributes::VARCHAR FROM {table}"))
            assert "S" not in text and "r='{}'" in text


def test_prompts_and_completions_reach_no_table(data_dir):
    names = ("gen_ai.prompt.0.content", "gen_ai.output.messages", "input.value", "ai.prompt.messages", "user.email")
    secrets = dict.fromkeys(names, "a secret")
    with running_collector(data_dir, FLEETMETER__COLLECTOR__ATTRIBUTE_VALUE_LIMIT="10") as collector:
        send(collector, span_message(1, {"infer.request.outcome": "ok", "note": "ü" * 30, **secrets}))
        send(collector, span_message(2, secrets))
        collector.wait_until("SELECT count(*) FROM spans", 1)
        for table in ("requests", "spans"):
            assert "secret" not in str(collector.value(f"SELECT attributes::VARCHAR FROM {table}"))
        assert collector.value("SELECT attributes['note'] FROM requests") == "ü" * 10
        assert collector.metric('fleetmeter_dropped_attributes_total{reason="redacted"}') == 4
        assert collector.metric('fleetmeter_dropped_attributes_total{reason="too_long"}') == 1
