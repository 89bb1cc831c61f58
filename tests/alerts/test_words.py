"""Durations, times, silences and amounts: what people write is read, what they read is plain."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.clock import iso, read_time
from alerts.durations import parse_duration, say_duration, write_duration
from alerts.errors import AlertsError
from alerts.fingerprints import event_id, fingerprint
from alerts.silences import Silence, parse_matcher
from alerts.wording import budget_state, measure_text, money_text, short

NOW = datetime(2026, 11, 21, 12)


@given(st.integers(0, 10**8))
def test_a_duration_is_read_back_as_it_was_written(seconds):
    assert parse_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1.5h", None, True, -3, "5y"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_durations_are_said_in_two_units_at_most():
    said = [say_duration(seconds) for seconds in (0, 40, 90, 3600, 5400, 86_400 * 3 + 3600 * 4 + 60)]
    assert said == ["0 s", "40 s", "1 min 30 s", "1 h", "1 h 30 min", "3 d 4 h"]


def test_times_are_utc_whatever_zone_they_come_in():
    assert (
        read_time("2026-11-21T13:00:00+01:00") == read_time("2026-11-21T12:00:00Z") == read_time("2026-11-21T12:00:00")
    )
    assert read_time(iso(NOW)) == NOW


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("model=llama", True),
        ('model="llama"', True),
        ("model!=llama", False),
        ("model=~lla.*", True),
        ("model=~lla", False),
        ("model!~lla", True),
        ("team=", True),
        ("team!=x", True),
    ],
)
def test_a_matcher_matches_the_whole_value_and_a_missing_label_is_empty(text, matches):
    assert parse_matcher(text).matches({"model": "llama"}) is matches


@pytest.mark.parametrize("text", ["model", "=x", "model=~(", "a b=c"])
def test_what_is_no_matcher_is_refused(text):
    with pytest.raises(AlertsError):
        parse_matcher(text)


def test_a_silence_ends_when_it_says():
    silence = Silence("s", (parse_matcher("model=llama"),), NOW, NOW + timedelta(hours=1), "", "")
    labels = {"model": "llama"}
    assert [silence.silences(labels, NOW + timedelta(minutes=minutes)) for minutes in (-1, 0, 59, 60)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_an_event_id_names_alert_episode_kind_number_and_receiver():
    parts = ["f", (1, NOW), "firing", 0, "hook"]
    others = ["g", (2, NOW), "resolved", 1, "pager"]
    ids = {event_id(*parts)}
    for position, other in enumerate(others):
        ids.add(event_id(*parts[:position], other, *parts[position + 1 :]))
    ids.add(event_id("f", (1, NOW + timedelta(seconds=1)), "firing", 0, "hook"))
    assert len(ids) == 7
    assert event_id(*parts) in ids


def test_a_fingerprint_does_not_depend_on_the_order_of_labels():
    assert fingerprint("r", {"a": "1", "b": "2"}) == fingerprint("r", {"b": "2", "a": "1"})
    assert fingerprint("r", {"a": "1"}) != fingerprint("q", {"a": "1"})


def test_values_are_said_with_their_units():
    assert measure_text("ttft_p95_seconds", 2.3456) == "2.35 s"
    assert measure_text("tpot_p95_seconds", 0.0421) == "42.1 ms"
    assert measure_text("error_ratio", 0.0123) == "1.23 %"
    assert measure_text("target_up", 0.0) == "down"
    assert money_text(12_345 * 10**9 + 6 * 10**8) == "12,346 USD"


def test_a_budget_is_said_as_left_or_overspent():
    assert budget_state(0.625, 75_600) == "62.5 % of the budget left, empty in 21 h"
    assert budget_state(0.5, None) == "50 % of the budget left"
    assert budget_state(-0.58, 0.0) == "budget overspent by 58 %"


def test_numbers_are_never_written_with_an_exponent():
    assert [short(value) for value in (0.123456, 14.44, 1000.4, 99_900.0, -5000.0)] == [
        "0.123", "14.4", "1,000", "99,900", "-5,000",
    ]  # fmt: skip
