"""Our encoder gives the message that OpenTelemetry's own gives, for any spans that the exporter can make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as sdk_encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from engine_exporter.phase_spans import Phases, with_phases
from engine_exporter.span_encoding import encode_spans
from engine_exporter.span_queue import request_span
from engine_exporter.trace_context import Parent

texts = st.text(max_size=20)
values = (
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.lists(texts, max_size=3).map(tuple)
)
ids = {bits: st.integers(1, 2**bits - 1) for bits in (64, 128)}
parents = st.none() | st.builds(Parent, ids[128], ids[64], st.booleans())
resources = [Resource({"service.name": "vllm", "infer.gpu.count": 2}), Resource({}, "https://schema"), Resource({})]
seconds = st.none() | st.floats(0, 100)


@st.composite
def spans(draw):
    start = draw(st.integers(0, 2**62))
    return request_span(
        draw(texts),
        draw(ids[128]),
        draw(ids[64]),
        draw(parents),
        draw(st.sampled_from(resources)),
        draw(st.dictionaries(texts, values, max_size=6)),
        start,
        start + draw(st.integers(0, 2**40)),
        draw(st.none() | texts),
        draw(st.none() | st.builds(Phases, seconds, seconds, seconds, seconds)),
    )


@given(st.lists(spans(), max_size=5))
def test_the_message_is_that_of_the_sdk(some):
    sent = with_phases(some)
    assert ExportTraceServiceRequest.FromString(encode_spans(sent)) == sdk_encode_spans(sent)


def test_a_span_without_ids_is_none():
    with pytest.raises(ValueError, match="'lost' has no ids"):
        encode_spans([ReadableSpan("lost", resource=Resource({}))])
