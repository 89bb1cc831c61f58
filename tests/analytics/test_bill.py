from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.bill import InvoiceLine, Rate, bill_of
from analytics.bill_sources import BillSources, bill_of_days
from analytics.errors import CurrencyError
from analytics.replica_intervals import ReplicaInterval

DAY = datetime(2026, 11, 1)
HOUR = timedelta(hours=1)


def replica(
    name="r", begins=DAY, ends=None, *, model="m", provider=None, region=None, purchase=None, gpu="H100", gpus=1
):
    return ReplicaInterval(name, begins, ends, model, provider, region, purchase, gpu, gpus)


def rate(
    units=3600, begins=DAY, ends=None, *, gpu="H100", provider=None, region=None, purchase=None, currency="USD", id="a"
):
    return Rate(id, gpu, provider, region, purchase, currency, units, begins, ends)


def line(units, begins=DAY, ends=DAY + 4 * HOUR, *, replica=None, id="i", currency="USD"):
    return InvoiceLine(id, begins, ends, replica, currency, units)


def bill(replicas, rates, invoices=(), start=DAY, end=DAY + 4 * HOUR):
    return bill_of(replicas, rates, invoices, start, end)


def units(found):
    return [(hour.replica, hour.hour_at.hour, hour.units) for hour in found.hours]


def test_an_hour_costs_gpus_times_rate():
    assert units(bill([replica(gpus=8)], [rate(100)], end=DAY + 2 * HOUR)) == [("r", 0, 800), ("r", 1, 800)]


def test_the_running_hour_is_billed_up_to_now():
    found = bill([replica()], [rate(100)], end=DAY + 1.25 * HOUR)
    assert units(found) == [("r", 0, 100), ("r", 1, 25)]
    assert found.hours[1].billed_microseconds == 900_000_000


def test_an_hour_is_cut_where_price_or_inventory_change_and_rounded_once():
    rates = [rate(100, ends=DAY + 0.5 * HOUR), rate(101, begins=DAY + 0.5 * HOUR, id="b")]
    assert units(bill([replica()], rates, end=DAY + HOUR)) == [("r", 0, 101)]  # 50 + 50.5 rounds up once
    grown = [replica(ends=DAY + 0.25 * HOUR), replica(begins=DAY + 0.25 * HOUR, gpus=3)]
    assert units(bill(grown, [rate(100)], end=DAY + HOUR)) == [("r", 0, 250)]


def test_of_overlapping_inventory_rows_the_later_one_holds():
    rows = [replica(gpus=1), replica(begins=DAY + HOUR, gpus=2)]
    assert units(bill(rows, [rate(100)], end=DAY + 2 * HOUR)) == [("r", 0, 100), ("r", 1, 200)]


def test_a_row_within_a_closed_one_holds_for_its_own_time_only():
    rows = [
        replica(gpus=1, ends=DAY + 4 * HOUR),
        replica(begins=DAY + HOUR, ends=DAY + 3 * HOUR, gpus=2),
        replica(begins=DAY + 2 * HOUR, ends=DAY + 2.5 * HOUR, gpus=4),
    ]
    assert [hour.units for hour in bill(rows, [rate(100)]).hours] == [100, 200, 300, 100]


def test_an_open_row_ends_for_good_where_the_next_begins():
    rows = [replica(gpus=1), replica(begins=DAY + HOUR, ends=DAY + 2 * HOUR, gpus=2)]
    assert [hour.units for hour in bill(rows, [rate(100)]).hours] == [100, 200]


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.none() | st.integers(-2, 30), st.integers(0, 8)),
        max_size=6,
        unique_by=lambda row: row[0],
    )
)
def test_every_moment_is_billed_by_the_last_row_that_holds_then(drawn):
    quarter = HOUR / 4
    rows = [
        replica(
            begins=DAY + begins * quarter, ends=None if long is None else DAY + (begins + long) * quarter, gpus=gpus
        )
        for begins, long, gpus in drawn
    ]
    expected = 0
    for at in range(48):
        begun = sorted(row for row in drawn if row[0] <= at)
        holding = [
            row
            for place, row in enumerate(begun)
            if (place == len(begun) - 1 if row[1] is None else at < row[0] + row[1])
        ]
        expected += holding[-1][2] if holding else 0
    found = bill(rows, [rate(4)], end=DAY + 12 * HOUR)
    assert sum(hour.units for hour in found.hours) == expected


