"""The sidecar: pages and GPUs in, canonical OTLP out; engines and collectors come and go."""

import gzip
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import DataPointFlags

from engine_exporter import alias_tables, semconv
from engine_exporter.config import ExporterConfig
from engine_exporter.errors import ExporterError, UnreachableError
from engine_exporter.gpus import Gpus
from engine_exporter.nvml_double import FakeGpu, FakeNvml
from engine_exporter.sidecar import Sidecar
from engine_exporter.waiting import Waiting

DATA = Path(__file__).parent / "data"
PAGE = (DATA / "vllm_0_32_busy.txt").read_text()
TARGET = "http://127.0.0.1:8000/metrics"
NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


@pytest.fixture
def sidecar():
    """Make sidecars, and let their readers go."""
    made = []

    def make(fetch=lambda *_: PAGE, send=None, targets=(TARGET,), **named):
        sent = []
        config = {"labels": {"replica": "chat-0"}, "gpu": False, "targets": targets, **named.pop("config", {})}
        one = Sidecar(
            ExporterConfig(**config), fetch=fetch, send=send or (lambda *all: sent.append(all)),
            **{"unix_ns": lambda: 7, **named},
        )  # fmt: skip
        made.append(one)
        return one, sent

    yield make
    for one in made:
        one.close()


def only_metrics(answer):
    """A fetch that gives a page for /metrics and nothing else."""

    def fetch(url, _seconds):
        if not url.endswith("/metrics"):
            raise ExporterError("404")
        return answer(url) if callable(answer) else answer

    return fetch


def points_of(*bodies):
    found = {}
    for body in bodies:
        for resource_metrics in ExportMetricsServiceRequest.FromString(gzip.decompress(body)).resource_metrics:
            for metric in resource_metrics.scope_metrics[0].metrics:
                points = list(getattr(metric, metric.WhichOneof("data")).data_points)
                found.setdefault(metric.name, (metric, []))[1].extend(points)
    return found


def sent_points(sent):
    return points_of(*(body for _, body, _ in sent))


def labels_of(point):
    return {item.key: item.value.string_value for item in point.attributes}


def failing(error):
    def fail(*_):
        raise error

    return fail


def test_a_real_page_becomes_canonical_metrics_with_kind_and_unit(sidecar):
    made, sent = sidecar(only_metrics(PAGE), config={"pass_unknown": False})
    done = made.round()
    ((url, _, token),) = sent
    assert (url, token) == ("http://127.0.0.1:4318/v1/metrics", None)
    found = sent_points(sent)
    assert {"gen_ai.server.time_to_first_token", "infer.engine.cached_tokens", "infer.engine.info", "up"} <= set(found)
    kinds = {"gauge": "gauge", "counter": "sum", "histogram": "histogram"}
    for metric in semconv.METRICS:
        if metric.name in found:
            assert found[metric.name][0].WhichOneof("data") == kinds[metric.kind]
            assert found[metric.name][0].unit == metric.unit
    point = found["infer.engine.input_tokens"][1][0]
    assert point.time_unix_nano == 7
    assert labels_of(point) == {
        "engine": "0", "model_name": "tiny-qwen3", "instance": "127.0.0.1:8000", "replica": "chat-0",
    }  # fmt: skip
    assert found["up"][1][0].as_double == 1.0
    assert done.points_count == sum(len(points) for _, points in found.values())


def test_the_servers_version_is_asked_for_and_told(sidecar):
    asked = []

    def fetch(url, _):
        asked.append(url)
        return '{"version": "0.25.1"}' if url.endswith("/version") else (DATA / "vllm_0_25_1.txt").read_text()

    made, sent = sidecar(fetch)
    made.round(), made.round()
    found = sent_points(sent)
    assert labels_of(found["infer.engine.info"][1][0])["infer.engine.version"] == "0.25.1"
    assert labels_of(found["infer.engine.prefix_cache_hits"][1][0])["quality"] == "suspect"
    assert asked.count("http://127.0.0.1:8000/version") == 1


