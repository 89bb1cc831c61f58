"""A team's statement: every table sums to its amount, the change to its difference, and the page tells it all."""

import csv
import io
import re
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.allocation.entries import entry_schema
from analytics.errors import AnalyticsError
from analytics.ledger import CostReport
from analytics.statement import CHANGES, MEASURES, changes, statement_of, statement_rows, unit_prices
from analytics.statement_page import statement_page
from analytics.statement_print import find_browser

FIRST, LAST = date(2026, 11, 1), date(2026, 12, 1)
NOW = datetime(2026, 12, 1, 9)
keys = st.tuples(st.sampled_from(["used", "idle"]), st.sampled_from(["m", "n"]))
month = st.dictionaries(keys, st.tuples(st.integers(-(10**12), 10**15), st.integers(0, 10**10)))


def report(*rows, start=FIRST, end=LAST):
    full = []
    for row in rows:
        entry = {**dict.fromkeys(entry_schema(), 0), "day": start, "replica": "r", "model": "m", "bucket": "request"}
        full.append({**entry, "team": "a", "app": None, "method": "tokens", **row})
    entries = pl.DataFrame(full, schema=entry_schema(), orient="row")
    return CostReport(start, end, "USD", int(entries["amount_units"].sum()), entries, [])


USED = {
    "amount_units": 10 * 10**9, "requests_count": 4, "input_tokens": 3_000_000, "cached_tokens": 1_000_000,
    "output_tokens": 500_000, "input_units": 4 * 10**9, "cached_units": 10**9, "output_units": 5 * 10**9,
    "saved_units": 10**9,
}  # fmt: skip
NOVEMBER = report(
    {**USED, "app": "chat"}, {"amount_units": 2 * 10**9, "bucket": "wasted", "day": date(2026, 11, 3)},
    {"amount_units": 5, "team": "b"}, {"amount_units": 3, "team": None, "bucket": "warm_idle", "method": None},
)  # fmt: skip


@given(month, month)
def test_the_parts_of_a_change_sum_to_the_difference(before, after):
    parts = changes(before, after)
    assert tuple(parts) == CHANGES
    whole = sum(units for units, _ in after.values()) - sum(units for units, _ in before.values())
    assert sum(parts.values()) == whole
    back = changes(after, before)
    assert {name: -units for name, units in back.items()} == pytest.approx(parts, abs=2)


def test_a_model_with_twice_the_tokens_at_the_same_cost_per_token_grew_by_tokens_alone():
    before, after = {("used", "m"): (100, 10)}, {("used", "m"): (200, 20), ("used", "n"): (7, 1), ("idle", "m"): (3, 0)}
    assert changes(before, after) == {"tokens": 100, "cost_per_token": 0, "begun_or_ended": 7, "idle_share": 3}


def test_a_statement_holds_the_team_alone_and_sums():
    made = statement_of(NOVEMBER, "a", budget_units=6 * 10**9, policies={"separate": NOVEMBER})
    assert made.amount_units == 12 * 10**9 == int(made.lines["amount_units"].sum()) == sum(made.days.values())
    assert made.policies == {"separate": made.amount_units}
    assert (made.before_units, made.change) == (None, {})
    rows = statement_rows(made)
    assert rows.columns[-len(MEASURES) :] == list(MEASURES)
    assert rows["amount"].to_list() == ["10.000000000", "2.000000000"]


def test_unit_prices_are_of_computed_cached_and_output_tokens_apart():
    (row,) = unit_prices(statement_of(NOVEMBER, "a").lines)
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"]) == (2_000_000, 1_000_000, 500_000)
    assert (row["input_price"], row["cached_price"], row["output_price"]) == (2 * 10**9, 10**9, 10 * 10**9)


def test_a_team_that_is_charged_nothing_is_refused_with_those_that_are():
    with pytest.raises(AnalyticsError, match="charged are a, b"):
        statement_of(NOVEMBER, "c")


def test_the_page_says_what_a_reader_asks():
    before = report({**USED, "amount_units": 8 * 10**9}, start=date(2026, 10, 1), end=FIRST)
    made = statement_of(NOVEMBER, "a", before=before, policies={"separate": NOVEMBER}, budget_units=6 * 10**9)
    page = statement_page(made, NOW)
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.split("</style>")[1]))
    for words in (
        "a November 2026", "provisional: this month is not closed", "12.00 USD", "Budget 6.00: 200% used", "chat · m",
        "The month before 8.00", "+4.00", "would have cost 1.00 USD more", "2.0000 1.0000 10.0000",
        "Exactly 12.000000000 USD", "Made 2026-12-01 09:00 UTC",
    ):  # fmt: skip
        assert words in text, words
    assert not re.search(r"<script|src=|https?://|@import|url\(", page)  # nothing is fetched


def test_names_are_shown_and_not_run():
    made = statement_of(report({**USED, "team": "<b>&", "app": "<script>"}), "<b>&")
    page = statement_page(made, NOW)
    assert "<b>&" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;" in page


@pytest.mark.parametrize("closed", [False, True])
def test_the_command_writes_every_format(october, cost, tmp_path, closed):
    if closed:
        assert cost("close", "--month", "2026-10").code == 0
    now = ("--now", "2026-11-01T09:00")
    ran = cost("statement", "--team", "x", "--month", "2026-10", *now)
    assert ran.code == 0, ran.err
    assert ("provisional" in ran.out) != closed
    assert ("Hash of the close" in ran.out) == closed
    ran = cost("statement", "--team", "x", "--month", "2026-10", "--format", "csv", *now)
    assert [row["amount"] for row in csv.DictReader(io.StringIO(ran.out))] == ["3.000000000"]
    out = tmp_path / "s.parquet"
    ran = cost(
        "statement", "--team", "x", "--month", "2026-10", "--out", str(out), "--idle-policy", "proportional", *now
    )
    assert ran.code == 0, ran.err
    idle = pl.read_parquet(out).filter(pl.col("bucket") == "idle_share")["amount_units"].sum()
    assert idle == 69 * 10**9  # three quarters of 23 idle hours at 2 USD, on each of the two days that it used


def test_every_team_gets_a_file_of_its_own(october, cost, tmp_path):
    ran = cost("statement", "--month", "2026-10", "--out", str(tmp_path / "all"), "--now", "2026-11-01T09:00")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["2026-10-x.html", "2026-10-y.html"]


def test_what_cannot_be_is_said(october, cost):
    assert cost("close", "--month", "2026-10").code == 0
    ran = cost("statement", "--team", "x", "--month", "2026-10", "--idle-policy", "peak")
    assert (ran.code, "keeps days" in ran.err) == (2, True)
    assert cost("statement", "--month", "2026-10").code == 2
    assert "charged are x, y" in cost("statement", "--team", "q", "--month", "2026-10").err


def test_without_a_browser_a_pdf_is_refused_with_the_way_out():
    with pytest.raises(AnalyticsError, match="--format html"):
        find_browser("no-such-browser")


@pytest.mark.chromium
def test_a_browser_prints_it_as_pdf(october, cost, tmp_path):
    out = tmp_path / "s.pdf"
    ran = cost("statement", "--team", "x", "--month", "2026-10", "--out", str(out), "--now", "2026-11-01T09:00")
    assert ran.code == 0, ran.err
    assert out.read_bytes().startswith(b"%PDF-")
    assert out.stat().st_size > 10_000
