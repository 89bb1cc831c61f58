"""The compiled walker gives the reference decoder's rows for any bytes, or leaves them to it."""

import gzip
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz_traces import RECEIVED_US, difference, some_body
from bench.request_spans import RESOURCE, request_span
from collector.attribute_values import CONTENT_PREFIXES, is_content
from collector.decode_traces import decode_traces
from collector.decoded import merged_entries, merged_tables
from collector.errors import PermanentError
from collector.self_metrics import SelfMetrics
from collector.spool_records import Record
from collector.testing import key_values, span_message, traces_body
from collector.trace_decoding import TOGETHER_BODY_BYTES, TOGETHER_BYTES, TraceDecoder
from collector.trace_walker import TraceWalker
from collector.walker import known, tables
from engine_exporter import semconv

OK = {semconv.OUTCOME: "ok"}
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=10),
    st.lists(st.one_of(st.text(max_size=5), st.integers(-5, 5), st.floats(), st.booleans()), max_size=3),
)  # fmt: skip
CONTENTS = st.builds(
    lambda name, upper, more: (name.upper() if upper else name.title()) + more,
    st.sampled_from(CONTENT_PREFIXES), st.booleans(),
    st.sampled_from(["", ".0", "s", "\u212a", "."]),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from([one.name for one in semconv.REQUEST_ATTRIBUTES]), st.text(max_size=10), CONTENTS,
    CONTENTS.map(lambda name: name.replace("k", "\u212a").replace("i", "\u0130")),
)  # fmt: skip
NESTED = st.recursive(VALUES, lambda value: st.dictionaries(NAMES, value, max_size=2), max_leaves=4)


@pytest.fixture(scope="module")
def walker():
    return TraceWalker()


def walk(walker, body):
    (walked,) = walker.decode([(body, RECEIVED_US)])
    return walked


def assert_same(walker, body):
    assert difference(body, walk(walker, body)) == ""


def assert_walked(walker, body):
    """It is no body for the reference, and the rows are the same."""
    walked = walk(walker, body)
    assert walked is not None
    assert difference(body, walked) == ""


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    own=st.dictionaries(NAMES, NESTED, max_size=8), of_resource=st.dictionaries(NAMES, VALUES, max_size=6),
    start=st.one_of(st.just(1_790_000_000_000_000_001), st.integers(0, 2**64 - 1)), end=st.integers(0, 2**64 - 1),
    kind=st.integers(-1, 9), name=st.sampled_from(["chat", "llm_request", ""]), as_request=st.booleans(),
)  # fmt: skip
def test_any_span_gives_the_rows_of_the_reference(walker, own, of_resource, start, end, kind, name, as_request):
    attributes = {**own, **(OK if as_request else {})}
    fields = {"start_time_unix_nano": start, "end_time_unix_nano": end, "kind": kind, "name": name}
    assert_same(walker, traces_body(span_message(1, attributes, **fields), span_message(2, own), resource=of_resource))


@pytest.mark.parametrize("scope", ["sglang server", "langchain"])
@pytest.mark.parametrize("name", [" Req 1f3a9c0d", "decode Req 1f3a", "prefill Req 1f3a", "Req ", " Req ", "chat"])
def test_sglangs_own_spans_give_the_rows_of_the_reference(walker, scope, name):
    attributes = {"gen_ai.usage.completion_tokens": 5, "gen_ai.usage.cached_tokens": 3, "rid": "1f3a"}
    assert_same(walker, traces_body(span_message(1, attributes, name=name), span_message(2), scope=scope))


def test_a_span_with_sglangs_attribute_and_another_name_is_walked(walker):
    assert_walked(walker, traces_body(span_message(1, {"gen_ai.usage.completion_tokens": 5}, name="chat")))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_what_the_reference_gives(walker, body):
    assert_same(walker, body)


@settings(deadline=None)
@given(cut=st.integers(0, 2000), at=st.integers(0, 2000), byte=st.integers(0, 255))
def test_a_body_with_a_byte_changed_and_its_end_cut_gives_what_the_reference_gives(walker, cut, at, byte):
    body = bytearray(traces_body(*map(request_span, range(1, 4)), resource=RESOURCE))
    body[at % len(body)] = byte
    assert_same(walker, bytes(body))
    assert_same(walker, bytes(body[: cut % len(body)]))


def test_odd_bodies_of_a_thousand_seeds_give_what_the_reference_gives(walker):
    bodies = [some_body(random.Random(seed)) for seed in range(1000)]
    walked = walker.decode([(body, RECEIVED_US) for body in bodies])
    assert [found for body, one in zip(bodies, walked, strict=True) if (found := difference(body, one))] == []
    assert sum(one is not None for one in walked) > 200, "most of the test was left to the reference"


