"""Whatever is loaded, restated, late or closed, in any order: the entries are the bill as it was known, to the unit."""

import shutil
from collections import defaultdict
from contextlib import closing as closed_after
from datetime import date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.bill_sources import read_bill
from analytics.closing import close_days
from analytics.config import TokenWeights
from analytics.cost import cost_report
from analytics.ledger_news import frozen_by, news
from analytics.ledger_reading import closed_report, closes_of, verify
from analytics.statements import ask
from collector.client import FileClient

DAY = timedelta(days=1)
MONTH, AFTER = date(2026, 11, 1), date(2026, 12, 1)
DAYS = [MONTH + DAY * place for place in range(3)]
BEGINS = datetime(2026, 12, 2)

amounts = st.one_of(st.integers(0, 9), st.integers(0, 10**10))
requests = st.tuples(
    st.just("requests"), st.sampled_from(["r", "s", "ghost"]), st.integers(-5, 80), st.integers(0, 30),
    st.sampled_from(["x", "y", None]), st.integers(0, 500),
)  # fmt: skip
rates = st.tuples(st.just("rates"), st.sampled_from([0, 1]), st.sampled_from([None, 2]), amounts)
invoices = st.tuples(
    st.just("invoices"), st.sampled_from(["a", "b"]), st.integers(0, 2), st.integers(1, 3),
    st.sampled_from(["r", None]), st.integers(-(10**9), 10**10), st.booleans(),
)  # fmt: skip
inventory = st.tuples(st.just("inventory"), st.sampled_from(["r", "s"]), st.integers(1, 70), st.integers(0, 8))
closes = st.tuples(st.just("close"), st.sampled_from([0, 1, 2, "month", "correct"]))
histories = st.lists(st.one_of(requests, rates, invoices, inventory, closes, closes), min_size=2, max_size=14)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    file = tmp_path_factory.mktemp("ledger") / "empty.duckdb"
    FileClient(file, write=True).close()
    return file


class History:
    """A fleet of two replicas over three days, and what becomes known of it step by step, an hour apart."""

    def __init__(self, client):
        self.client = client
        self.now = BEGINS
        self.serial = 0
        self.land("rate_cards", rate_id="0", gpu_type="G", currency="USD", gpu_hour_units=7, valid_from=DAYS[0])
        for replica in ("r", "s"):
            self.land(
                "replicas", replica=replica, valid_from=DAYS[0], valid_to=DAYS[0] + 3 * DAY, gpu_type="G", gpu_count=1
            )

    def land(self, table, **row):
        arrival = "received_at" if table == "requests" else "known_from"
        times = {name: datetime(v.year, v.month, v.day) for name, v in row.items() if type(v) is date}
        self.client.land(table, pa.Table.from_pylist([{arrival: self.now, **row, **times}]))

    def take(self, step):
        self.now += timedelta(hours=1)
        self.serial += 1
        getattr(self, step[0])(*step[1:])

    def requests(self, replica, hour, hours, team, tokens):
        started = datetime(2026, 11, 1) + timedelta(hours=hour)
        self.land(
            "requests", trace_id=f"{self.serial:032x}", span_id=f"{self.serial:016x}", replica=replica, team=team,
            started_at=started, ended_at=started + timedelta(hours=hours), output_tokens=tokens, outcome="ok",
            source="test", estimated=False,
        )  # fmt: skip

    def rates(self, first, last, units):
        self.land(
            "rate_cards", rate_id=str(self.serial), gpu_type="G", currency="USD", gpu_hour_units=units,
            valid_from=DAYS[first], valid_to=None if last is None else DAYS[last],
        )  # fmt: skip

    def invoices(self, line, first, length, replica, units, withdrawn):
        self.land(
            "invoices", invoice_id=f"{line}~{self.serial}", restates=line, period_from=DAYS[first],
            period_to=DAYS[first] + length * DAY, replica=replica, currency="USD", amount_units=units,
            withdrawn=withdrawn,
        )  # fmt: skip

    def inventory(self, replica, hours, gpus):
        self.land(
            "replica_restatements", restatement_id=str(self.serial), replica=replica, valid_from=DAYS[0],
            valid_to=datetime(2026, 11, 1) + timedelta(hours=hours), gpu_type="G", gpu_count=gpus,
        )  # fmt: skip

    def close(self, what):
        frozen = frozen_by(self.client, MONTH)
        if (what == "correct") != (frozen is not None):
            return
        start, end = (DAYS[what], DAYS[what] + DAY) if isinstance(what, int) else (MONTH, AFTER)
        kind = {"month": "month", "correct": "correction"}.get(what, "days")
        found = [one.day for one in news(self.client, start, end, known_at=self.now)]
        before = self.views()
        how = {"days": found, "now": self.now, "method": "tokens", "weights": TokenWeights()}
        close_days(self.client, start, end, kind=kind, accept_findings=True, **how)
        self.check(start, end)
        assert self.views()[: len(before)] == before, "an earlier view changed"

    def views(self):
        """What the ledger said of every day after each close."""
        return [[self.standing(day, close["closed_at"]) for day in DAYS] for close in closes_of(self.client)]

    def standing(self, day, as_of):
        return int(ask(self.client, "ledger_standing_key", start=day, end=day + DAY, as_of=as_of)["amount_units"].sum())

    def check(self, start, end):
        for day in DAYS:
            if start <= day < end:
                midnight = datetime(day.year, day.month, day.day)
                bill = read_bill(self.client, midnight, midnight + DAY, known_at=self.now)
                assert self.standing(day, self.now) == bill.units
                report = cost_report(self.client, day, day + DAY, known_at=self.now)
                standing = ask(self.client, "ledger_standing_key", start=day, end=day + DAY, as_of=None)
                assert by_team(standing) == by_team(report.entries)
        assert verify(self.client) == []


def by_team(frame):
    """Amounts, requests and tokens by replica, bucket and team; what is 0 throughout is left out."""
    found = defaultdict(lambda: (0, 0, 0))
    for row in frame.iter_rows(named=True):
        key = row["replica"], row["bucket"], row["team"]
        mine = row["amount_units"], row["requests_count"], row["output_tokens"]
        found[key] = tuple(map(sum, zip(found[key], mine, strict=True)))
    return {key: values for key, values in found.items() if any(values)}


@pytest.mark.slow
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=histories)
def test_entries_add_up_to_the_bill_as_it_was_known_whatever_happens_in_whatever_order(template, tmp_path, steps):
    file = tmp_path / "ledger.duckdb"
    shutil.copy(template, file)
    with closed_after(FileClient(file, write=True)) as client:
        history = History(client)
        for step in steps:
            history.take(step)
        history.now += DAY
        if frozen_by(client, MONTH) is None:
            history.close("month")
            assert news(client, MONTH, AFTER, known_at=history.now) == []
        history.now += DAY
        frozen = closed_report(client, MONTH, AFTER)
        again = cost_report(client, MONTH, AFTER, known_at=closes_of(client)[-1]["closed_at"])
        pending = news(client, MONTH, AFTER, known_at=history.now)
        if not pending:
            assert frozen.bill_units == again.bill_units
