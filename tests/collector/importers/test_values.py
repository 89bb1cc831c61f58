"""Cells are read strictly and exactly."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.importers.formats import write_runs
from collector.importers.rows import complete, derive_ids
from collector.importers.values import EPOCH, after, count, flag, moment, seconds, text

TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1))


@given(TIMES, st.sampled_from([("us", 1), ("ms", 1000), ("s", 1_000_000)]))
def test_a_whole_number_of_any_unit_is_exact(time, unit):
    name, micros = unit
    whole = (time - EPOCH) // timedelta(microseconds=micros)
    assert moment(whole, name) == EPOCH + whole * timedelta(microseconds=micros)
    assert moment(str(whole), name) == moment(whole, name)


@given(TIMES)
def test_nanoseconds_are_cut_to_microseconds(time):
    nanos = (time - EPOCH) // timedelta(microseconds=1) * 1000 + 999
    assert moment(nanos, "ns") == time


@given(TIMES, st.integers(-14 * 60, 14 * 60))
def test_an_iso_time_with_any_offset_becomes_utc(time, minutes):
    zoned = time.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    assert moment(zoned.isoformat()) == time == moment(zoned)


@given(st.integers(0, 2**63 - 1))
def test_a_count_is_exact_however_it_is_written(number):
    assert count(number) == count(str(number)) == count(f" {number} ") == number


@pytest.mark.parametrize("cell", [None, "", float("nan")])
def test_an_empty_cell_says_nothing(cell):
    assert [read(cell) for read in (count, seconds, moment, flag, text)] == [None] * 5


@pytest.mark.parametrize(
    ("read", "cell"),
    [
        (count, -1), (count, 1.5), (count, "1e400"), (count, True), (count, 2**63), (count, "ten"), (count, [1]),
        (seconds, -0.1), (seconds, float("inf")), (seconds, "1s"),
        (flag, 2), (moment, "soon"), (moment, 5), (moment, "2024-02-30"), (text, {"a": 1}), (text, "\ud800"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_refused_and_quoted(read, cell):
    with pytest.raises(ValueError, match=r"is not|is neither"):
        read(cell)


@pytest.mark.parametrize("amount", [10**30, 1e300, float("inf"), float("nan")])
def test_a_time_beyond_the_calendar_is_refused(amount):
    with pytest.raises(ValueError, match="not a time"):
        after(EPOCH, amount)


@given(st.lists(st.integers(0, 50)))
def test_runs_of_block_ids_can_be_read_back(ids):
    written = write_runs(ids)
    runs = (run.split("-") for run in written.split(",")) if written else ()
    assert [block for run in runs for block in range(int(run[0]), int(run[-1]) + 1)] == ids


@given(st.text(), st.integers(1, 10**9))
def test_ids_have_the_form_of_w3c_and_follow_from_origin_and_row(origin, row):
    trace_id, span_id = derive_ids(origin, row)
    assert (len(bytes.fromhex(trace_id)), len(bytes.fromhex(span_id))) == (16, 8)
    assert (trace_id, span_id) == derive_ids(origin, row)
    assert trace_id != derive_ids("another", row)[0] and trace_id != derive_ids(origin, row + 1)[0]


def test_tpot_is_left_out_where_it_is_undefined():
    whole = {"started_at": EPOCH, "e2e_seconds": 2.0, "ttft_seconds": 1.0, "output_tokens": 5}
    assert complete(whole)["tpot_seconds"] == 0.25
    for change in ({"output_tokens": 1}, {"output_tokens": None}, {"ttft_seconds": None}, {"ttft_seconds": 3.0}):
        assert complete(whole | change).get("tpot_seconds") is None
    assert complete(whole | {"tpot_seconds": 0.5})["tpot_seconds"] == 0.5