@pytest.mark.parametrize(
    "span",
    [
        request_span(1),
        span_message(1, {**OK, "gen_ai.usage.input_tokens": 12.0, "infer.latency.ttft_seconds": 1, "infer.team": 7}),
        span_message(1, {**OK, "gen_ai.usage.input_tokens": -1, "infer.latency.ttft_seconds": 1e300, "x": 0.1}),
        span_message(1, {**OK, "gen_ai.usage.input_tokens": 2**63 - 1, "infer.preemptions_count": 2**40}),
        span_message(1, {**OK, "gen_ai.response.model": "from the response", "gen_ai.response.id": "r-1"}),
        span_message(1, {**OK, "infer.team": "検索", "infer.app": "naïve", "gen_ai.prompt": "a secret"}),
        span_message(1, {"db": "pg", "n": -3, "x": 0.1, "ok": True, "list": ["a", 1, 0.5, True]}, kind=3),
        span_message(1, status={"code": 2, "message": "boom"}, parent_span_id=b"12345678", trace_state="a=b"),
        span_message(1, parent_span_id=bytes(8)),
        span_message(1, events=[{"name": "exception", "attributes": key_values({"exception.type": "Timeout"})}]),
        span_message(1, links=[{"trace_id": bytes(16), "span_id": bytes(8), "attributes": key_values({"a": 1})}]),
        span_message(1, {"gen_ai.usage.prompt_tokens": 5, "gen_ai.latency.e2e": 0.1}, name="llm_request"),
    ],
)  # fmt: skip
def test_the_usual_spans_are_decoded_by_the_walker_itself(walker, span):
    resource = {**RESOURCE, "process.command_args": ["python", "serve.py"], "process.pid": 7, "host.name": "h"}
    assert_walked(walker, traces_body(span, resource=resource))


@settings(deadline=None)
@given(st.dictionaries(CONTENTS, VALUES, max_size=8))
def test_names_of_contents_are_left_out_in_any_case(walker, attributes):
    body = traces_body(span_message(1, {**attributes, "Gen_AI.Prompt.0": "S", "PROMPT": "S", "Promptly": "kept"}))
    assert_same(walker, body)
    (cell,) = merged_tables([decode_traces(body, RECEIVED_US)])["spans"]["attributes"].to_pylist()
    names = [name for name, _ in cell]
    assert not any(map(is_content, names)) and "Promptly" in names


def test_a_value_that_fits_no_column_beside_the_same_by_vllms_name_is_left_to_the_reference(walker):
    attributes = {"infer.latency.queue_seconds": False, "gen_ai.latency.time_in_queue": 0.7}
    assert_same(walker, traces_body(span_message(1, attributes, name="llm_request")))


def test_the_comparison_sees_a_wrong_cell(walker):
    body = traces_body(request_span(1), resource=RESOURCE)
    walked = walk(walker, body)
    walked.walked[0].cells[0, known.COLUMN_PLACES["output_tokens"]] += 1
    assert "output_tokens" in difference(body, walked)


def test_bodies_of_one_walk_stay_apart(walker):
    bodies = [traces_body(span_message(number, OK, name="n" * number)) for number in range(1, 6)]
    bodies[2] = b"garbage"
    walked = walker.decode([(body, RECEIVED_US) for body in bodies])
    assert [one is None for one in walked] == [False, False, True, False, False]
    rows = [merged_tables([one])["requests"].to_pylist()[0]["span_id"] for one in walked if one is not None]
    assert rows == [f"{number:016x}" for number in (1, 2, 4, 5)]


def test_bodies_that_are_decoded_together_give_the_rows_of_each_alone(walker):
    bodies = [some_body(random.Random(seed)) for seed in range(300)]
    received = [(body, RECEIVED_US + at) for at, body in enumerate(bodies)]
    alone = walker.decode(received)
    together, counts = walker.decode_together(received)
    assert counts == [-1 if one is None else one.accepted_count for one in alone]
    assert (
        min(counts) == -1 and max(counts) > 0 and together.accepted_count == sum(count for count in counts if count > 0)
    )
    assert merged_tables([together]) == merged_tables([one for one in alone if one is not None])


def test_bodies_of_several_epochs_are_decoded_together():
    small = tuple(min(limit, 300) if number in (2, 4) else limit for number, limit in enumerate(tables.LIMITS))
    spans = [span_message(number, {**OK, "infer.team": f"team {number}", "x": number / 7}) for number in range(1, 1500)]
    bodies = [(traces_body(*spans[at : at + 50]), RECEIVED_US) for at in range(0, len(spans), 50)]
    together, counts = TraceWalker(small).decode_together(bodies)
    assert (len(counts), sum(counts)) == (30, 1499) and len(together.walked) > 3, "one part an epoch"
    expected = merged_tables([decode_traces(body, at) for body, at in bodies])["requests"]
    found = merged_tables([together])["requests"].select(expected.column_names)
    by_id = [("span_id", "ascending")]
    assert found.sort_by(by_id).to_pylist() == expected.sort_by(by_id).to_pylist()


def small_record(body, at=0, encoding="identity"):
    return Record("traces", encoding, RECEIVED_US + at, {}, body)


