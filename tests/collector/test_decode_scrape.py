"""A /metrics text in, series, points and histograms out."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from collector.decode_scrape import About, decode_scrape, rows_of_scrape
from collector.errors import PermanentError
from collector.prometheus_text import PrometheusText

AT_US = 1_790_000_000_000_000
TARGET = "http://10.0.0.1:8000/metrics"
VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 173828.0
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0",model_name="tiny"} 1.7e+09
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="tiny"} 3.0
vllm:iteration_tokens_total_bucket{engine="0",le="8.0",model_name="tiny"} 5.0
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="tiny"} 6.0
vllm:iteration_tokens_total_count{engine="0",model_name="tiny"} 6.0
vllm:iteration_tokens_total_sum{engine="0",model_name="tiny"} 42.0
"""


def scraped(text, labels=None, **more):
    return rows_of_scrape(text, TARGET, labels or {}, AT_US, **more)


def points(decoded):
    values = {row["series_id"]: row["value"] for row in decoded.tables["metric_points"].to_pylist()}
    series = {row["series_id"]: row for row in decoded.tables["metric_series"].to_pylist()}
    return {(series[key]["name"], series[key]["kind"]): value for key, value in values.items()}


def test_a_vllm_text_becomes_canonical_rows():
    found = scraped(VLLM, {"replica": "r0"})
    assert points(found) == {
        ("infer.engine.requests_running", "gauge"): 2.0,
        ("infer.engine.input_tokens", "counter"): 173828.0,
        ("up", "gauge"): 1.0,
    }
    (histogram,) = found.tables["metric_histograms"].to_pylist()
    assert (histogram["bounds"], histogram["bucket_counts"]) == ([1.0, 8.0], [3, 2, 1])
    assert (histogram["count"], histogram["sum"]) == (6, 42.0)
    for row in found.tables["metric_series"].to_pylist():
        assert row["replica"] == "r0"
        assert dict(row["labels"])["instance"] == "10.0.0.1:8000"
        assert row["model"] == (None if row["name"] == "up" else "tiny")


def test_our_own_names_come_back_from_prometheus_spelling():
    text = '# TYPE infer_exporter_requests_total counter\ninfer_exporter_requests_total{outcome="ok"} 5\n'
    assert points(scraped(text))[("infer.exporter.requests", "counter")] == 5.0


def test_a_failed_scrape_has_up_0_and_nothing_else():
    assert points(scraped("", up=False)) == {("up", "gauge"): 0.0}


def test_configured_labels_win_over_the_texts():
    found = scraped('m{replica="theirs",zone="a"} 1', {"replica": "ours"})
    labels = [dict(row["labels"]) for row in found.tables["metric_series"].to_pylist()]
    assert {one["replica"] for one in labels} == {"ours"}
    assert labels[0]["zone"] == "a"


def test_a_sample_keeps_its_own_time():
    times = scraped("m 1 1790000001500").tables["metric_points"].column("observed_at").cast("int64").to_pylist()
    assert times == [AT_US + 1_500_000, AT_US]


def test_nan_is_no_point():
    assert points(scraped("m NaN\nn +Inf\n")) == {("up", "gauge"): 1.0}


def test_a_histogram_that_is_not_cumulative_is_rejected_alone():
    text = '# TYPE h histogram\nh_bucket{le="1"} 5\nh_bucket{le="+Inf"} 3\nh_count 3\nok 1\n'
    found = scraped(text)
    assert [one.reason for one in found.rejected] == ["h: the buckets are not cumulative"]
    assert points(found)[("ok", "gauge")] == 1.0


@pytest.mark.parametrize(
    ("first", "last", "count", "reason"),
    [
        ("1.5", "3", "3", "h: a bucket's count is not a whole number of observations"),
        ("1", "3.5", "3.5", "h: a bucket's count is not a whole number of observations"),
    ],
)
def test_a_histogram_whose_counts_are_none_is_rejected_alone(first, last, count, reason):
    text = f'# TYPE h histogram\nh_bucket{{le="1"}} {first}\nh_bucket{{le="+Inf"}} {last}\nh_count {count}\nok 1\n'
    found = scraped(text)
    assert [one.reason for one in found.rejected] == [reason]
    assert points(found)[("ok", "gauge")] == 1.0


