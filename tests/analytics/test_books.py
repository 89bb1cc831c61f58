"""Loading books: what is new is added, what differs must be meant, what can't be is refused, with a finding each."""

from datetime import datetime, timedelta
from fractions import Fraction

import pytest

from analytics.amortisation import amortised_units
from analytics.book_files import book_row
from analytics.books import BookError, load_book
from analytics.errors import AnalyticsError
from analytics.rate_findings import currencies, gaps, overlaps

NOW = datetime(2026, 11, 10, 12)
RATE = {"gpu_type": "H100", "provider": "acme", "usd_per_gpu_hour": "2", "valid_from": "2026-11-01"}


def load(store, table, *rows, now=NOW, restate=False):
    return load_book(store.client, table, [book_row(table, row) for row in rows], now=now, restate=restate)


def price(store, known_at=None):
    from analytics.bill_sources import read_rates

    return [rate.gpu_hour_units for rate in read_rates(store.client, known_at=known_at)]


def test_a_rate_loaded_twice_is_there_once(store):
    assert len(load(store, "rate_cards", RATE).new) == 1
    assert load(store, "rate_cards", RATE).same_count == 1


def test_a_rate_that_differs_is_refused_with_both_prices_unless_it_is_meant(store):
    load(store, "rate_cards", RATE)
    with pytest.raises(BookError, match=r"gpu_hour_units 2\.00 -> 1\.80\n.*--restate") as refused:
        load(store, "rate_cards", {**RATE, "usd_per_gpu_hour": "1.8"})
    assert refused.value.exit_code == 1
    assert price(store) == [2 * 10**9]


def test_a_restated_rate_holds_from_now_on_and_earlier_views_keep_the_old_one(store):
    load(store, "rate_cards", RATE)
    later = NOW + timedelta(days=1)
    load(store, "rate_cards", {**RATE, "usd_per_gpu_hour": "1.8"}, now=later, restate=True)
    assert (price(store), price(store, NOW)) == ([18 * 10**8], [2 * 10**9])
    load(store, "rate_cards", RATE, now=later + timedelta(days=1), restate=True)  # and back again
    assert (price(store), price(store, later)) == ([2 * 10**9], [18 * 10**8])


def test_a_rate_taken_back_holds_no_longer(store):
    load(store, "rate_cards", RATE)
    load(store, "rate_cards", {**RATE, "withdrawn": "true"}, now=NOW + timedelta(days=1), restate=True)
    assert (price(store), price(store, NOW)) == ([], [2 * 10**9])


def test_overlapping_rates_are_refused_with_what_mends_them(store):
    load(store, "rate_cards", {**RATE, "valid_to": "2026-12-01"})
    with pytest.raises(BookError, match=r"two prices from 2026-11-15 00:00 to 2026-12-01 00:00; end the one"):
        load(store, "rate_cards", {**RATE, "valid_from": "2026-11-15"})


def test_an_open_rate_gives_way_to_the_next():
    first = book_row("rate_cards", RATE)
    assert overlaps([first, {**first, "valid_from": datetime(2026, 12, 1)}]) == []


def test_gaps_are_found_between_rates_and_after_the_last():
    first = {**book_row("rate_cards", RATE), "valid_to": datetime(2026, 11, 5)}
    second = {**first, "valid_from": datetime(2026, 11, 7), "valid_to": datetime(2026, 11, 9)}
    assert gaps([second, first], NOW) == [
        "H100 (acme): no price from 2026-11-05 00:00 to 2026-11-07 00:00",
        "H100 (acme): no price from 2026-11-09 00:00 on",
    ]
    assert gaps([{**first, "valid_to": NOW + timedelta(days=9)}], NOW) == []


def test_a_book_of_two_currencies_is_told():
    first = book_row("rate_cards", RATE)
    assert "EUR, USD" in currencies([first, {**first, "currency": "EUR"}])[0]


def test_a_file_that_says_two_things_of_one_is_refused(store):
    with pytest.raises(BookError, match="1 row twice"):
        load(store, "rate_cards", RATE, {**RATE, "usd_per_gpu_hour": "3"})


@pytest.mark.parametrize(
    ("table", "row", "says"),
    [
        ("rate_cards", {**RATE, "usd_per_gpu_hour": "0"}, "costs more than 0"),
        ("rate_cards", {**RATE, "usd_per_gpu_hour": "-1"}, "costs more than 0"),
        ("rate_cards", {**RATE, "usd_per_gpu_hour": None}, "there is no price"),
        ("rate_cards", {**RATE, "valid_to": "2026-10-01"}, "is not after"),
        ("rate_cards", {**RATE, "purchase_type": "rented"}, "is none of on_demand"),
        ("rate_cards", {**RATE, "currency": "dollars"}, "no ISO 4217 code"),
        ("rate_cards", {**RATE, "prize": "3"}, "no such column"),
        ("replicas", {"replica": "r", "valid_from": "2026-11-01", "gpu_count": "-2"}, "negative"),
        ("replicas", {"replica": "r", "valid_from": "2026-11-01", "gpu_count": "two"}, "no whole number"),
        ("replicas", {"replica": None, "valid_from": "2026-11-01"}, "needs it"),
        ("budgets", {"month": "2026-11", "usd": "5"}, "of a team, an app or a model"),
        ("budgets", {"team": "x", "month": "2026-11", "usd": "-5"}, "not negative"),
    ],
)
def test_what_no_row_can_be_is_refused(table, row, says):
    with pytest.raises(AnalyticsError, match=says):
        book_row(table, row)


