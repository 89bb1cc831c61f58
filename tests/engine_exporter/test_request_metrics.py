"""Team and model metrics: bounded, exact at every threshold, the same in one process, in several and over OTLP."""

import asyncio
import gzip
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from engine_exporter import semconv
from engine_exporter.label_bound import OTHER, UNKNOWN, LabelBound
from engine_exporter.metrics_push import metrics_data
from engine_exporter.metrics_thread import MetricsPush, MetricsThread, collectors_of, otlp_exporter, publish
from engine_exporter.request_metrics import LatencyHistogram, Request, bounds_with
from engine_exporter.testing import FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

ROOT = Path(__file__).resolve().parents[2]
CHAT = {"model": "base", "stream": True}
WHO = {"team_header": "x-team", "trust_any_peer": True}


def after(*teams, reply=None, **config):
    bench = exporter_for_tests(**{**WHO, **config})
    engine = FakeVllm(bench, reply or Reply())
    app = FleetmeterMiddleware(engine, bench.exporter)

    async def go():
        for team in teams:
            await post(app, body=CHAT, headers={"x-team": team} if team else {})

    asyncio.run(go())
    return bench


def page(bench, read=parse, write=generate_latest):
    registry = CollectorRegistry()
    publish(bench.exporter, registry)
    return {
        (sample.name, *sorted(sample.labels.items())): sample
        for family in read(write(registry).decode())
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[(name, *sorted(labels.items()))].value


def test_tokens_and_outcomes_are_told_by_team_and_model():
    samples = page(after("red", "red", "blue"))
    assert value(samples, "infer_request_ended_total", team="red", model="base", outcome="ok") == 2
    assert value(samples, "infer_request_input_tokens_total", team="red", model="base") == 80
    assert value(samples, "infer_request_cached_tokens_total", team="blue", model="base") == 32
    assert value(samples, "infer_request_output_tokens_total", team="red", model="base") == 8
    assert value(samples, "infer_request_duration_seconds_sum", team="red", model="base") == pytest.approx(1.6)
    assert value(samples, "infer_request_inter_token_latency_seconds_count", team="red", model="base") == 8


def test_teams_beyond_the_bound_are_other_and_every_request_is_still_counted():
    samples = page(after(*(f"team-{number}" for number in range(20)), label_limit=3))
    counts = {dict(key[1:])["team"]: sample.value for key, sample in samples.items() if key[0].endswith("ended_total")}
    assert counts == {"team-0": 1, "team-1": 1, "team-2": 1, OTHER: 17}


def test_with_an_allow_list_only_its_teams_are_named():
    samples = page(after("red", "blue", None, label_teams=["red"]))
    counts = {dict(key[1:])["team"]: sample.value for key, sample in samples.items() if key[0].endswith("ended_total")}
    assert counts == {"red": 1, OTHER: 1, UNKNOWN: 1}


def test_a_clients_own_word_and_a_model_that_was_refused_take_no_place():
    bench = exporter_for_tests(body_team="user")
    engine = FakeVllm(bench, Reply(status=404, error={"error": {"type": "NotFoundError", "code": 404}}))
    engine.state.openai_serving_models = None  # a version that does not show its models: the name is the client's
    app = FleetmeterMiddleware(engine, bench.exporter)
    for number in range(5):
        asyncio.run(post(app, body={**CHAT, "model": f"guess-{number}", "user": f"me-{number}"}))
    assert [key for key, _ in bench.exporter.metrics.items()] == [(OTHER, OTHER)]


@given(st.lists(st.tuples(st.text(), st.booleans())), st.sets(st.text(max_size=2), max_size=3), st.integers(1, 5))
def test_a_label_never_has_more_values_than_its_bound(asked, allowed, limit):
    bound = LabelBound(allowed, limit)
    seen = {bound.value(text, trusted) for text, trusted in asked}
    assert len(seen - {OTHER, UNKNOWN}) <= (len(allowed) or limit)
    assert not allowed or seen <= allowed | {OTHER}


@given(st.lists(st.floats(0.0001, 1000), max_size=4), st.lists(st.floats(0, 2000), max_size=50))
def test_a_threshold_is_always_an_edge_so_the_histogram_says_exactly_how_many_kept_it(thresholds, values):
    latency = LatencyHistogram(bounds_with({"ttft": thresholds})["ttft"])
    for one in values:
        latency.observe(one, Request(1, 1, 1))
    for threshold in thresholds:
        index = latency.bounds.index(threshold)
        assert sum(latency.counts[: index + 1]) == sum(one <= threshold for one in values)
    assert sum(latency.counts) == len(values) and latency.total == pytest.approx(sum(values))


def test_a_bucket_shows_the_trace_of_a_request_that_fell_into_it():
    bench = after("red")
    samples = page(bench, parse_openmetrics, openmetrics)
    bucket = samples[
        ("infer_request_time_to_first_token_seconds_bucket", ("le", "0.5"), ("model", "base"), ("team", "red"))
    ]
    (span,) = bench.queue.spans
    assert bucket.exemplar.labels["trace_id"] == f"{span.context.trace_id:032x}"
    assert bucket.exemplar.value == pytest.approx(0.5)


def test_latencies_are_those_of_requests_that_went_well():
    samples = page(after("red", reply=Reply(error={"error": {"code": 500}}, error_after=2)))
    assert value(samples, "infer_request_ended_total", team="red", model="base", outcome="error") == 1
    assert value(samples, "infer_request_time_to_first_token_seconds_count", team="red", model="base") == 0


def test_names_units_and_kinds_are_those_of_the_closed_list():
    names = {key[0] for key in page(after("red"))}
    for exposed, canonical in semconv.EXPORTER_METRICS.items():
        if canonical.startswith("infer.request."):
            assert exposed in names or f"{exposed}_bucket" in names, exposed
    assert set(semconv.EXPORTER_METRICS.values()) <= set(semconv.METRIC_UNITS)


def test_several_processes_add_up_on_one_page(tmp_path):
    program = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from engine_exporter.metrics_page import MultiprocessCopy
from engine_exporter.metrics_thread import collectors_of, several_processes
from tests.engine_exporter.test_request_metrics import after
assert several_processes()
bench = after("red", "red", "blue")
copy = MultiprocessCopy(collectors_of(bench.exporter))
copy.copy(); copy.copy()
bench.exporter.metrics.sums("red", True, "base", True).latencies["ttft"].observe(100.0, (1, 2, 3))
copy.copy()
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=ROOT)
    reader = (
        "from prometheus_client import CollectorRegistry, generate_latest, multiprocess; r = CollectorRegistry(); "
        "multiprocess.MultiProcessCollector(r); print(generate_latest(r).decode())"
    )
    text = subprocess.run(
        [sys.executable, "-c", reader], check=True, env=environment, cwd=ROOT, capture_output=True, text=True
    ).stdout
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample for family in parse(text) for sample in family.samples
    }
    assert value(samples, "infer_request_ended_total", team="red", model="base", outcome="ok") == 4
    assert value(samples, "infer_exporter_requests_total", outcome="ok") == 6
    ttft = "infer_request_time_to_first_token_seconds"
    assert value(samples, f"{ttft}_count", team="red", model="base") == 6
    assert value(samples, f"{ttft}_bucket", team="red", model="base", le="0.5") == 4
    assert value(samples, f"{ttft}_sum", team="red", model="base") == pytest.approx(202.0)