def test_a_count_that_was_read_a_moment_later_than_the_buckets_costs_nothing():
    found = scraped('# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 3\nh_count 4\n')
    assert not found.rejected
    assert found.tables["metric_histograms"]["count"].to_pylist() == [3]


def test_the_collectors_own_series_win_over_the_same_on_the_page():
    text = "# TYPE up counter\nup 0\nscrape_duration_seconds 7\n"
    assert points(scraped(text, about=About(duration_seconds=0.25))) == {
        ("up", "gauge"): 1.0,
        ("scrape_duration_seconds", "gauge"): 0.25,
    }
    assert points(scraped(text))[("scrape_duration_seconds", "gauge")] == 7.0
    ended = scraped("up 0\n", about=About(ended=True))
    assert points(ended) == {("up", "gauge"): None}, "so the collector ends its own"


def test_an_up_of_another_instance_stays_where_the_pages_labels_win():
    text = 'up{instance="b:1"} 0\n'
    values = scraped(text, about=About(honor_labels=True)).tables["metric_points"]["value"].to_pylist()
    assert sorted(values) == [0.0, 1.0]


def test_a_gauge_that_happens_to_be_called_created_stays():
    assert points(scraped("# TYPE kube_pod_created gauge\nkube_pod_created 5\n"))[("kube_pod_created", "gauge")] == 5.0


def test_the_same_text_at_the_same_time_gives_the_same_rows():
    meta = {"target": TARGET, "labels": {}, "observed_us": AT_US}
    assert decode_scrape(VLLM.encode(), meta).tables == decode_scrape(VLLM.encode(), meta).tables


@pytest.mark.parametrize(
    "line",
    ["<html>", "m{a=1} 2", 'm{a="1" 2', "m", "m one", "m 1 2 3", '{a="b"} 1', "9m 1", '{"error": "not found"}'],
)
def test_a_line_that_is_no_sample_refuses_the_text_and_is_named(line):
    with pytest.raises(PermanentError, match="line 2"):
        scraped(f"good 1\n{line}\n")


def test_a_text_that_is_no_utf8_is_refused():
    with pytest.raises(PermanentError, match="UTF-8"):
        decode_scrape(b"\xff", {"target": TARGET, "observed_us": AT_US})


def test_a_quoted_name_and_an_exemplar_are_understood():
    text = '{"my.metric","la.bel"="x"} 1\nc_total{a="}"} 2 # {trace_id="abc"} 0.5 1.5\n'
    found = list(PrometheusText(text).samples())
    assert [(one.name, one.labels, one.value) for one in found] == [
        ("my.metric", (("la.bel", "x"),), 1.0),
        ("c_total", (("a", "}"),), 2.0),
    ]


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ('c_total 2 # {trace_id="abc"} 0.5', (), 2.0),
        ('c_total{a="x # {y"} 2', (("a", "x # {y"),), 2.0),
        ('c_total{a="x # {y\\"}"} 2 # {trace_id="}"} 0.5', (("a", 'x # {y"}'),), 2.0),
        ("c_total\t2", (), 2.0),
    ],
)
def test_a_line_is_cut_behind_its_own_labels(line, labels, value):
    (sample,) = PrometheusText(line).samples()
    assert (sample.name, sample.labels, sample.value) == ("c_total", labels, value)


@pytest.mark.parametrize(
    "text",
    [
        "g 1 1789999999500\n",
        "g 1 1789999999.5\n",
        "g 1 1789999999.5\n# EOF\n",
        "g 1 1.7899999995e9\n# EOF",
    ],
)
def test_a_time_of_its_own_is_milliseconds_or_in_openmetrics_seconds(text):
    (sample,) = PrometheusText(text).samples()
    assert sample.time_ms == 1_789_999_999_500


