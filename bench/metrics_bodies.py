"""The generator behind `bench metrics`: one fleet's series as remote write, OTLP and text."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property, lru_cache
from urllib.parse import urlencode

import cramjam
import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

STEP_MS = 15_000
METRICS_A_REPLICA = 40
TIME_MARK, VALUE_MARK = b"\x11\xf0\xed\x0d\xdc\xba\xab\x3d", b"\x22\xf0\xed\x0d\xdc\xba\xab\x3e"
Request = tuple[str, dict[str, str], bytes]
FIRST_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
SECOND_HEADERS = {
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}


def varint(number: int) -> bytes:
    """Encode a varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(tag: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return bytes([tag]) + varint(len(content)) + content


class Fleet:
    """Replicas with forty metrics each: gauges and counters, eight labels."""

    def __init__(self, series: int, start_ms: int) -> None:
        self.count = series
        self.start_ms = start_ms
        self.labels = [self._labels_of(number) for number in range(series)]
        self._templates: dict[tuple[str, int], list[tuple[bytearray, np.ndarray, np.ndarray, int]]] = {}

    @staticmethod
    def _labels_of(number: int) -> dict[str, str]:
        replica, metric = divmod(number, METRICS_A_REPLICA)
        return {
            "__name__": f"fleet:metric_{metric:02d}" + ("_total" if metric % 2 else ""),
            "cluster": "eu-1",
            "engine": str(number % 2),
            "instance": f"10.0.{replica // 250}.{replica % 250}:8000",
            "job": "vllm",
            "model_name": f"meta-llama/Llama-3.{replica % 4}-8B-Instruct",
            "namespace": "inference",
            "pod": f"vllm-prod-{replica:05d}",
        }

    def values(self, at: int) -> np.ndarray:
        """Values of all series at a time: counters grow, gauges wander."""
        numbers = np.arange(self.count)
        return np.where(numbers % 2 == 1, 1000.0 + 7.0 * at + numbers, np.round(np.sin(numbers + at), 3))

    def time_ms(self, at: int) -> int:
        """The time of a step."""
        return self.start_ms + at * STEP_MS

    def first(self, at: int, batch: int) -> list[Request]:
        """Remote write 1.0."""
        return [("/api/v1/write", FIRST_HEADERS, snappy(body)) for body in self._filled("first", at, batch)]

    def second(self, at: int, batch: int) -> list[Request]:
        """Remote write 2.0."""
        return [("/api/v1/write", SECOND_HEADERS, snappy(body)) for body in self._filled("second", at, batch)]

    def otlp(self, at: int, batch: int) -> list[Request]:
        """OTLP metrics, one resource a replica."""
        headers = {"Content-Type": "application/x-protobuf"}
        return [("/v1/metrics", headers, body) for body in self._filled("otlp", at, batch)]

    def pages(self, at: int, lines: int) -> list[Request]:
        """Pages of text, to the collector's door for them."""
        query = {"observed_at": self.time_ms(at) / 1000}
        return [
            ("/api/v1/scrapes?" + urlencode({"target": f"http://page-{page}/metrics", **query}), {}, text)
            for page, text in enumerate(self._texts(at, lines))
        ]

    def imports(self, at: int, lines: int) -> list[Request]:
        """The same pages, to VictoriaMetrics' door for them."""
        path = f"/api/v1/import/prometheus?timestamp={self.time_ms(at)}"
        return [(path, {}, text) for text in self._texts(at, lines)]

    def _texts(self, at: int, lines: int) -> Iterator[bytes]:
        values = self.values(at).tolist()
        for start in range(0, self.count, lines):
            text = [
                f"{self._heads[number]} {values[number]!r}\n" for number in range(start, min(start + lines, self.count))
            ]
            yield (
                "".join(f"# TYPE fleet:metric_{one:02d} gauge\n" for one in range(0, 40, 2)) + "".join(text)
            ).encode()

    @cached_property
    def _heads(self) -> list[str]:
        return [
            labels["__name__"] + "{" + ",".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__") + "}"
            for labels in self.labels
        ]

    def _filled(self, kind: str, at: int, batch: int) -> Iterator[bytes]:
        if (kind, batch) not in self._templates:
            make = {"first": first_body, "second": second_body, "otlp": otlp_body}[kind]
            parts = [self.labels[start : start + batch] for start in range(0, self.count, batch)]
            self._templates[kind, batch] = [template(make(part)) for part in parts]
        values = self.values(at)
        start = 0
        time = struct.pack("<Q", self.time_ms(at) * 1_000_000) if kind == "otlp" else varint(self.time_ms(at))
        for body, times, places, _ in self._templates[kind, batch]:
            array = np.frombuffer(body, np.uint8).copy()
            array[times[:, None] + np.arange(len(time))] = np.frombuffer(time, np.uint8)
            own = values[start : start + len(places)].astype("<f8").view(np.uint8).reshape(-1, 8)
            array[places[:, None] + np.arange(8)] = own
            start += len(places)
            yield array.tobytes()