def test_a_histogram_keeps_bounds_counts_and_sum(sidecar):
    page = (
        "# TYPE vllm:time_to_first_token_seconds histogram\n"
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 3\n'
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0"} 5\n'
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 6\n'
        'vllm:time_to_first_token_seconds_sum{engine="0"} 4.5\n'
        'vllm:time_to_first_token_seconds_count{engine="0"} 6\n'
    )
    made, sent = sidecar(only_metrics(page))
    made.round()
    (point,) = sent_points(sent)["gen_ai.server.time_to_first_token"][1]
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([0.1, 1.0], [3, 2, 1])
    assert (point.count, point.sum) == (6, 4.5)


@pytest.mark.parametrize("damage", ['le="1.0"} 2', 'le="1.0"} NaN'])
def test_a_histogram_that_does_not_add_up_is_left_out_and_counted(sidecar, damage):
    page = (
        "# TYPE vllm:e2e_request_latency_seconds histogram\n"
        'vllm:e2e_request_latency_seconds_bucket{le="0.1"} 3\n'
        f"vllm:e2e_request_latency_seconds_bucket{{{damage}\n"
        'vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 2\n'
        "vllm:e2e_request_latency_seconds_sum 4.5\nvllm:e2e_request_latency_seconds_count 2\n"
        "vllm:num_requests_running 1\n"
    )
    made, sent = sidecar(only_metrics(page))
    assert not made.round().failed_targets
    assert "gen_ai.server.request.duration" not in sent_points(sent)
    assert made.unsound_count == 1


@pytest.mark.parametrize(
    "fetch",
    [
        failing(UnreachableError("down")),
        failing(RuntimeError("a reader's own fault")),
        lambda *_: "<html>hello</html>",
        lambda *_: "# TYPE other gauge\nother 1\n",
        lambda *_: 'vllm:num_requests_running{engine="0"} oops\n',
        lambda *_: "",
    ],
    ids=["down", "fault", "html", "another program", "damaged", "nothing"],
)
def test_a_target_without_an_engine_is_down_and_nothing_else(sidecar, fetch):
    made, sent = sidecar(fetch)
    done = made.round()
    assert list(done.failed_targets) == [TARGET]
    found = sent_points(sent)
    assert set(found) == {"up"}
    assert found["up"][1][0].as_double == 0.0


def test_one_bad_target_takes_no_other_down(sidecar):
    hangs = threading.Event()

    def fetch(url, _):
        if "hangs" in url:
            hangs.wait(30)
        if "down" in url:
            raise UnreachableError("down")
        return "garbage {" if "garbage" in url else PAGE

    targets = tuple(f"http://{name}:8000/metrics" for name in ("hangs", "down", "good", "garbage", "fine"))
    made, sent = sidecar(fetch, targets=targets, config={"scrape_timeout_seconds": 2})
    try:
        for _ in range(2):
            done = made.round()
            assert {name.split("/")[2].split(":")[0] for name in done.failed_targets} == {"hangs", "down", "garbage"}
        up = {labels_of(point)["instance"]: point.as_double for point in sent_points(sent)["up"][1]}
        assert up == {"hangs:8000": 0.0, "down:8000": 0.0, "garbage:8000": 0.0, "good:8000": 1.0, "fine:8000": 1.0}
    finally:
        hangs.set()


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    'vllm:e2e_request_latency_seconds_bucket{le="x"} 1',
                    'sglang:kv_transfer_latency_ms_bucket{le="x"} 1',
                    "vllm:e2e_request_latency_seconds_count NaN",
                    'vllm:cache_config_info{block_size="None",num_gpu_blocks="nan"} 1',
                    'DCGM_FI_DEV_POWER_USAGE{gpu="x"} -1',
                    'DCGM_FI_PROF_GR_ENGINE_ACTIVE{UUID="u",GPU_I_ID="1",GPU_I_PROFILE="?"} 0.5',
                    "# TYPE vllm:num_requests_running histogram",
                    "vllm:prompt_tokens_total 1e400",
                ]
            ),
            st.builds(
                "{}{} {}".format,
                st.sampled_from(sorted(alias_tables.index())),
                st.sampled_from(["", "_bucket", "_sum", "_count", "_total"]),
                st.floats().map(str),
            ),
            st.text(max_size=40),
        ),
        max_size=8,
    )
)
def test_no_page_ends_the_round(lines):
    sent = []
    config = ExporterConfig(targets=(TARGET,), gpu=False)
    made = Sidecar(config, fetch=only_metrics("\n".join(lines)), send=lambda *all: sent.append(all), unix_ns=lambda: 7)
    try:
        done = made.round()
        for problem in done.failed_targets.values():
            assert "Error:" not in problem, problem
        assert "up" in sent_points(sent)
    finally:
        made.close()