def test_openmetrics_has_whole_seconds():
    (sample,) = PrometheusText("g 1 1789999999\n# EOF\n").samples()
    assert sample.time_ms == 1_789_999_999_000


@pytest.mark.parametrize("at", ["99999999999999999999", "-5", "0", "1790000000", "1890000000000"])
def test_a_sample_of_an_absurd_time_is_rejected_alone(at):
    found = scraped(f"good 1\nbad 2 {at}\n")
    assert points(found) == {("good", "gauge"): 1.0, ("up", "gauge"): 1.0}
    (lost,) = found.rejected
    assert "more than a day ahead" in lost.reason


def test_a_text_of_the_reference_library_reads_as_the_reference_parser_reads_it():
    registry = CollectorRegistry()
    Gauge("g", "with \\ and \n", ["l"], registry=registry).labels('a "quoted" \\ and \n one,} {').set(-1.5e-300)
    Counter("c", "counts", ["l"], registry=registry).labels("ü").inc(3)
    Histogram("h", "spreads", registry=registry).observe(0.3)
    Summary("s", "sums", registry=registry).observe(0.3)
    text = generate_latest(registry).decode()
    expected = [
        (one.name, dict(one.labels), one.value)
        for family in text_string_to_metric_families(text)
        for one in family.samples
    ]
    found = [(one.name, dict(one.labels), one.value) for one in PrometheusText(text).samples()]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


def test_openmetrics_reads_too():
    registry = CollectorRegistry()
    Counter("c", "counts", registry=registry).inc(3)
    assert points(scraped(generate_openmetrics(registry).decode())) == {
        ("c_total", "counter"): 3.0,
        ("up", "gauge"): 1.0,
    }


@given(
    labels=st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), st.text(), max_size=3),
    value=st.floats(allow_nan=False),
)
def test_any_label_value_comes_back(labels, value):
    registry = CollectorRegistry()
    labels.pop("le", None)
    names = [name for name in labels if not name.startswith("__")]
    gauge = Gauge("g", "any", names, registry=registry)
    (gauge.labels(*[labels[name] for name in names]) if names else gauge).set(value)
    (sample,) = PrometheusText(generate_latest(registry).decode()).samples()
    assert dict(sample.labels) == {name: labels[name] for name in names}
    assert sample.value == value or math.isinf(value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        scraped(text)
    except PermanentError as error:
        assert "line" in str(error) or "bucket" in str(error)


def test_a_gpu_exporters_page_fills_gpu_samples():
    page = Path(__file__).parents[1] / "engine_exporter" / "data" / "dcgm.txt"
    tables = rows_of_scrape(page.read_text(), "http://node-7:9400/metrics", {}, AT_US).tables
    found = {row["gpu_uuid"]: row for row in tables["gpu_samples"].to_pylist()}
    assert found["GPU-aaaa"]["power_watts"] == 612.5
    assert found["GPU-aaaa"]["replica"] == "llama-0"
    assert found["GPU-bbbb"]["energy_joules"] is None
    names = {row["name"] for row in tables["metric_series"].to_pylist()}
    assert "infer.gpu.nvlink_errors" in names


def test_every_engine_is_scraped_under_canonical_names():
    page = Path(__file__).parents[1] / "engine_exporter" / "data" / "llama_cpp_after.txt"
    tables = rows_of_scrape(page.read_text(), "http://llama:8080/metrics", {}, AT_US).tables
    names = {row["series_id"]: (row["name"], row["original_name"]) for row in tables["metric_series"].to_pylist()}
    values = {names[row["series_id"]][0]: row["value"] for row in tables["metric_points"].to_pylist()}
    assert values["infer.engine.input_tokens"] == 4 * 177
    assert ("infer.engine.output_tokens", "llamacpp:tokens_predicted_total") in names.values()
