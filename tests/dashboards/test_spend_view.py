"""Money on a page: exact, by month, and as CSV."""

import csv
import io
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import polars as pl

from dashboards import spend_view


@dataclass
class Report:
    entries: pl.DataFrame
    currency: str = "USD"


ENTRIES = pl.DataFrame(
    {
        "day": [date(2026, 11, 1)] * 3,
        "replica": ["r"] * 3,
        "model": ["m", "m", None],
        "bucket": ["request", "wasted", "warm_idle"],
        "team": ["search", "search", None],
        "app": [None] * 3,
        "amount_units": [1, 2, 999_999_999_999],
        "requests_count": [1, 1, 0],
        "input_tokens": [10, 0, 0],
        "cached_tokens": [0, 0, 0],
        "output_tokens": [5, 0, 0],
    }
)


def test_amounts_are_exact_and_sum_to_the_bill():
    amounts = spend_view.amounts(Report(ENTRIES), "team")
    assert amounts[date(2026, 11, 1), "search"] == Decimal("0.000000003")
    assert sum(amounts.values()) == spend_view.usd(1_000_000_000_002)
    assert spend_view.buckets_units(Report(ENTRIES)) == {"teams": 3, "warm_idle": 999_999_999_999}


def test_the_csv_sums_to_the_bill_to_the_last_place():
    rows = list(csv.DictReader(io.StringIO(spend_view.csv_of(Report(ENTRIES)))))
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("1000.000000002")
    assert {row["team"] for row in rows} == {"search", ""}


def test_money_per_token_of_no_tokens_is_absent():
    assert spend_view.per_million(5, 0) is None
    assert spend_view.per_million(2_000_000_000, 1_000_000) == 2


def test_a_month_that_is_over_is_counted_whole_and_this_one_up_to_now():
    now = datetime(2026, 11, 21, 12)
    assert spend_view.month_of(date(2026, 10, 1), now).end_day == date(2026, 11, 1)
    assert spend_view.month_of(date(2026, 11, 1), now).end_day == date(2026, 11, 22)


def test_the_month_before_is_compared_up_to_the_same_moment_or_its_end():
    assert spend_view.month_of(date(2026, 11, 1), datetime(2026, 11, 21, 12)).before().now == datetime(2026, 10, 21, 12)
    assert spend_view.month_of(date(2026, 3, 1), datetime(2026, 3, 31)).before().now == datetime(2026, 3, 1)


def test_months_go_back_to_the_first_request():
    found = spend_view.months_between(datetime(2025, 12, 31), datetime(2026, 2, 1))
    assert found == [date(2026, 2, 1), date(2026, 1, 1), date(2025, 12, 1)]