def test_small_bodies_become_one_record_and_odd_ones_stay_their_own(walker):
    good = [traces_body(span_message(number, OK), resource=RESOURCE) for number in range(1, 6)]
    partly = traces_body(span_message(50, OK), span_message(51, trace_id=b"short"))
    large = traces_body(*(span_message(number, OK) for number in range(100, 400)))
    assert len(large) > TOGETHER_BODY_BYTES
    bodies = [good[0], b"garbage", gzip.compress(good[1]), partly, b"", large, good[2], good[3], good[4]]
    encodings = ["gzip" if body[:2] == b"\x1f\x8b" else "identity" for body in bodies]
    records = [small_record(body, at, encodings[at]) for at, body in enumerate(bodies)]
    metrics = SelfMetrics()
    kept, rest = TraceDecoder(metrics, 10**6, walker).decode_for_spool(records)
    assert [number for number, _ in rest] == [1, 4]
    assert isinstance(rest[0][1], PermanentError) and rest[1][1].accepted_count == 0
    together, *alone = kept
    assert [number for number, _ in together.answers] == [0, 2, 6, 7, 8]
    assert all(answer.accepted_count == 1 and not answer.rejected for _, answer in together.answers)
    assert together.record == small_record(b"".join(good))
    (again,) = TraceDecoder(metrics, 10**6).decode([together.record])
    assert plain_rows(again) == plain_rows(together.rows), "read again from the spool, they are the same rows"
    assert [[number for number, _ in one.answers] for one in alone] == [[3], [5]]
    assert [len(one.rows.rejected) for one in alone] == [1, 0]
    assert b'fleetmeter_decoded_bodies_total{decoder="walker"} 7.0' in metrics.exposition()


def plain_rows(decoded):
    return {name: rows.select(sorted(rows.column_names)).to_pylist() for name, rows in merged_tables([decoded]).items()}


@pytest.mark.parametrize("limit", [2**20, 2000])
def test_a_record_of_small_bodies_is_never_larger_than_one_body_may_be(walker, limit):
    bodies = [traces_body(span_message(number, OK), resource=RESOURCE) for number in range(1, 2000)]
    decoder = TraceDecoder(SelfMetrics(), limit, walker)
    kept, rest = decoder.decode_for_spool([small_record(body) for body in bodies])
    assert not rest and sum(len(one.answers) for one in kept) == 1999 and len(kept) > 1
    assert max(sum(len(bodies[number]) for number, _ in one.answers) for one in kept) <= min(limit, TOGETHER_BYTES)
    assert [answer.accepted_count for answer in decoder.decode([one.record for one in kept])] == [
        len(one.answers) for one in kept
    ]


def test_full_tables_begin_anew_and_rows_of_several_epochs_land_together():
    small = tuple(min(limit, 300) if number in (2, 4) else limit for number, limit in enumerate(tables.LIMITS))
    walker = TraceWalker(small)
    spans = [span_message(number, {**OK, "infer.team": f"team {number}", "x": number / 7}) for number in range(1, 1500)]
    bodies = [traces_body(*spans[at : at + 50]) for at in range(0, len(spans), 50)]
    walked = walker.decode([(body, RECEIVED_US) for body in bodies])
    assert [difference(body, one) for body, one in zip(bodies, walked, strict=True) if one is not None] == [""] * 30
    assert len(merged_entries([one for one in walked if one is not None])) > 3, "one entry an epoch"
    (rows,) = merged_tables([one for one in walked if one is not None]).values()
    assert rows.num_rows == 1499


def test_a_body_of_more_names_than_tables_hold_is_left_to_the_reference(walker):
    body = traces_body(*(span_message(one, {f"name {one} {at}": 1 for at in range(50)}) for one in range(1, 200)))
    assert walk(walker, body) is None
    assert_walked(walker, traces_body(request_span(1), resource=RESOURCE))


def test_a_body_of_very_many_spans_makes_the_output_grow(walker):
    body = traces_body(*(span_message(number, OK) for number in range(1, 20_000)))
    walked = walk(walker, body)
    assert walked is not None
    assert walked.accepted_count == 19_999


@pytest.mark.parametrize(
    "body", [b"garbage", traces_body(span_message(1, trace_id=b"bad")), traces_body(span_message(1, OK))]
)
def test_the_decoder_of_groups_answers_as_the_reference_alone(walker, body):
    record = Record("traces", "identity", RECEIVED_US, {}, body)
    (answer,) = TraceDecoder(SelfMetrics(), 10**6, walker).decode([record])
    try:
        expected = decode_traces(body, RECEIVED_US)
    except PermanentError as error:
        assert str(answer) == str(error)
    else:
        assert answer.rejected == expected.rejected
        assert answer.accepted_count == expected.accepted_count


def test_without_the_walker_the_reference_decodes_all():
    metrics = SelfMetrics()
    record = Record("traces", "identity", RECEIVED_US, {}, traces_body(span_message(1, OK)))
    (answer,) = TraceDecoder(metrics, 10**6).decode([record])
    assert answer.accepted_count == 1
    assert b'fleetmeter_decoded_bodies_total{decoder="reference"} 1.0' in metrics.exposition()