def test_the_most_specific_rate_holds_then_the_later_one():
    rates = [
        rate(1, id="any"),
        rate(2, id="provider", provider="aws"),
        rate(3, id="both", provider="aws", region="eu"),
        rate(4, id="other", provider="gcp", region="eu", purchase="spot"),
        rate(5, id="later", provider="aws", region="eu", begins=DAY + HOUR),
    ]
    found = bill([replica(provider="aws", region="eu", purchase="spot")], rates, end=DAY + 2 * HOUR)
    assert [hour.units for hour in found.hours] == [3, 5]


def test_gpu_time_without_a_rate_is_missing_and_not_free():
    found = bill([replica(gpu="B200", gpus=2, region="eu")], [rate()], end=DAY + 4 * HOUR)
    assert found.hours == ()
    (gap,) = found.unpriced
    assert gap.gpu_hours == 8
    assert str(gap) == ("B200 of replica r (eu): no rate from 2026-11-01 00:00 to 2026-11-01 04:00 (8.0 GPU-hours)")


def test_neighbouring_gaps_are_told_as_one():
    rates = [rate(ends=DAY + HOUR, gpu="L4", id="b"), rate(begins=DAY + 2 * HOUR, ends=DAY + 3 * HOUR)]
    gaps = bill([replica()], rates).unpriced
    assert [(g.interval.valid_from.hour, g.interval.valid_to.hour) for g in gaps] == [(0, 2), (3, 4)]


@pytest.mark.parametrize("missing", [{"gpu": None}, {"gpus": None}])
def test_an_inventory_row_without_gpus_can_not_be_priced(missing):
    (gap,) = bill([replica(**missing)], [rate()]).unpriced
    assert gap.gpu_hours is None
    assert "not in the inventory" in str(gap)


def test_an_invoice_line_beats_the_rate_where_it_covers():
    found = bill([replica()], [rate(100)], [line(7, DAY + HOUR, DAY + 3 * HOUR, replica="r")])
    assert units(found) == [("r", 0, 100), ("r", 1, 3), ("r", 2, 4), ("r", 3, 100)]


def test_a_fleet_line_is_spread_by_gpu_time_and_adds_up():
    fleet = [replica("a", gpus=1), replica("b", gpus=2, ends=DAY + 2 * HOUR)]
    found = bill(fleet, [], [line(1001)])
    assert found.units == 1001
    assert sum(hour.units for hour in found.hours if hour.replica == "b") == pytest.approx(500, abs=2)


def test_an_invoice_is_spread_the_same_whatever_range_is_asked_for():
    invoice = line(1000, DAY, DAY + 7 * HOUR)
    whole = units(bill([replica()], [], [invoice], end=DAY + 7 * HOUR))
    parts = [
        cell
        for hour in range(7)
        for cell in units(bill([replica()], [], [invoice], start=DAY + hour * HOUR, end=DAY + (hour + 1) * HOUR))
    ]
    assert parts == whole
    assert sum(amount for *_, amount in whole) == 1000


def test_a_line_for_an_unknown_replica_is_still_billed():
    found = bill([], [], [line(10, replica="ghost"), line(5, id="j")])
    assert sum(hour.units for hour in found.hours if hour.replica == "ghost") == 10
    assert found.units == 15


def test_a_credit_lowers_the_bill():
    assert bill([replica()], [], [line(100), line(-30, id="j")]).units == 70


def test_currencies_are_never_added():
    with pytest.raises(CurrencyError, match="EUR, USD"):
        bill([replica("a"), replica("b", gpu="L4")], [rate(), rate(gpu="L4", currency="EUR", id="b")])


