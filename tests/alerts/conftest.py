"""A small fleet in a DuckDB file, an evaluator over it, and receivers that can be made to fail."""

import base64
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from alerts.config import AlertsConfig
from alerts.message import Addresses
from alerts.rule_files import load_rules, read_rules
from alerts.service import Service
from alerts.state_store import StateStore
from alerts.webhook_receiver import WebhookReceiver
from analytics.config import AnalyticsConfig
from analytics.slo import load_definitions
from collector.client import Client, FileClient

NOW = datetime(2026, 11, 21, 12)
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Fleet:
    """Lands rows into a file, with just the columns that a test is about."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._count = 0

    def requests(self, count, *, at=NOW, over=timedelta(minutes=4), **columns):
        """Spread `count` requests over the time that ends a little before `at`."""
        rows = []
        for number in range(count):
            self._count += 1
            started = at - over + over * number / count - timedelta(seconds=5)
            row = {
                "trace_id": f"{self._count:032x}",
                "span_id": f"{self._count:016x}",
                "started_at": started,
                "ended_at": started + timedelta(seconds=2),
                "received_at": started + timedelta(seconds=3),
                "model": "llama",
                "team": "search",
                "replica": "llama-0",
                "outcome": "ok",
                "ttft_seconds": 0.2,
                "tpot_seconds": 0.02,
                "e2e_seconds": 2.0,
                "input_tokens": 100,
                "cached_tokens": 50,
                "output_tokens": 90,
                "source": "test",
                "estimated": False,
            }
            rows.append(row | columns)
        self.client.land("requests", pa.Table.from_pylist(rows))

    def land(self, table, *rows):
        """Land rows of another table."""
        self.client.land(table, pa.Table.from_pylist(list(rows)))

    def gauge(self, name, value, *, at=NOW, replica="llama-0", model="llama"):
        """Land one value of one metric."""
        series_id = abs(hash((name, replica, model))) % 2**62
        columns = {"series_id": [series_id], "name": [name], "kind": ["gauge"], "model": [model], "replica": [replica]}
        labels = pa.array([[("replica", replica)]], pa.map_(pa.string(), pa.string()))
        self.client.land("metric_series", pa.table({**columns, "labels": labels}))
        self.land("metric_points", {"series_id": series_id, "observed_at": at, "value": float(value)})

    def event(self, kind, title, *, at, model="llama", replica=None):
        """Land one event of the fleet."""
        self._count += 1
        row = {"event_id": str(self._count), "occurred_at": at, "kind": kind, "title": title, "model": model}
        self.land("events", row | {"replica": replica})


@pytest.fixture
def fleet(tmp_path):
    made = Fleet(FileClient(tmp_path / "fleet.duckdb", write=True))
    yield made
    made.client.close()


@pytest.fixture
def fleet_over():
    """Land rows through another client than the file's."""
    return Fleet


@pytest.fixture
def store(tmp_path):
    made = StateStore(tmp_path / "state.sqlite")
    yield made
    made.close()


@pytest.fixture
def receiver():
    made = WebhookReceiver(SECRET)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def secret_file(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def service_of(fleet, tmp_path, clock):
    """Make a service over the fleet: rules as YAML text or packaged, receivers as configured."""
    made = []

    def make(rules=None, *, receivers=(), store=None, client=None, **config):
        file = tmp_path / "rules.yaml"
        if rules is not None:
            file.write_text(rules)
        settings = AlertsConfig(receivers=receivers, state_dir=tmp_path, query_offset_seconds=0, **config)
        state = store or StateStore(tmp_path / "state.sqlite")
        service = Service(
            settings,
            load_rules(file if rules is not None else None),
            client or fleet.client,
            load_definitions(None),
            AnalyticsConfig(),
            state,
            Addresses("http://boards", "http://alerts"),
            clock,
        )
        made.extend((state, service))
        return service

    yield make
    for each in made:
        each.close()


@pytest.fixture
def rules_of(tmp_path):
    """Read rules from YAML text, without fleetmeter's own."""

    def read(text):
        file = tmp_path / "some_rules.yaml"
        file.write_text(text)
        return read_rules(file)

    return read
