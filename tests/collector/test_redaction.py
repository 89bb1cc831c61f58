"""No prompt and no completion is kept; attributes are bounded in number and length."""

import httpx
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

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


def test_without_rules_everything_is_kept():
    assert not AttributeRules(()).drops("gen_ai.prompt")


def send(collector, span):
    headers = {"Content-Type": "application/x-protobuf"}
    assert httpx.post(collector.otlp_http + "/v1/traces", content=traces_body(span), headers=headers).status_code == 200


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