def test_a_negative_charge_that_is_no_credit_is_refused():
    line = {"invoice_id": "a", "period_from": "2026-11-01", "period_to": "2026-11-02", "amount": "-5"}
    with pytest.raises(AnalyticsError, match="charge_category credit"):
        book_row("invoices", {**line, "charge_category": "Usage"})
    assert book_row("invoices", {**line, "charge_category": "Credit"})["amount_units"] == -5 * 10**9


def test_an_invoice_line_can_be_restated_and_taken_back(store):
    from analytics.statements import ask

    line = {"invoice_id": "a", "period_from": "2026-11-01", "period_to": "2026-11-02", "amount": "5"}
    load(store, "invoices", line)
    for day, (more, expected) in enumerate([({"amount": "4"}, [4]), ({"withdrawn": "true"}, []), ({}, [5])], 1):
        load(store, "invoices", {**line, **more}, now=NOW + timedelta(days=day), restate=True)
        rows = ask(store.client, "invoices_line", start=datetime(2026, 11, 1), end=datetime(2026, 11, 2), known_at=None)
        assert rows["amount_units"].to_list() == [amount * 10**9 for amount in expected]


def test_a_replica_can_be_restated(store):
    from analytics.bill_sources import read_bill

    load(store, "rate_cards", {**RATE, "provider": None})
    row = {"replica": "r", "valid_from": "2026-11-01", "gpu_type": "H100", "gpu_count": "8"}
    load(store, "replicas", row)
    ended = {**row, "gpu_count": "4", "valid_to": "2026-11-01T12:00"}
    load(store, "replicas", ended, now=NOW + timedelta(days=1), restate=True)
    day = datetime(2026, 11, 1)
    assert read_bill(store.client, day, day + timedelta(days=1)).units == 12 * 4 * 2 * 10**9
    assert read_bill(store.client, day, day + timedelta(days=1), known_at=NOW).units == 24 * 8 * 2 * 10**9


def test_a_changed_budget_takes_the_place_of_the_old_one(store):
    from analytics.statements import ask

    load(store, "budgets", {"team": "x", "month": "2026-11", "usd": "100"})
    load(store, "budgets", {"team": "x", "month": "2026-11", "usd": "80"}, restate=True)
    rows = ask(store.client, "budgets_known_budget").to_dicts()
    assert [(row["team"], row["amount_units"]) for row in rows] == [("x", 80 * 10**9)]


def test_an_owned_gpu_costs_its_share_of_capex_power_and_hosting():
    terms = {
        "capex": "30000", "residual_value": "3000", "lifetime_years": "5", "power_watts": "850", "pue": "1.3",
        "price_per_kwh": "0.11", "hosting_per_month": "95.5",
    }  # fmt: skip
    exact = Fraction(27000, 5 * 8760) + Fraction(85, 100) * Fraction(13, 10) * Fraction(11, 100) + Fraction(955, 7300)
    units, kept = amortised_units(terms)
    assert abs(units - exact * 10**9) <= Fraction(1, 2)
    assert '"capex": "30000"' in kept
    row = book_row("rate_cards", {"gpu_type": "H100", "valid_from": "2026-11-01", **terms})
    assert (row["purchase_type"], row["gpu_hour_units"]) == ("owned", units)


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"capex": "1"}, "one of lifetime_years and lifetime_hours"),
        ({"capex": "1", "lifetime_hours": "0"}, "lifetime must be over 0"),
        ({"capex": "1", "lifetime_hours": "9", "power_watts": "3"}, "go together"),
        ({"capex": "1", "lifetime_hours": "9", "pue": "0.5"}, "pue at least 1"),
        ({"capex": "-1", "lifetime_hours": "9"}, "negative"),
        ({"capex": "much", "lifetime_hours": "9"}, "no number"),
    ],
)
def test_terms_that_make_no_price_are_refused(terms, says):
    with pytest.raises(AnalyticsError, match=says):
        amortised_units(terms)


@pytest.mark.shared
def test_a_public_book_of_two_thousand_gpu_prices_loads_without_a_finding(store, shared):
    import json

    import pyarrow as pa

    with pa.input_stream(
        str(shared / "data/gpu_prices_2026/gpu_price_overlay_2026-06-01.jsonl.zst"), compression="zstd"
    ) as file:
        listed = [json.loads(line) for line in file.read().splitlines()]
    rows = {}
    for one in listed:
        row = {
            "gpu_type": one["gpu_type"],
            "provider": one["provider"],
            "region": one["region"],
            "purchase_type": "spot" if one["is_spot"] else "on_demand",
            "usd_per_gpu_hour": f"{one['price_per_gpu_hour_usd']:.9f}",
            "valid_from": one["snapshot_timestamp"],
        }
        rows[tuple(row[name] for name in ("gpu_type", "provider", "region", "purchase_type"))] = row
    priced = [row for row in rows.values() if float(row["usd_per_gpu_hour"]) > 0]
    assert len(load(store, "rate_cards", *priced).new) == len(priced) > 1500
    assert len(price(store)) == len(priced)