def snappy(body: bytes) -> bytes:
    """Compress as remote write does."""
    return bytes(cramjam.snappy.compress_raw(body))


def template(body: bytes) -> tuple[bytearray, np.ndarray, np.ndarray, int]:
    """Find where times and values stand."""
    return bytearray(body), places_of(body, TIME_MARK), places_of(body, VALUE_MARK), len(body)


def places_of(body: bytes, mark: bytes) -> np.ndarray:
    """Find every place of a mark; one of a remote-write time is six bytes long."""
    mark = mark if mark in body else mark[:6]
    found, at = [], body.find(mark)
    while at >= 0:
        found.append(at)
        at = body.find(mark, at + 1)
    return np.array(found)


@lru_cache(maxsize=100_000)
def label(name: str, value: str) -> bytes:
    """A label of 1.0."""
    return field(0x0A, field(0x0A, name.encode()) + field(0x12, value.encode()))


SAMPLE = field(0x12, b"\x09" + VALUE_MARK + b"\x10" + TIME_MARK[:6])


def first_body(series: list[dict[str, str]]) -> bytes:
    """A body of 1.0 with marks."""
    return b"".join(field(0x0A, b"".join(label(name, one[name]) for name in sorted(one)) + SAMPLE) for one in series)


def second_body(series: list[dict[str, str]]) -> bytes:
    """A body of 2.0 with marks."""
    symbols: dict[str, int] = {"": 0}
    parts = []
    for one in series:
        refs = b"".join(
            varint(symbols.setdefault(text, len(symbols))) for name in sorted(one) for text in (name, one[name])
        )
        kind = 1 if one["__name__"].endswith("_total") else 2
        help_ref = symbols.setdefault(f"What {one['__name__']} says.", len(symbols))
        about = field(0x2A, bytes([0x08, kind, 0x18]) + varint(help_ref))
        parts.append(field(0x2A, field(0x0A, refs) + SAMPLE + about))
    return b"".join(field(0x22, text.encode()) for text in symbols) + b"".join(parts)


def otlp_body(series: list[dict[str, str]]) -> bytes:
    """An OTLP body with marks."""
    request = ExportMetricsServiceRequest()
    owner, metrics = "", None
    for one in series:
        if one["pod"] != owner:
            owner = one["pod"]
            resource = request.resource_metrics.add()
            for name in ("cluster", "instance", "job", "namespace", "pod"):
                resource.resource.attributes.add(key=name).value.string_value = one[name]
            metrics = resource.scope_metrics.add().metrics
        assert metrics is not None
        metric = metrics.add(name=one["__name__"], unit="1")
        if one["__name__"].endswith("_total"):
            metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
            point = metric.sum.data_points.add()
        else:
            point = metric.gauge.data_points.add()
        for name in ("engine", "model_name"):
            point.attributes.add(key=name).value.string_value = one[name]
        point.time_unix_nano = struct.unpack("<Q", TIME_MARK)[0]
        point.as_double = struct.unpack("<d", VALUE_MARK)[0]
    return bytes(request.SerializeToString())
