"""Which window a page shows."""

from datetime import datetime, timedelta

import pytest

from dashboards.errors import BadLink
from dashboards.window import MOST_BUCKETS, RANGES, Window, choose_window, parse_time, round_down, round_up

NOW = datetime(2026, 11, 21, 9, 30, 7)


def choose(name=None, parameters=None, last=NOW):
    return choose_window(
        name, parameters or {}, now=NOW, last_data_at=last, tick_seconds=15, anchor_after_seconds=6 * 3600
    )


def test_a_named_range_ends_at_the_next_tick():
    assert choose("1h") == Window(datetime(2026, 11, 21, 8, 30, 15), datetime(2026, 11, 21, 9, 30, 15))


def test_an_unknown_range_is_the_default():
    assert choose("7 weeks").seconds == 3 * 3600


def test_data_that_ended_long_ago_is_shown_from_its_end():
    assert choose("1h", last=datetime(2023, 11, 16, 18, 0)).end == datetime(2023, 11, 16, 18, 0, 15)


def test_data_that_ended_lately_is_an_outage_and_shown_as_one():
    assert choose("1h", last=NOW - timedelta(hours=2)).end > NOW


def test_a_link_wins_over_the_named_range():
    window = choose("1h", {"from": "2026-11-20T00:00", "to": "2026-11-20T06:00:00+01:00"})
    assert (window.start, window.end, window.fixed) == (datetime(2026, 11, 20), datetime(2026, 11, 20, 5), True)


@pytest.mark.parametrize("bad", ["noon", "", "99999999999999999999", "2026-13-01"])
def test_a_time_that_is_none_is_refused_with_an_example(bad):
    with pytest.raises(BadLink, match="2026-11-21T09:30"):
        parse_time(bad)


def test_a_window_that_ends_before_it_starts_is_refused():
    with pytest.raises(BadLink, match="not before"):
        choose("1h", {"from": "2026-11-20T06:00", "to": "2026-11-20T05:00"})


def test_milliseconds_are_read_as_a_brush_gives_them():
    assert parse_time("1795253400000") == datetime(2026, 11, 21, 9, 30)


@pytest.mark.parametrize("name", RANGES)
def test_no_range_has_more_points_than_a_chart_can_show(name):
    window = choose(name)
    assert window.seconds / window.bucket_seconds <= MOST_BUCKETS


def test_the_window_before_is_as_long_and_ends_where_this_one_starts():
    window = choose("3h")
    assert window.before().end == window.start
    assert window.before().seconds == window.seconds


def test_rounding_leaves_a_multiple_alone():
    assert round_up(datetime(2026, 1, 1), 15) == round_down(datetime(2026, 1, 1), 15) == datetime(2026, 1, 1)
    assert round_down(NOW, 300) == datetime(2026, 11, 21, 9, 30)
