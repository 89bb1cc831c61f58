"""The sidecar: a page and the GPUs in, canonical OTLP out; engines and collectors come and go."""

from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from engine_exporter import recording, semconv
from engine_exporter.config import ExporterConfig
from engine_exporter.errors import ExporterError, UnreachableError
from engine_exporter.gpus import Gpus, NoGpusError
from engine_exporter.sidecar import WAITING_LIMIT, Sidecar

PAGE = next(one.body.decode() for one in recording.arrivals() if one.kind == recording.METRICS_TEXT)
TARGET = "http://127.0.0.1:8000/metrics"


def sidecar(fetch=lambda _: PAGE, send=None, **named):
    sent = []
    config = ExporterConfig(targets=(TARGET,), labels={"replica": "chat-0"}, gpu=False)
    made = Sidecar(config, fetch=fetch, send=send or (lambda *all: sent.append(all)), unix_ns=lambda: 7, **named)
    return made, sent


def points_of(body):
    found = {}
    for resource_metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for metric in resource_metrics.scope_metrics[0].metrics:
            found[metric.name] = (metric, list(getattr(metric, metric.WhichOneof("data")).data_points))
    return found


def labels_of(point):
    return {item.key: item.value.string_value for item in point.attributes}


def failing(error):
    def fail(*_):
        raise error

    return fail


def test_a_real_page_becomes_canonical_metrics_with_kind_and_unit():
    made, sent = sidecar()
    done = made.round()
    ((url, body, token),) = sent
    assert (url, token) == ("http://127.0.0.1:4318/v1/metrics", None)
    found = points_of(body)
    engine = set(semconv.VLLM_METRICS.values())
    assert engine <= set(found) <= {metric.name for metric in semconv.METRICS}
    for metric in semconv.METRICS:
        if metric.name in found:
            kinds = {"gauge": "gauge", "counter": "sum", "histogram": "histogram"}
            assert found[metric.name][0].WhichOneof("data") == kinds[metric.kind]
            assert found[metric.name][0].unit == metric.unit
    point = found["infer.engine.input_tokens"][1][0]
    assert point.time_unix_nano == 7
    assert labels_of(point) == {
        "engine": "0", "model_name": "tiny-qwen3", "instance": "127.0.0.1:8000", "replica": "chat-0",
    }  # fmt: skip
    assert found["up"][1][0].as_double == 1.0
    assert done.points_count == sum(len(points) for _, points in found.values())


def test_a_histogram_keeps_bounds_counts_and_sum():
    page = (
        "# TYPE vllm:time_to_first_token_seconds histogram\n"
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 3\n'
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0"} 5\n'
        'vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 6\n'
        'vllm:time_to_first_token_seconds_sum{engine="0"} 4.5\n'
        'vllm:time_to_first_token_seconds_count{engine="0"} 6\n'
    )
    made, sent = sidecar(lambda _: page)
    made.round()
    (point,) = points_of(sent[0][1])["gen_ai.server.time_to_first_token"][1]
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([0.1, 1.0], [3, 2, 1])
    assert (point.count, point.sum) == (6, 4.5)


@pytest.mark.parametrize(
    "fetch",
    [
        failing(UnreachableError("down")),
        lambda _: "<html>hello</html>",
        lambda _: "# TYPE other gauge\nother 1\n",
        lambda _: 'vllm:num_requests_running{engine="0"} oops\n',
    ],
    ids=["down", "html", "another program", "damaged"],
)
def test_a_target_without_an_engine_is_down_and_nothing_else(fetch):
    made, sent = sidecar(fetch)
    done = made.round()
    assert list(done.failed_targets) == [TARGET]
    found = points_of(sent[0][1])
    assert set(found) == {"up"}
    assert found["up"][1][0].as_double == 0.0


def test_while_the_collector_is_away_messages_wait_in_order():
    away, got = [True], []

    def send(url, body, token):
        if away:
            raise UnreachableError("away")
        got.append(body)

    clock = iter(range(1, 100))
    made, _ = sidecar(send=send)
    made.unix_ns = lambda: next(clock)
    assert [made.round().waiting_count for _ in range(3)] == [1, 2, 3]
    away.clear()
    assert made.round().waiting_count == 0
    assert [points_of(body)["up"][1][0].time_unix_nano for body in got] == [1, 2, 3, 4]


