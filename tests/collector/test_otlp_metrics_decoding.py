"""The walker and the protobuf library give the same rows, or the same error, for any OTLP-metrics body."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.decode_metrics import decode_metrics
from collector.errors import PermanentError
from collector.points.otlp import OtlpWalker, decode_otlp_metrics
from collector.testing import key_values

NOW_US = 1_790_000_000_000_000
AT_NS = NOW_US * 1000

names = st.sampled_from(["g", "vllm.latency", "infer.exporter.requests", "hw.power", "", "naïve"])
values = st.sampled_from(["x", 1, 2.5, True, ["a"], ""])
attributes = st.dictionaries(
    st.sampled_from(["model", "engine", "gen_ai.prompt", "replica", "hw.id"]), values, max_size=3
)
times = st.sampled_from([AT_NS, AT_NS + 1_000_000, 0]) | st.sampled_from([AT_NS, 5, 2**63])
doubles = st.floats() | st.integers(0, 9).map(float)


@st.composite
def exemplars(draw):
    if draw(st.integers(0, 5)):
        return []
    return [
        {
            "as_double": draw(doubles),
            "time_unix_nano": draw(times),
            "trace_id": draw(st.sampled_from([b"", b"\1" * 16])),
            "span_id": draw(st.sampled_from([b"", b"\2" * 8])),
            "filtered_attributes": key_values(draw(attributes)),
        }
    ]


@st.composite
def common(draw):
    return {
        "time_unix_nano": draw(times),
        "attributes": key_values(draw(attributes)),
        "flags": draw(st.sampled_from([0] * 9 + [1])),
    }


@st.composite
def numbers(draw):
    value = draw(st.sampled_from(["as_int", "as_double", None, "as_double"]))
    own = {value: draw(st.integers(-(2**63), 2**63 - 1)) if value == "as_int" else draw(doubles)} if value else {}
    return {**draw(common()), **own, "exemplars": draw(exemplars())}


@st.composite
def histograms(draw):
    bounds = draw(st.lists(st.floats(-5, 5) | st.sampled_from([math.nan, math.inf]), max_size=4))
    bounds = sorted(bounds) if draw(st.integers(0, 4)) else bounds
    counts = draw(
        st.lists(
            st.integers(0, 9) | st.sampled_from([2**63, 2**64 - 1]), min_size=len(bounds) + 1, max_size=len(bounds) + 1
        )
    )
    counts = [min(count, 9) for count in counts] if draw(st.integers(0, 6)) else counts
    counts = counts if draw(st.integers(0, 9)) else counts[1:]
    total = sum(counts) % 2**64 if draw(st.integers(0, 9)) else draw(st.integers(0, 2**64 - 1))
    own = {"explicit_bounds": bounds, "bucket_counts": counts, "count": total, "exemplars": draw(exemplars())}
    return {**draw(common()), **own, **({"sum": draw(doubles)} if draw(st.booleans()) else {})}


@st.composite
def exponentials(draw):
    positive = draw(st.lists(st.integers(0, 4), max_size=4))
    negative = draw(st.lists(st.integers(0, 4), max_size=2)) if draw(st.integers(0, 2)) == 0 else []
    zero = draw(st.integers(0, 2))
    return {
        **draw(common()),
        "count": sum(positive) + sum(negative) + zero + (draw(st.integers(0, 9)) == 0),
        "sum": draw(doubles),
        "scale": draw(st.integers(-2, 8) | st.sampled_from([-99, -10, 60])),
        "zero_count": zero,
        "zero_threshold": draw(st.sampled_from([0.0, 0.0, 0.01, -1.0])),
        "positive": {"offset": draw(st.integers(-4, 4) | st.sampled_from([1022, 2**30])), "bucket_counts": positive},
        "negative": {"offset": draw(st.integers(-4, 4)), "bucket_counts": negative},
    }


@st.composite
def summaries(draw):
    quantiles = [{"quantile": 0.5, "value": draw(doubles)}]
    return {**draw(common()), "count": draw(st.integers(0, 9)), "sum": draw(doubles), "quantile_values": quantiles}


@st.composite
def metrics(draw):
    kind = draw(st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary", "gauge", "sum"]))
    points = {"gauge": numbers, "sum": numbers, "histogram": histograms, "exponential_histogram": exponentials}
    data = {"data_points": draw(st.lists(points.get(kind, summaries)(), max_size=3))}
    if kind not in ("gauge", "summary"):
        data["aggregation_temporality"] = draw(st.integers(0, 2))
    if kind == "sum":
        data["is_monotonic"] = draw(st.booleans())
    return {"name": draw(names), "unit": draw(st.sampled_from(["", "s"])), "description": "what", kind: data}


@st.composite
def requests(draw):
    request = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource = request.resource_metrics.add(schema_url=draw(st.sampled_from(["", "https://x/1.2"])))
        if draw(st.booleans()):
            resource.resource.attributes.extend(key_values({"service.name": "v", **draw(attributes)}))
        scope = resource.scope_metrics.add()
        scope.scope.name = "meter"
        for one in draw(st.lists(metrics(), max_size=3)):
            scope.metrics.add(**one)
    return request


def outcome(decode):
    try:
        decoded = decode()
    except PermanentError as error:
        return str(error)
    tables = {}
    for table, rows in decoded.tables.items():
        kept = {}
        for row in rows.to_pylist():
            key = tuple(
                repr(row.get(name)) for name in ("series_id", "observed_at", "gpu_uuid", "sampled_at", "event_id")
            )
            kept.setdefault((*key, row["value"]) if table == "metric_exemplars" else key, row)
        tables[table] = sorted((sorted(row.items()) for row in kept.values()), key=repr)
    rejected = sorted((one.reason, one.item) for one in decoded.rejected)
    return repr(sorted(tables.items())), rejected, decoded.accepted_count


def assert_same(body):
    expected = outcome(lambda: decode_metrics(body, NOW_US))
    assert outcome(lambda: decode_otlp_metrics(body, NOW_US)) == expected
    walked = OtlpWalker().decode(body, NOW_US)
    if walked is not None:
        assert outcome(lambda: walked) == expected
    return walked is not None


@settings(max_examples=120, deadline=None)
@given(requests())
def test_both_give_the_same_rows(request):
    assert_same(request.SerializeToString())


@settings(max_examples=120, deadline=None)
@given(requests(), st.integers())
def test_both_judge_damaged_bytes_alike(request, seed):
    chance, body = random.Random(seed), bytearray(request.SerializeToString())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(4):
            case 0:
                body = body[:at]
            case 1:
                body[at:at] = chance.randbytes(chance.randint(1, 3))
            case 2:
                del body[at : at + 1]
            case _ if at < len(body):
                body[at] ^= 1 << chance.randrange(8)
    assert_same(bytes(body))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_both_judge_any_bytes_alike(body):
    assert_same(body)


def request_of(*found):
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.extend([])
    for one in found:
        request.resource_metrics[0].scope_metrics[0].metrics.add(**one)
    return request.SerializeToString()


def histogram(**fields):
    point = {
        "time_unix_nano": AT_NS,
        "count": 3,
        "sum": 1.0,
        "explicit_bounds": [1.0],
        "bucket_counts": [1, 2],
        **fields,
    }
    return {"name": "h", "histogram": {"aggregation_temporality": 2, "data_points": [point]}}


def test_plain_points_of_every_kind_are_walked():
    number = {"time_unix_nano": AT_NS, "as_double": 1.0, "attributes": key_values({"a": "b"})}
    exponential = {"time_unix_nano": AT_NS, "count": 2, "scale": 0, "positive": {"offset": 0, "bucket_counts": [1, 1]}}
    body = request_of(
        {"name": "g", "gauge": {"data_points": [number]}},
        {"name": "s", "sum": {"aggregation_temporality": 1, "data_points": [number]}},
        histogram(),
        {"name": "e", "exponential_histogram": {"aggregation_temporality": 2, "data_points": [exponential]}},
        {"name": "q", "summary": {"data_points": [{"time_unix_nano": AT_NS, "count": 1, "sum": 2.0}]}},
    )
    assert assert_same(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"explicit_bounds": [math.nan]}, {"explicit_bounds": [math.inf]}, {"bucket_counts": [2**63, 2**63 + 3]},
        {"count": 2**63, "bucket_counts": [2**63, 0]}, {"explicit_bounds": [1.0, 1.0], "bucket_counts": [1, 1, 1]},
        {"count": 2**64 - 1, "bucket_counts": [], "explicit_bounds": []},
    ],
)  # fmt: skip
def test_a_histogram_that_can_not_be_is_a_bad_point_and_its_neighbours_stay(wrong):
    body = request_of(histogram(**wrong), {**histogram(), "name": "good"})
    assert_same(body)
    found = decode_otlp_metrics(body, NOW_US)
    assert (found.accepted_count, len(found.rejected)) == (1, 1)


def test_negative_values_of_an_exponential_histogram_have_bounds_below_zero():
    point = {
        "time_unix_nano": AT_NS, "count": 6, "scale": 0, "zero_count": 1, "zero_threshold": 0.25,
        "positive": {"offset": 0, "bucket_counts": [2]}, "negative": {"offset": 1, "bucket_counts": [3]},
    }  # fmt: skip
    body = request_of({"name": "e", "exponential_histogram": {"aggregation_temporality": 2, "data_points": [point]}})
    (row,) = decode_otlp_metrics(body, NOW_US).tables["metric_histograms"].to_pylist()
    assert row["bounds"] == [-4.0, -2.0, -0.25, 0.25, 1.0, 2.0]
    assert row["bucket_counts"] == [0, 3, 0, 1, 0, 2, 0]


def test_an_exemplar_leads_to_its_trace():
    exemplar = {"as_double": 0.7, "time_unix_nano": AT_NS, "trace_id": b"\1" * 16, "span_id": b"\2" * 8}
    found = (
        decode_otlp_metrics(request_of(histogram(exemplars=[exemplar])), NOW_US).tables["metric_exemplars"].to_pylist()
    )
    assert [(row["trace_id"], row["span_id"], row["value"]) for row in found] == [("01" * 16, "02" * 8, 0.7)]


def test_many_series_and_resources_make_the_cache_grow():
    request = ExportMetricsServiceRequest()
    for number in range(300):
        resource = request.resource_metrics.add()
        resource.resource.attributes.extend(key_values({"replica": f"r{number}", "pad": "x" * 4000}))
        metrics = resource.scope_metrics.add().metrics
        for name in range(20):
            metric = metrics.add(name=f"m{name}")
            metric.gauge.data_points.add(time_unix_nano=AT_NS, as_int=number)
    assert assert_same(request.SerializeToString())
