"""A second report of the same days splits only what has changed, and says what a fresh one says."""

from datetime import date, datetime, timedelta

import pytest

from analytics.allocation.kept import KEPT, KeptSplits
from analytics.cost import cost_report

FIRST, LAST = date(2026, 11, 8), date(2026, 11, 11)
START = datetime(2026, 11, 8)
HOUR = timedelta(hours=1)


class Asking:
    """A client that counts the chunks whose requests are read."""

    def __init__(self, client):
        self.client = client
        self.reads = 0

    def query(self, sql, parameters=None):
        self.reads += "-- cost_requests_row" in sql
        return self.client.query(sql, parameters)


@pytest.fixture
def fleet(store):
    rate = {"rate_id": "a", "gpu_type": "H100", "currency": "USD", "gpu_hour_units": 3_600_000_001, "valid_from": START}
    store.rows("rate_cards", rate)
    common = {"valid_from": START, "gpu_type": "H100", "gpu_count": 1, "model": "m"}
    store.rows("replicas", {**common, "replica": "r"}, {**common, "replica": "q"})
    store.requests(
        *(
            {"started_at": at, "ended_at": at + HOUR, "replica": "rq"[n % 2], "team": "xyz"[n % 3]}
            for n, at in enumerate(START + n * HOUR for n in range(72))
        ),
        model="m", input_tokens=10, output_tokens=20,
    )  # fmt: skip
    return store


def said(report):
    return report.bill_units, report.entries.sort(report.entries.columns).rows(), report.hourly.rows()


def days_split_again(client, fresh, **options):
    """How many days are read for another report, which must say what a client says that has kept nothing."""
    before = client.reads
    found = said(cost_report(client, FIRST, LAST, **options))
    assert found == said(cost_report(Asking(fresh), FIRST, LAST, **options))
    return client.reads - before


def test_days_are_split_once(fleet):
    client = Asking(fleet.client)
    assert days_split_again(client, fleet.client) == 3
    assert days_split_again(client, fleet.client) == 0
    assert days_split_again(client, fleet.client, method="tokens") == 3
    assert days_split_again(client, fleet.client, by=["mode"]) == 3


def test_a_late_request_splits_the_days_again_in_which_it_was_under_way(fleet):
    client = Asking(fleet.client)
    days_split_again(client, fleet.client)
    late = {"replica": "r", "model": "m", "team": "late", "input_tokens": 1, "output_tokens": 9}
    fleet.requests({"started_at": START + 30 * HOUR, "ended_at": START + 31 * HOUR, **late})
    assert days_split_again(client, fleet.client) == 1
    fleet.requests({"started_at": START + 23 * HOUR, "ended_at": START + 25 * HOUR, **late})
    assert days_split_again(client, fleet.client) == 2
    fleet.requests({"started_at": START + 10 * HOUR, "ended_at": None, "e2e_seconds": 40 * 3600.0, **late})
    assert days_split_again(client, fleet.client) == 3
    fleet.requests({"started_at": START - 10 * HOUR, "ended_at": START + HOUR, **late})
    assert days_split_again(client, fleet.client) == 1
    assert days_split_again(client, fleet.client) == 0


def test_what_lands_later_in_an_hour_that_is_running_is_seen(fleet):
    client, now = Asking(fleet.client), START + 24.5 * HOUR
    days_split_again(client, fleet.client, now=now)
    fleet.requests({"started_at": now + 0.1 * HOUR, "ended_at": now + 0.2 * HOUR}, replica="r", model="m", team="late")
    assert days_split_again(client, fleet.client, now=now) == 1
    assert days_split_again(client, fleet.client, now=now) == 0


def test_a_restated_price_and_an_outage_split_their_days_again(fleet):
    client = Asking(fleet.client)
    days_split_again(client, fleet.client)
    fleet.rows(
        "rate_cards",
        {"rate_id": "b", "gpu_type": "H100", "currency": "USD", "gpu_hour_units": 7, "valid_from": START + 24 * HOUR},
    )
    assert days_split_again(client, fleet.client) == 2
    at = START + 70 * HOUR
    fleet.rows("events", {"event_id": "1", "occurred_at": at, "kind": "xid", "replica": "q", "title": "XID 79 on q"})
    assert days_split_again(client, fleet.client) == 1


def test_what_is_asked_as_it_was_known_is_not_kept(fleet):
    client, known_at = Asking(fleet.client), datetime(2030, 1, 1)
    assert days_split_again(client, fleet.client, known_at=known_at) == 3
    assert days_split_again(client, fleet.client, known_at=known_at) == 3


def test_the_oldest_splits_go_beyond_the_limit(fleet):
    client = Asking(fleet.client)
    cost_report(client, FIRST, LAST)
    kept = KEPT.of(client)
    kept.limit_bytes = kept.size_bytes
    cost_report(client, FIRST, LAST, method="tokens")
    assert 0 < kept.size_bytes <= kept.limit_bytes
    assert days_split_again(client, fleet.client, method="tokens") == 0
    assert days_split_again(client, fleet.client) == 3


def test_a_client_that_can_not_be_referred_to_keeps_nothing():
    class Bare:
        __slots__ = ()

    assert isinstance(KEPT.of(Bare()), KeptSplits)