def test_the_same_metrics_go_out_over_otlp_under_their_canonical_names():
    bench = after("red", "blue")
    exporter = bench.exporter
    data = metrics_data(exporter.resource, exporter.metrics, collectors_of(exporter), 1, bench.clock.unix_ns())
    (sent,) = encode_metrics(data).resource_metrics
    found = {metric.name: metric for metric in sent.scope_metrics[0].metrics}
    assert {name for name in semconv.EXPORTER_METRICS.values() if name.startswith("infer.request.")} <= set(found)
    assert set(found) <= {metric.name for metric in semconv.METRICS}
    point = found["infer.request.time_to_first_token"].histogram.data_points[1]
    assert {item.key: item.value.string_value for item in point.attributes} == {"team": "red", "model": "base"}
    assert (point.count, sum(point.bucket_counts)) == (1, 1)
    assert len(point.explicit_bounds) == len(point.bucket_counts) - 1
    assert point.exemplars[0].trace_id == bench.queue.spans[0].context.trace_id.to_bytes(16)
    resource = {item.key: item.value.string_value for item in sent.resource.attributes}
    assert resource[semconv.REPLICA] == "replica-0"


@pytest.fixture
def door():
    got = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, gzip.decompress(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_a_thread_pushes_them_and_once_more_at_the_end(door):
    url, got = door
    bench = after("red", otlp_endpoint=url, push_metrics=True)
    push = MetricsPush(bench.exporter, collectors_of(bench.exporter), otlp_exporter(bench.exporter))
    thread = MetricsThread([(3600.0, push.push)])
    thread.stop(30)
    assert [path for path, _ in got] == ["/v1/metrics"] and thread.failures_count == 0


def test_metrics_that_cannot_be_made_end_no_thread():
    runs = threading.Semaphore(0)

    def broken():
        runs.release()
        raise RuntimeError("no metrics")

    thread = MetricsThread([(0.001, broken)])
    for _ in range(3):
        assert runs.acquire(timeout=60)
    thread.stop(30)
    assert thread.failures_count >= 3