def test_a_driver_that_fails_costs_no_engine_its_metrics(sidecar):
    made, sent = sidecar(only_metrics(PAGE), sample_gpus=failing(RuntimeError("driver")))
    assert list(made.round().failed_targets) == ["this host's GPUs"]
    assert "infer.engine.input_tokens" in sent_points(sent)


def test_a_counter_that_fell_starts_anew(sidecar):
    values, clock = iter([100, 150, 20]), iter(range(10, 1000, 10))
    made, sent = sidecar(
        only_metrics(lambda _: f"vllm:prompt_tokens_total {next(values)}\n"), unix_ns=lambda: next(clock)
    )
    for _ in range(3):
        made.round()
    points = sent_points(sent)["infer.engine.input_tokens"][1]
    assert [(point.as_double, point.start_time_unix_nano) for point in points] == [(100, 10), (150, 10), (20, 20)]


def test_a_series_that_is_gone_ends_and_a_dead_engine_leaves_none_behind(sidecar):
    pages = iter(
        [
            'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} 2\n',
            'vllm:num_requests_running{engine="0"} 1\n',
            UnreachableError("down"),
        ]
    )

    def answer(_):
        page = next(pages)
        if isinstance(page, Exception):
            raise page
        return page

    made, sent = sidecar(only_metrics(answer))
    ended = []
    for _ in range(3):
        made.round()
        points = sent_points([sent[-1]]).get("infer.engine.requests_running", (None, []))[1]
        ended.append([labels_of(point)["engine"] for point in points if point.flags & NO_VALUE])
    assert ended == [[], ["1"], ["0"]]


def test_the_hit_ratio_is_that_of_the_time_between_two_reads(sidecar):
    pages = iter(
        f"vllm:prompt_tokens_total {asked}\nvllm:prompt_tokens_cached_total {found}\n"
        for asked, found in [(1000, 900), (1100, 925), (1100, 925), (50, 10)]
    )
    made, sent = sidecar(only_metrics(lambda _: next(pages)))
    for _ in range(4):
        made.round()
    points = sent_points(sent)["infer.engine.prefix_cache_hit_ratio"][1]
    told = [point.as_double for point in points if not point.flags & NO_VALUE]
    assert told == [0.25], "not 0.9: that is since the start; a reset gives none"


def test_while_the_collector_is_away_messages_wait_in_order(sidecar):
    away, got = [True], []

    def send(url, body, token):
        if away:
            raise UnreachableError("away")
        got.append(body)

    clock = iter(range(1, 100))
    made, _ = sidecar(only_metrics(PAGE), send=send, unix_ns=lambda: next(clock))
    assert [made.round().waiting_count for _ in range(3)] == [1, 2, 3]
    away.clear()
    assert made.round().waiting_count == 0
    assert [points_of(body)["up"][1][0].time_unix_nano for body in got] == [1, 2, 3, 4]


def test_waiting_is_bounded_in_bytes_and_the_oldest_go():
    waiting = Waiting(limit_bytes=200)
    for number in range(50):
        waiting.put(bytes([number]) * 10)
    assert waiting.bytes_count <= 200
    assert len(waiting) + waiting.dropped_count == 50
    assert gzip.decompress(waiting.first())[0] == waiting.dropped_count


def test_a_message_larger_than_the_limit_waits_alone():
    waiting = Waiting(limit_bytes=1)
    waiting.put(b"a")
    waiting.put(b"b")
    assert (len(waiting), waiting.dropped_count) == (1, 1)


