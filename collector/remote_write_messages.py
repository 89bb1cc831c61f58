"""Prometheus remote-write messages, 1.0 (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`).

The descriptors are built here, from one line a message, so that no generated code and no compiler is needed.

Source: https://prometheus.io/docs/specs/prw/remote_write_spec/ and …/remote_write_spec_2_0/ (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
TYPES = {
    "double": FIELD.TYPE_DOUBLE,
    "int64": FIELD.TYPE_INT64,
    "uint64": FIELD.TYPE_UINT64,
    "uint32": FIELD.TYPE_UINT32,
    "sint32": FIELD.TYPE_SINT32,
    "sint64": FIELD.TYPE_SINT64,
    "string": FIELD.TYPE_STRING,
    "int32": FIELD.TYPE_INT32,
}
HISTOGRAM = (
    "count_int:1 uint64 in=count; count_float:2 double in=count; sum:3 double; schema:4 sint32; "
    "zero_threshold:5 double; zero_count_int:6 uint64 in=zero_count; zero_count_float:7 double in=zero_count; "
    "negative_spans:8 BucketSpan*; "
    "negative_deltas:9 sint64*; negative_counts:10 double*; positive_spans:11 BucketSpan*; positive_deltas:12 sint64*; "
    "positive_counts:13 double*; reset_hint:14 int32; timestamp:15 int64; custom_values:16 double*"
)
SHARED = {
    "Sample": "value:1 double; timestamp:2 int64",
    "BucketSpan": "offset:1 sint32; length:2 uint32",
    "Histogram": HISTOGRAM,
}
FIRST = {
    **SHARED,
    "Label": "name:1 string; value:2 string",
    "Exemplar": "labels:1 Label*; value:2 double; timestamp:3 int64",
    "TimeSeries": "labels:1 Label*; samples:2 Sample*; exemplars:3 Exemplar*; histograms:4 Histogram*",
    "MetricMetadata": "type:1 int32; metric_family_name:2 string; help:4 string; unit:5 string",
    "WriteRequest": "timeseries:1 TimeSeries*; metadata:3 MetricMetadata*",
}
SECOND = {
    **SHARED,
    "Exemplar": "labels_refs:1 uint32*; value:2 double; timestamp:3 int64",
    "Metadata": "type:1 int32; help_ref:3 uint32; unit_ref:4 uint32",
    "TimeSeries": "labels_refs:1 uint32*; samples:2 Sample*; histograms:3 Histogram*; exemplars:4 Exemplar*; "
    "metadata:5 Metadata; created_timestamp:6 int64",
    "Request": "symbols:4 string*; timeseries:5 TimeSeries*",
}


def message_classes(package: str, messages: dict[str, str]) -> dict[str, Any]:
    """Build the classes of one protocol version from its lines."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field in fields.split("; "):
            add_field(message, field, package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def add_field(message: Any, field: str, package: str) -> None:
    """Add a field written as `name:number type`, `*` behind the type where it repeats, `in=` its oneof."""
    head, kind, *oneof = field.split(" ")
    name, number = head.split(":")
    label = FIELD.LABEL_REPEATED if kind.endswith("*") else FIELD.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    added = message.field.add(name=name, number=int(number), label=label)
    if kind in TYPES:
        added.type = TYPES[kind]
    else:
        added.type, added.type_name = FIELD.TYPE_MESSAGE, f".{package}.{kind}"
    if oneof:
        choice = oneof[0].removeprefix("in=")
        names = [one.name for one in message.oneof_decl]
        if choice not in names:
            message.oneof_decl.add(name=choice)
            names.append(choice)
        added.oneof_index = names.index(choice)


FIRST_MESSAGES = message_classes("prometheus", FIRST)
SECOND_MESSAGES = message_classes("io.prometheus.write.v2", SECOND)
WriteRequest = FIRST_MESSAGES["WriteRequest"]
"""Remote write 1.0."""
Request = SECOND_MESSAGES["Request"]
"""Remote write 2.0."""
FAMILY_KINDS = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
"""Kind of a metric family by its number in both versions."""
