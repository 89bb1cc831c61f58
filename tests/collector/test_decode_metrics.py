"""OTLP metrics in, series, points and histograms out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.decode_metrics import decode_metrics
from collector.errors import PermanentError
from collector.metric_rows import series_id
from collector.testing import key_values
from engine_exporter import semconv

NOW_US = 1_790_000_100_000_000
AT_NS = 1_790_000_000_000_000_000
CUMULATIVE, DELTA = 2, 1


def number(value, **attributes):
    kind = "as_int" if isinstance(value, int) else "as_double"
    return {"time_unix_nano": AT_NS, kind: value, "attributes": key_values(attributes)}


def gauge(name, *points):
    return {"name": name, "unit": "1", "gauge": {"data_points": list(points)}}


def total(name, *points, temporality=CUMULATIVE, monotonic=True):
    return {"name": name, "sum": {
        "data_points": list(points), "aggregation_temporality": temporality, "is_monotonic": monotonic,
    }}  # fmt: skip


def histogram(name, temporality=CUMULATIVE, **point):
    point = {"time_unix_nano": AT_NS, **point}
    return {"name": name, "unit": "s", "histogram": {"data_points": [point], "aggregation_temporality": temporality}}


def body_of(*metrics, resource=None):
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.extend(key_values(resource or {}))
    scope = resource_metrics.scope_metrics.add()
    for metric in metrics:
        scope.metrics.add(**metric)
    return request.SerializeToString()


def decoded(*metrics, resource=None):
    return decode_metrics(body_of(*metrics, resource=resource), NOW_US)


def series_and_value(*metrics, resource=None):
    tables = decoded(*metrics, resource=resource).tables
    (series,), (point,) = tables["metric_series"].to_pylist(), tables["metric_points"].to_pylist()
    assert series["series_id"] == point["series_id"]
    return series, point["value"]


def test_a_gauge_keeps_its_labels_and_those_of_its_resource():
    series, value = series_and_value(
        gauge("infer.engine.requests_running", number(3, engine="0")),
        resource={"infer.replica": "r1", "gen_ai.request.model": "llama", "telemetry.sdk.name": "x", "process.pid": 7},
    )
    assert value == 3.0
    assert (series["name"], series["kind"], series["unit"]) == ("infer.engine.requests_running", "gauge", "{request}")
    assert (series["replica"], series["model"]) == ("r1", "llama")
    assert series["labels"] == [("engine", "0"), ("gen_ai.request.model", "llama"), ("infer.replica", "r1")]


def test_an_engines_name_becomes_the_canonical_one():
    series, _ = series_and_value(total("vllm:prompt_tokens", number(5)))
    assert (series["name"], series["original_name"]) == ("infer.engine.input_tokens", "vllm:prompt_tokens")


@pytest.mark.parametrize(
    ("temporality", "monotonic", "kind"),
    [(CUMULATIVE, True, "counter"), (CUMULATIVE, False, "gauge"), (DELTA, True, "delta"), (0, True, "delta")],
)
def test_a_sum_says_what_it_sums(temporality, monotonic, kind):
    series, value = series_and_value(total("x", number(5), temporality=temporality, monotonic=monotonic))
    assert (series["kind"], value) == (kind, 5.0)


def test_a_histogram_keeps_bounds_and_counts():
    tables = decoded(histogram("h", count=6, sum=2.5, bucket_counts=[1, 2, 3], explicit_bounds=[0.1, 0.5])).tables
    (row,) = tables["metric_histograms"].to_pylist()
    assert (row["count"], row["sum"]) == (6, 2.5)
    assert (row["bounds"], row["bucket_counts"]) == ([0.1, 0.5], [1, 2, 3])
    assert tables["metric_series"].to_pylist()[0]["kind"] == "histogram"


def test_a_histogram_of_deltas_says_so():
    tables = decoded(histogram("h", DELTA, count=1, bucket_counts=[1])).tables
    assert tables["metric_series"].to_pylist()[0]["kind"] == "delta_histogram"
    assert tables["metric_histograms"].to_pylist()[0]["sum"] is None


@pytest.mark.parametrize(
    "point",
    [
        {"count": 3, "bucket_counts": [1, 2], "explicit_bounds": [0.1, 0.5]},
        {"count": 9, "bucket_counts": [1, 2], "explicit_bounds": [0.1]},
        {"count": 3, "bucket_counts": [1, 1, 1], "explicit_bounds": [0.5, 0.1]},
        {"count": 2**63, "bucket_counts": [2**63]},
    ],
)
def test_a_histogram_that_does_not_fit_together_is_rejected_alone(point):
    found = decoded(histogram("bad", **point), gauge("good", number(1)))
    assert len(found.rejected) == 1
    assert found.message.startswith("bad: ")
    assert [row["name"] for row in found.tables["metric_series"].to_pylist()] == ["good"]


def test_an_exponential_histogram_gets_explicit_bounds():
    point = {"time_unix_nano": AT_NS, "count": 7, "sum": 20.0, "scale": 0, "zero_count": 1,
             "positive": {"offset": 1, "bucket_counts": [2, 4]}}  # fmt: skip
    metric = {"name": "e", "exponential_histogram": {"data_points": [point], "aggregation_temporality": CUMULATIVE}}
    (row,) = decoded(metric).tables["metric_histograms"].to_pylist()
    assert row["bounds"] == [2.0, 4.0, 8.0]
    assert row["bucket_counts"] == [1, 2, 4, 0]


def exponential(**point):
    data = {"data_points": [{"time_unix_nano": AT_NS, **point}], "aggregation_temporality": CUMULATIVE}
    return {"name": "e", "exponential_histogram": data}


@pytest.mark.parametrize("fields", [{"count": 6}, {"count": 8}, {"count": 7, "zero_count": 0}, {"zero_threshold": 0.5}])
def test_an_exponential_histogram_whose_buckets_are_not_its_count_is_rejected(fields):
    point = {"count": 8, "zero_count": 1, "positive": {"offset": 1, "bucket_counts": [2, 4]}, **fields}
    (rejected,) = decoded(exponential(**point)).rejected
    assert "observations and the count says" in rejected.reason


@pytest.mark.parametrize(
    ("scale", "offset", "counts", "bounds", "bucket_counts"),
    [
        (-10, 0, [2], [1.0], [1, 2]),
        (-10, -1, [2], [2.0**-1024, 1.0], [1, 2, 0]),
        (-10, -1, [2, 3], [2.0**-1024, 1.0], [1, 2, 3]),
        (-10, -3, [0, 2], [0.0, 2.0**-1024], [1, 2, 0]),
        (0, 1023, [2], [2.0**1023], [1, 2]),
        (0, 1022, [2, 3, 0, 0], [2.0**1022, 2.0**1023], [1, 2, 3]),
        (0, 2000, [0], [], [1]),
    ],
)
def test_exponential_buckets_may_reach_as_far_as_floats_do(scale, offset, counts, bounds, bucket_counts):
    buckets = {"offset": offset, "bucket_counts": counts}
    metric = exponential(count=1 + sum(counts), scale=scale, zero_count=1, positive=buckets)
    (row,) = decoded(metric).tables["metric_histograms"].to_pylist()
    assert (row["bounds"], row["bucket_counts"]) == (bounds, bucket_counts)


def test_empty_buckets_beyond_a_float_do_no_harm_beside_negative_ones():
    metric = exponential(
        count=5, positive={"offset": 1023, "bucket_counts": [2, 0, 0]}, negative={"offset": 1023, "bucket_counts": [3]}
    )
    (row,) = decoded(metric).tables["metric_histograms"].to_pylist()
    assert (row["bounds"], row["bucket_counts"]) == ([-(2.0**1023), 2.0**1023], [3, 0, 2])


def test_an_exponential_histogram_beyond_a_float_is_rejected():
    for scale, offset in ((-10, 5), (60, 10), (-5000, 1), (5000, 1)):
        point = {
            "time_unix_nano": AT_NS,
            "count": 1,
            "scale": scale,
            "positive": {"offset": offset, "bucket_counts": [1]},
        }
        metric = {"name": "e", "exponential_histogram": {"data_points": [point], "aggregation_temporality": CUMULATIVE}}
        assert len(decoded(metric).rejected) == 1


def test_a_summary_becomes_what_prometheus_makes_of_it():
    point = {"time_unix_nano": AT_NS, "count": 4, "sum": 2.0, "quantile_values": [{"quantile": 0.5, "value": 0.3}]}
    tables = decoded({"name": "s", "summary": {"data_points": [point]}}).tables
    values = {row["series_id"]: row["value"] for row in tables["metric_points"].to_pylist()}
    found = {(row["name"], row["kind"], tuple(row["labels"])): values[row["series_id"]]
             for row in tables["metric_series"].to_pylist()}  # fmt: skip
    assert found == {
        ("s_count", "counter", ()): 4.0, ("s_sum", "counter", ()): 2.0, ("s", "gauge", (("quantile", "0.5"),)): 0.3,
    }  # fmt: skip


def test_nan_is_no_point():
    found = decoded(gauge("g", number(math.nan)))
    assert (dict(found.tables), found.rejected) == ({}, ())


def test_a_point_without_a_recorded_value_ends_its_series():
    ended = {"time_unix_nano": AT_NS, "flags": 1}
    quantiles = {**ended, "quantile_values": [{"quantile": 0.5}]}
    found = decoded(
        gauge("g", ended), total("t", ended), histogram("h", flags=1), exponential(flags=1),
        {"name": "s", "summary": {"data_points": [quantiles]}},
    )  # fmt: skip
    assert (found.rejected, found.accepted_count) == ((), 5)
    series = {row["series_id"]: (row["name"], row["kind"]) for row in found.tables["metric_series"].to_pylist()}
    points = {series[row["series_id"]]: row["value"] for row in found.tables["metric_points"].to_pylist()}
    assert points == {("g", "gauge"): None, ("t", "counter"): None, ("s_count", "counter"): None,
                      ("s_sum", "counter"): None, ("s", "gauge"): None}  # fmt: skip
    histograms = {series[row["series_id"]]: row["count"] for row in found.tables["metric_histograms"].to_pylist()}
    assert histograms == {("h", "histogram"): None, ("e", "histogram"): None}


def test_the_end_of_a_gpus_series_is_no_sample_of_the_gpu():
    ended = {"time_unix_nano": AT_NS, "flags": 1, "attributes": key_values({semconv.GPU_ID: "GPU-1"})}
    assert not dict(decoded(gauge(semconv.GPU_METRICS[0].name, ended)).tables)


def test_a_point_without_a_time_was_observed_when_it_came():
    tables = decoded(gauge("g", {"as_int": 1})).tables
    assert tables["metric_points"].column("observed_at").cast("int64").to_pylist() == [NOW_US]


@pytest.mark.parametrize("at", [1, 1_790_000_000, 2**63])
def test_an_absurd_time_rejects_its_point_alone(at):
    found = decoded(gauge("g", number(1), {"as_int": 1, "time_unix_nano": at}))
    assert (found.accepted_count, len(found.rejected)) == (1, 1)


def test_a_series_has_the_same_id_whatever_the_order_of_its_labels():
    assert series_id("m", {"a": "1", "b": "2"}) == series_id("m", {"b": "2", "a": "1"})


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3), st.text(max_size=3))
def test_labels_that_differ_give_ids_that_differ(labels, name):
    ids = {series_id(name, labels), series_id(name + "x", labels), series_id(name, {**labels, "extra": ""})}
    assert len(ids) == 3
    assert all(-(2**63) <= one < 2**63 for one in ids)


def test_garbage_is_refused():
    with pytest.raises(PermanentError, match="ExportMetricsServiceRequest"):
        decode_metrics(b"garbage", NOW_US)