def test_a_credit_does_not_stand_in_for_the_rates_of_its_period():
    found = bill([replica()], [rate(100)], [replace(line(-30), covers=False)])
    assert found.units == 4 * 100 - 30
    assert {hour.billed_microseconds for hour in found.hours} == {3_600_000_000}


def test_an_hour_billed_by_two_lines_is_billed_once_in_time():
    quarter = replica(ends=DAY + 0.25 * HOUR)
    found = bill([quarter], [], [line(8), line(-4, id="j")])
    assert [(hour.units, hour.billed_microseconds) for hour in found.hours] == [(4, 900_000_000)]


def test_rates_and_invoices_of_one_hour_add_up_in_time():
    half = line(7, DAY, DAY + 0.5 * HOUR)
    (hour,) = bill([replica()], [rate(100)], [half], end=DAY + HOUR).hours
    assert (hour.units, hour.billed_microseconds) == (57, 3_600_000_000)


def test_a_negative_number_of_gpus_is_missing_from_the_bill_and_no_credit():
    found = bill([replica(gpus=-2)], [rate()])
    assert found.units == 0
    assert "gpu_count is -2" in str(found.unpriced[0])


QUARTERS = st.integers(0, 4 * 72)
"""Moments of three days."""


def at_quarter(number):
    return DAY + number * HOUR / 4


SPANS = st.tuples(QUARTERS, QUARTERS).map(sorted).filter(lambda span: span[0] < span[1])
SOURCES = st.builds(
    BillSources,
    st.lists(
        st.builds(
            lambda name, span, is_open, gpu, gpus: replica(
                name, at_quarter(span[0]), None if is_open else at_quarter(span[1]), gpu=gpu, gpus=gpus
            ),
            st.sampled_from("rq"), SPANS, st.booleans(), st.sampled_from(["H100", "L4", None]), st.integers(-1, 8),
        ),
        max_size=4,
    ).map(tuple),
    st.lists(
        st.builds(
            lambda units, span, gpu, currency, id: rate(
                units, at_quarter(span[0]), at_quarter(span[1]), gpu=gpu, currency=currency, id=id
            ),
            st.integers(1, 10**9), SPANS, st.sampled_from(["H100", "L4"]), st.sampled_from(["USD"] * 4 + ["EUR"]),
            st.sampled_from("abc"),
        ),
        max_size=4,
    ).map(tuple),
    st.lists(
        st.builds(
            lambda units, span, name, currency, covers: replace(
                line(units, at_quarter(span[0]), at_quarter(span[1]), replica=name, currency=currency), covers=covers
            ),
            st.integers(-(10**6), 10**6), SPANS, st.sampled_from(["r", "ghost", None]),
            st.sampled_from(["USD"] * 4 + ["EUR"]), st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
)  # fmt: skip


@given(SOURCES, SPANS, QUARTERS)
def test_days_that_are_over_are_priced_once_and_as_the_whole_range_is(sources, span, later):
    for start, end in (span, (span[0], max(later, span[0]))):
        start, end = at_quarter(start), at_quarter(end)
        try:
            whole = bill_of(sources.intervals, sources.rates, sources.invoices, start, end)
        except CurrencyError as mixed:
            with pytest.raises(CurrencyError) as again:
                sources.bill(start, end)
            assert str(again.value) == str(mixed)
            continue
        assert sources.bill(start, end) == whole


def test_the_days_that_are_over_are_priced_once():
    sources = BillSources((replica("once"),), (rate(100),), ())
    found = [sources.bill(DAY, DAY + hours * HOUR) for hours in (49, 50, 73)]
    assert found[0].hours[0] is found[1].hours[0]
    assert found[0].hours[0] is not found[2].hours[0], "another midnight"
    before = bill_of_days.cache_info().hits
    assert replace(sources, rates=(rate(101),)).bill(DAY, DAY + 73 * HOUR).units == 73 * 101
    assert bill_of_days.cache_info().hits == before, "other prices"
