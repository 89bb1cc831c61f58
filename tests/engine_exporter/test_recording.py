"""The recording that comes with fleetmeter: whole, scrubbed, true, and movable."""

import gzip
import json
import re
from collections import Counter, defaultdict

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from engine_exporter import recording, semconv
from engine_exporter.catalog import examine
from engine_exporter.errors import ExporterError
from engine_exporter.page_text import read_page


def spans_of(body):
    for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


def attributes_of(span):
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


@pytest.fixture(scope="module")
def arrivals():
    return list(recording.arrivals())


@pytest.fixture(scope="module")
def requests(arrivals):
    traces = [arrival.body for arrival in arrivals if arrival.kind == recording.TRACES]
    rows = [attributes_of(span) for body in traces for span in spans_of(body)]
    return [row for row in rows if semconv.OUTCOME in row]


@pytest.fixture(scope="module")
def pages(arrivals):
    return [arrival.body.decode() for arrival in arrivals if arrival.kind == recording.METRICS_TEXT]


def test_its_requests_are_those_that_the_clients_made(requests):
    told = json.loads((recording.SAMPLE / "clients.json").read_text())
    seen = defaultdict(Counter)
    for row in requests:
        count = seen[row.get(semconv.TEAM, "nobody")]
        count[row[semconv.OUTCOME]] += 1
        if row[semconv.OUTCOME] == "ok":
            count["input_tokens"] += row[semconv.INPUT_TOKENS]
            count["cached_tokens"] += row[semconv.CACHED_TOKENS]
            count["output_tokens"] += row[semconv.OUTPUT_TOKENS]
    assert len(requests) == told["requests"]
    for team, counts in told["teams"].items():
        assert {key: seen[team][key] for key in counts} == counts


@pytest.mark.parametrize(
    ("metric", "attribute"),
    [
        ("vllm:prompt_tokens_total", semconv.INPUT_TOKENS),
        ("vllm:prompt_tokens_cached_total", semconv.CACHED_TOKENS),
        ("vllm:generation_tokens_total", semconv.OUTPUT_TOKENS),
    ],
)
def test_its_tokens_are_the_engines_own_counts(requests, pages, metric, attribute):
    first, last = (
        sum(float(value) for value in re.findall(rf"^{metric}\{{[^}}]*\}} (\S+)$", page, re.MULTILINE))
        for page in (pages[0], pages[-1])
    )
    assert sum(row.get(attribute, 0) for row in requests) == last - first > 0


def test_the_engines_own_spans_are_children_of_ours(arrivals):
    spans = [span for arrival in arrivals if arrival.kind == recording.TRACES for span in spans_of(arrival.body)]
    ours = {(span.trace_id, span.span_id) for span in spans if semconv.OUTCOME in attributes_of(span)}
    native = [span for span in spans if span.name == "llm_request"]
    assert len(native) > 500
    assert all((span.trace_id, span.parent_span_id) in ours for span in native)
    assert all(semconv.TRACESTATE_KEY in span.trace_state for span in native)


def test_nothing_of_the_machine_is_left(arrivals):
    text = gzip.decompress((recording.SAMPLE / recording.FILE).read_bytes()).decode()
    for arrival in arrivals:
        if arrival.kind == recording.TRACES:
            text += str(ExportTraceServiceRequest.FromString(arrival.body))
    for sign in ("/root", "/home/", "/tmp/", "site-packages", "127.0.0.1", "vllm.process_id", "sk-"):
        assert sign not in text


def test_every_name_that_fleetmeter_reads_is_served_by_this_engine(pages):
    found = examine(*read_page(pages[-1]), version="0.32.0")
    assert not found.missing and not found.unknown and not found.renamed


def test_arrivals_are_in_order_and_it_says_when_it_began(arrivals):
    offsets = [arrival.offset_seconds for arrival in arrivals]
    assert offsets == sorted(offsets)
    began = recording.about().began_unix_ns
    starts = [span.start_time_unix_nano for a in arrivals if a.kind == recording.TRACES for span in spans_of(a.body)]
    assert min(starts) > began - 60e9


def test_shifting_moves_every_time_and_changes_nothing_else(arrivals):
    body = next(arrival.body for arrival in arrivals if arrival.kind == recording.TRACES)
    moved = recording.shift_traces(body, 5_000_000_000)
    for before, after in zip(spans_of(body), spans_of(moved), strict=True):
        assert after.start_time_unix_nano - before.start_time_unix_nano == 5_000_000_000
        assert after.end_time_unix_nano - before.end_time_unix_nano == 5_000_000_000
    assert recording.shift_traces(moved, -5_000_000_000) == recording.shift_traces(body, 0)


def test_fresh_ids_keep_the_tree_and_are_the_same_every_time(arrivals):
    bodies = [arrival.body for arrival in arrivals if arrival.kind == recording.TRACES]
    once = [recording.shift_traces(body, 0, "replay 1") for body in bodies]
    assert once == [recording.shift_traces(body, 0, "replay 1") for body in bodies]
    before = [span for body in bodies for span in spans_of(body)]
    after = [span for body in once for span in spans_of(body)]
    other = {span.span_id for body in bodies for span in spans_of(recording.shift_traces(body, 0, "replay 2"))}
    assert not {span.span_id for span in before} & {span.span_id for span in after}
    assert not other & {span.span_id for span in after}
    ids = {span.span_id for span in after}
    assert len(ids) == len({span.span_id for span in before})
    for old, new in zip(before, after, strict=True):
        assert bool(old.parent_span_id) == bool(new.parent_span_id)
        if old.name == "llm_request":
            assert new.parent_span_id in ids
            assert f"{semconv.TRACESTATE_KEY}={new.parent_span_id.hex()}" in new.trace_state


def test_a_missing_or_damaged_recording_says_so(tmp_path):
    with pytest.raises(ExporterError, match="no recording at"):
        recording.about(tmp_path)
    path = tmp_path / recording.FILE
    path.write_bytes(gzip.compress(b'{"kind": "recording", "version": 9}\n'))
    with pytest.raises(ExporterError, match="not a recording of version 1"):
        recording.about(tmp_path)
    good = json.dumps({"kind": "recording", "version": 1, "engine": "x", "began_unix_ns": 0}).encode()
    path.write_bytes(gzip.compress(good + b"\n{oops\n"))
    with pytest.raises(ExporterError, match="damaged at line 2"):
        list(recording.arrivals(tmp_path))
    path.write_bytes((recording.SAMPLE / recording.FILE).read_bytes()[:20_000])
    with pytest.raises(ExporterError, match="damaged"):
        list(recording.arrivals(tmp_path))
