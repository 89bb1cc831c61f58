"""W3C trace context, by the examples and rules of the specification."""

import pytest

from engine_exporter.trace_context import parse_traceparent, traceparent, tracestate

GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (GOOD, True),
        (GOOD[:-2] + b"00", False),
        (b"cc" + GOOD[2:] + b"-what-the-future-will-be-like", True),
        (b" " + GOOD + b" ", True),
    ],
    ids=["sampled", "not sampled", "a later version", "blanks"],
)
def test_what_is_valid_is_read(value, sampled):
    parent = parse_traceparent(value)
    assert (parent.trace_id, parent.span_id, parent.sampled) == (
        0x4BF92F3577B34DA6A3CE929D0E0E4736,
        0x00F067AA0BA902B7,
        sampled,
    )


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        b"ff" + GOOD[2:],
        GOOD + b"-more",
        GOOD.upper(),
        GOOD[:-1],
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e473z-00f067aa0ba902b7-01",
    ],
)
def test_what_is_not_starts_a_trace_of_its_own(value):
    assert parse_traceparent(value) is None


def test_what_is_written_is_read_back_as_sampled():
    parent = parse_traceparent(traceparent(7, 9))
    assert (parent.trace_id, parent.span_id, parent.sampled) == (7, 9, True)


def test_our_member_comes_first_once_and_the_others_stay():
    assert tracestate(b"", 1) == b"fleetmeter=0000000000000001"
    assert tracestate(b"a=1, fleetmeter=old ,b=2,", 255) == b"fleetmeter=00000000000000ff,a=1,b=2"


def test_a_list_has_at_most_32_members():
    many = b",".join(b"k%d=1" % number for number in range(40))
    assert tracestate(many, 1).count(b",") == 31