def test_what_the_collector_refuses_is_dropped_and_counted(sidecar):
    made, _ = sidecar(only_metrics(PAGE), send=failing(ExporterError("bad token")))
    done = made.round()
    assert (done.waiting_count, made.dropped_count) == (0, 1)
    assert str(done.send_error) == "bad token"


def test_targets_of_a_file_come_and_go_and_a_broken_file_changes_nothing(sidecar, tmp_path):
    file = tmp_path / "targets.yaml"
    file.write_text("- http://a:8000\n- url: http://b:8000/metrics\n  labels: {replica: b-0}\n")
    made, sent = sidecar(only_metrics(PAGE), targets=(), config={"targets_file": file, "labels": {}})
    assert made.round().targets_problem is None
    told = {labels_of(point)["instance"]: labels_of(point).get("replica") for point in sent_points(sent)["up"][1]}
    assert told == {"a:8000": None, "b:8000": "b-0"}
    for text, says in [("- ftp://x\n", "ftp"), ("a: b", "list"), ("- {urls: x}", "urls"), ("- [", "YAML")]:
        file.write_text(text + "# " + "x" * len(says))
        assert says in made.round().targets_problem
        assert len(made.up) == 2
    file.write_text("- http://c:8000\n")
    assert made.round().targets_problem is None
    assert set(made.up) == {"http://c:8000/metrics"}


@pytest.mark.parametrize("target", ["vllm", "ftp://a/metrics", "http:///metrics"])
def test_a_target_that_is_no_address_is_told_at_the_start(sidecar, target):
    with pytest.raises(ExporterError, match="is not an address"):
        sidecar(targets=(target,))


def test_a_password_in_an_address_is_refused_and_not_repeated(sidecar):
    with pytest.raises(ExporterError, match="without one") as told:
        sidecar(targets=("http://me:hush@a/metrics",))
    assert "hush" not in str(told.value)


def test_two_pages_of_one_server_are_told_apart(sidecar):
    made, sent = sidecar(
        only_metrics(PAGE), targets=("http://a:1/x/metrics", "http://a:1/y/metrics", "http://b:1/metrics")
    )
    made.round()
    told = {labels_of(point)["instance"] for point in sent_points(sent)["up"][1]}
    assert told == {"a:1/x/metrics", "a:1/y/metrics", "b:1"}


def test_many_slow_targets_keep_no_place_from_a_good_one(sidecar):
    hangs = threading.Event()
    slow = [f"http://slow-{number}:8000/metrics" for number in range(60)]
    made, _ = sidecar(
        lambda url, _: hangs.wait(30) if "slow" in url else PAGE,
        targets=(*slow, "http://good:8000/metrics"),
        config={"scrape_timeout_seconds": 2},
    )
    try:
        assert set(made.round().failed_targets) == set(slow)
    finally:
        hangs.set()


def test_gpus_go_out_with_their_ids(sidecar):
    nvml = FakeNvml(FakeGpu(uuid="GPU-1"))
    gpus = Gpus(nvml)
    nvml.events.append((nvml.gpus[0], 79))
    made, sent = sidecar(only_metrics(PAGE), sample_gpus=gpus.sample)
    made.round()
    found = sent_points(sent)
    assert labels_of(found["hw.power"][1][0])[semconv.GPU_ID] == "GPU-1"
    assert found["infer.gpu.xid"][1][0].as_double == 79.0
    (flits,) = [one for one in found["infer.gpu.nvlink_errors"][1] if labels_of(one)["error"] == "crc_flit"]
    assert (flits.as_double, labels_of(flits)[semconv.GPU_ID]) == (6.0, "GPU-1")


def test_a_gpu_exporters_page_becomes_gpus(sidecar):
    made, sent = sidecar(only_metrics((DATA / "dcgm.txt").read_text()), config={"labels": {}})
    made.round()
    power = {labels_of(one)[semconv.GPU_ID]: one for one in sent_points(sent)["hw.power"][1]}
    assert power["GPU-aaaa"].as_double == 612.5
    assert labels_of(power["GPU-aaaa"])[semconv.REPLICA] == "llama-0"
    assert labels_of(power["GPU-bbbb"])[semconv.HOST] == "node-7"
