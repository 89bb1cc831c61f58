"""Points about a GPU become rows of gpu_samples, one per GPU and time."""

import math

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.decode_metrics import decode_metrics
from collector.testing import key_values
from engine_exporter import semconv

NOW_US = 1_790_000_100_000_000
AT_US = 1_790_000_000_000_000


def body_of(*points, resource=None):
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.extend(key_values(resource or {}))
    scope = resource_metrics.scope_metrics.add()
    for name, value, attributes in points:
        point = {"time_unix_nano": AT_US * 1000, "as_double": value, "attributes": key_values(attributes)}
        scope.metrics.add(name=name, gauge={"data_points": [point]})
    return request.SerializeToString()


def decoded(*points, resource=None):
    return decode_metrics(body_of(*points, resource=resource), NOW_US).tables


def test_the_points_of_one_gpu_at_one_time_are_one_row():
    gpu = {"hw.id": "GPU-1", "hw.name": "NVIDIA H100 80GB HBM3", "infer.gpu.index": "3"}
    tables = decoded(
        ("hw.power", 512.5, gpu),
        ("hw.gpu.memory.usage", 2.0**35, gpu),
        ("infer.gpu.clock_event_reasons", float(0x20 | 0x4 | 0x1000), gpu),
        ("infer.gpu.xid", 79.0, gpu),
        resource={"infer.replica": "llama-0", "host.name": "node-7", "k8s.cluster.name": "prod"},
    )
    assert set(tables) == {"gpu_samples", "events"}
    (row,) = tables["gpu_samples"].to_pylist()
    assert (row["gpu_uuid"], row["gpu_index"]) == ("GPU-1", 3)
    assert (row["gpu_type"], row["host"]) == ("NVIDIA H100 80GB HBM3", "node-7")
    assert (row["replica"], row["cluster"]) == ("llama-0", "prod")
    assert (row["power_watts"], row["memory_used_bytes"], row["xid"]) == (512.5, 2**35, 79)
    assert row["clock_event_reasons"] == ["sw_power_cap", "sw_thermal_slowdown", "0x1000"]
    assert row["temperature_celsius"] is None


def test_each_gpu_has_a_row_of_its_own():
    tables = decoded(("hw.power", 1.0, {"hw.id": "GPU-1"}), ("hw.power", 2.0, {"hw.id": "GPU-2"}))
    powers = {row["gpu_uuid"]: row["power_watts"] for row in tables["gpu_samples"].to_pylist()}
    assert powers == {"GPU-1": 1.0, "GPU-2": 2.0}


def test_no_clock_event_is_an_empty_list_and_a_value_that_is_no_number_is_null():
    gpu = {"hw.id": "GPU-1"}
    (row,) = decoded(("infer.gpu.clock_event_reasons", 0.0, gpu), ("hw.power", math.nan, gpu))[
        "gpu_samples"
    ].to_pylist()
    assert (row["clock_event_reasons"], row["power_watts"]) == ([], None)


def test_power_that_names_no_gpu_stays_a_metric():
    tables = decoded(("hw.power", 900.0, {"hw.type": "host"}))
    assert "gpu_samples" not in tables
    assert tables["metric_points"]["value"].to_pylist() == [900.0]


def test_every_gpu_metric_fills_a_column():
    tables = decoded(*((metric.name, 1.0, {"hw.id": "GPU-1"}) for metric in semconv.GPU_METRICS))
    (row,) = tables["gpu_samples"].to_pylist()
    assert all(row[metric.column] is not None for metric in semconv.GPU_METRICS)


def test_an_xid_is_an_event_in_words_with_an_id_that_a_retry_repeats():
    gpu = {"hw.id": "GPU-1", "hw.name": "NVIDIA H100 80GB HBM3"}
    resource = {"infer.replica": "llama-0", "host.name": "node-7"}
    (event,) = decoded(("infer.gpu.xid", 79.0, gpu), resource=resource)["events"].to_pylist()
    assert (event["kind"], event["gpu_uuid"], event["replica"]) == ("xid", "GPU-1", "llama-0")
    assert event["title"] == "XID 79: GPU has fallen off the bus; restart the machine"
    assert dict(event["attributes"])["severity"] == "fatal"
    assert decoded(("infer.gpu.xid", 79.0, gpu), resource=resource)["events"].to_pylist() == [event]


def test_no_xid_is_no_event():
    assert "events" not in decoded(("hw.power", 512.5, {"hw.id": "GPU-1"}))
