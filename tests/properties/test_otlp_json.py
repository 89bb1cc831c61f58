"""OTLP/JSON by its fast way and by protobuf's own: the same message, or the same error."""

import base64
import json

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st

from collector.errors import PermanentError
from collector.receivers.otlp_json import OddError, protobuf_by_reference, protobuf_of_json, protobuf_of_usual_json
from collector.receivers.otlp_messages import SIGNALS

LIMITS = [2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**31), -(2**63)]
INTEGERS = st.one_of(st.integers(-3, 40), st.sampled_from([*LIMITS, *(limit - 1 for limit in LIMITS)]))
ODD_TEXTS = ("1.0", "1e3", "+5", " 7", "1_0", "٣", "-", "--1", "Infinity", "NaN", "SPAN_KIND_SERVER", "\ud800")
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([*ODD_TEXTS, 1e400]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from(["a", "values", "stringValue"]), st.integers(0, 3), max_size=2),
)
NAMES_BESIDE = ("unknown", "[extension]", "", "trace_id", "start_time_unix_nano", "string_value", "traceId")


def values(field):
    """Usual values of a field, and some that are not."""
    kinds = field.cpp_type
    if kinds == field.CPPTYPE_MESSAGE:
        one = st.deferred(lambda: messages(field.message_type))
    elif field.type == field.TYPE_BYTES:
        one = st.one_of(
            st.sampled_from(["ab" * 16, "CD" * 8, "", "abc", "0 1"]), st.just(base64.b64encode(b"xyz").decode())
        )
    elif kinds == field.CPPTYPE_STRING:
        one = st.text(max_size=6)
    elif kinds == field.CPPTYPE_BOOL:
        one = st.booleans()
    elif kinds in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        one = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5), st.just(10**400))
    elif kinds == field.CPPTYPE_ENUM:
        one = st.integers(-1, 30)
    else:
        one = st.one_of(INTEGERS, INTEGERS.map(str))
    if field.is_repeated:
        return st.lists(one, max_size=2)
    return one


def messages(descriptor):
    """JSON objects of a kind of message; a few are in an odd form."""
    fields = list(descriptor.fields)
    usual = st.fixed_dictionaries({}, optional={field.json_name: values(field) for field in fields})
    if descriptor.name == "AnyValue":
        usual = st.one_of(
            st.one_of(*(values(field).map(lambda value, field=field: {field.json_name: value}) for field in fields)),
            usual,
        )
    names = st.sampled_from([*NAMES_BESIDE, *(field.name for field in fields), *(field.json_name for field in fields)])
    beside = st.dictionaries(names, ODD, max_size=1)
    spoiled = st.builds(lambda one, other: {**one, **other}, usual, beside)
    return st.one_of(usual, usual, usual, usual, spoiled)


def judged(convert, signal, body):
    try:
        return signal.request.FromString(convert(signal, body))
    except PermanentError as error:
        return str(error)


def same(kind, body):
    signal = SIGNALS[kind]
    expected = judged(protobuf_by_reference, signal, body)
    assert judged(protobuf_of_json, signal, body) == expected
    return expected


@given(
    st.one_of(*(messages(SIGNALS[kind].request.DESCRIPTOR).map(lambda one, kind=kind: (kind, one)) for kind in SIGNALS))
)
def test_any_json_gives_the_same_message_or_error(case):
    kind, value = case
    same(kind, json.dumps(value).encode())


@given(st.sampled_from(sorted(SIGNALS)), st.binary(max_size=40))
@example("traces", b"\xef\xbb\xbf{}")
@example("traces", '{"resourceSpans": []}'.encode("utf-16"))
@example("traces", b'{"resourceSpans": NaN}')
@example("traces", b"[" * 100_000)
@example("traces", b'{"resourceSpans": [], "resourceSpans": [{}]}')
@example(
    "logs",
    b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":'
    + b'{"arrayValue":{"values":[' * 40
    + b"]}}" * 40
    + b"}]}]}]}",
)
def test_any_bytes_give_the_same_message_or_error(kind, body):
    same(kind, body)


def of_every_kind(field, depth=0):
    """The usual form of a field, with everything in it."""
    if field.cpp_type == field.CPPTYPE_MESSAGE:
        one = everything(field.message_type, depth + 1)
    elif field.type == field.TYPE_BYTES:
        one = "5b8efff798038103d269b633813fc60c" if "trace" in field.name else "eee19b7ec3c1b174"
    elif field.cpp_type == field.CPPTYPE_STRING:
        one = f"text of {field.name} ✓"
    elif field.cpp_type == field.CPPTYPE_BOOL:
        one = True
    elif field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        one = -12.5
    elif field.cpp_type == field.CPPTYPE_ENUM:
        one = 1
    elif "64" in str(json_format_type(field)):
        one = "1790000000000000000"
    else:
        one = 7
    return [one, one] if field.is_repeated else one


def json_format_type(field):
    return {field.TYPE_FIXED64: 64, field.TYPE_UINT64: 64, field.TYPE_SFIXED64: 64, field.TYPE_INT64: 64}.get(
        field.type, 32
    )


def everything(descriptor, depth=0):
    if descriptor.name == "AnyValue":
        choices = ({"stringValue": "a"}, {"intValue": "-5"}, {"doubleValue": 0.5}, {"boolValue": False}, {})
        return (
            choices[depth % 5] if depth > 8 else {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 3}}]}}
        )
    if descriptor.name == "KeyValue":
        return {"key": "name", "value": everything(descriptor.fields_by_name["value"].message_type, depth + 1)}
    taken = set()
    message = {}
    for field in descriptor.fields:
        if (oneof := field.containing_oneof) is not None and len(oneof.fields) > 1:
            if oneof.name in taken:
                continue
            taken.add(oneof.name)
        message[field.json_name] = of_every_kind(field, depth)
    return message


@pytest.mark.parametrize("kind", sorted(SIGNALS))
def test_the_usual_form_of_every_field_goes_the_fast_way(kind):
    signal = SIGNALS[kind]
    body = json.dumps(everything(signal.request.DESCRIPTOR)).encode()
    fast = signal.request.FromString(protobuf_of_usual_json(signal, body))
    assert fast == signal.request.FromString(protobuf_by_reference(signal, body))
    assert fast.ByteSize() > 500


def test_what_is_odd_goes_to_the_reference():
    for body in (b'{"resource_spans": []}', b'{"resourceSpans": null}', b"[]", b'{"[x]": 1}'):
        with pytest.raises(OddError):
            protobuf_of_usual_json(SIGNALS["traces"], body)
    assert json_format.MessageToJson(same("traces", b'{"resource_spans": [{}], "new": {"field": 1}}'), indent=None)