def test_waiting_is_bounded_and_the_oldest_go():
    made, _ = sidecar(send=failing(UnreachableError("away")))
    made.fetch = failing(UnreachableError("down"))
    for _ in range(WAITING_LIMIT + 5):
        made.round()
    assert (len(made.waiting), made.dropped_count) == (WAITING_LIMIT, 5)


def test_what_the_collector_refuses_is_dropped_and_counted():
    made, _ = sidecar(send=failing(ExporterError("bad token")))
    done = made.round()
    assert (done.waiting_count, made.dropped_count) == (0, 1)
    assert str(done.send_error) == "bad token"


class NVMLError(Exception):
    pass


def nvml(**given):
    """A double of pynvml with one GPU of which the energy counter is not supported."""

    def unsupported(*_):
        raise NVMLError("not supported")

    events = [SimpleNamespace(device="gpu0", eventData=79)]

    def wait(_events, _timeout):
        if not events:
            raise NVMLError("timeout")
        return events.pop()

    calls = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: f"gpu{index}",
        "nvmlDeviceGetUUID": lambda _: b"GPU-1",
        "nvmlDeviceGetName": lambda _: "NVIDIA H100 80GB HBM3",
        "nvmlEventSetCreate": lambda: "events",
        "nvmlDeviceRegisterEvents": lambda *_: None,
        "nvmlEventSetWait_v2": wait,
        "nvmlDeviceGetPowerUsage": lambda _: 345_600,
        "nvmlDeviceGetTotalEnergyConsumption": unsupported,
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=87),
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=2**33, total=2**36),
        "nvmlDeviceGetTemperature": lambda *_: 61,
        "nvmlDeviceGetClockInfo": lambda *_: 1980,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0x4,
    }
    constants = {
        "NVML_TEMPERATURE_GPU": 0,
        "NVML_CLOCK_SM": 1,
        "nvmlEventTypeXidCriticalError": 8,
    }
    return SimpleNamespace(NVMLError=NVMLError, **{**calls, **constants, **given})


def test_gpus_are_read_in_canonical_units_and_what_is_not_supported_is_absent():
    gpus = Gpus(nvml())
    (sample,) = gpus.sample()
    gpus.close()
    assert (sample.uuid, sample.name) == ("GPU-1", "NVIDIA H100 80GB HBM3")
    assert sample.values == {
        "hw.power": 345.6, "hw.gpu.utilization": 0.87, "hw.gpu.memory.usage": 2.0**33, "hw.gpu.memory.limit": 2.0**36,
        "hw.temperature": 61.0, "infer.gpu.sm_clock": 1.98e9, "infer.gpu.clock_event_reasons": 4.0,
        "infer.gpu.xid": 79.0,
    }  # fmt: skip
    assert set(sample.values) <= {metric.name for metric in semconv.GPU_METRICS}


def test_gpus_go_out_with_their_ids():
    gpus = Gpus(nvml())
    made, sent = sidecar(sample_gpus=gpus.sample)
    made.round()
    (point,) = points_of(sent[0][1])["hw.power"][1]
    assert labels_of(point)[semconv.GPU_ID] == "GPU-1"
    assert points_of(sent[0][1])["infer.gpu.xid"][1][0].as_double == 79.0


def broken_init():
    raise NVMLError("Driver Not Loaded")


@pytest.mark.parametrize(
    ("given", "says"), [({"nvmlInit": broken_init}, "Driver Not Loaded"), ({"nvmlDeviceGetCount": lambda: 0}, "no GPU")]
)
def test_without_gpus_the_reason_is_said(given, says):
    with pytest.raises(NoGpusError, match=says):
        Gpus(nvml(**given))


@pytest.mark.gpu
def test_a_real_gpu_is_read():
    (sample, *_) = Gpus().sample()
    assert sample.uuid.startswith("GPU-") and sample.values["hw.power"] > 0
