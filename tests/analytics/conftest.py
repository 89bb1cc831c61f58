"""Small fleets for the tests of analytics: a store of its own, and rows with only what a test is about."""

from contextlib import closing
from datetime import datetime, timedelta
from itertools import count

import pyarrow as pa
import pytest

from collector.client import FileClient

NOON = datetime(2026, 11, 10, 12)
DAY = timedelta(days=1)
BEGINS = datetime(2026, 10, 1)
CLOSED = datetime(2026, 11, 1, 9)
"""When October is closed, in tests of closing."""


class Store:
    """A client of an empty file, and short ways to fill it."""

    def __init__(self, client):
        self.client = client
        self._serial = count(1)

    def requests(self, *rows, **common):
        """Land requests; a row needs no more than what it is about."""
        full = []
        for row in rows:
            serial = next(self._serial)
            full.append(
                {
                    "trace_id": f"{serial:032x}",
                    "span_id": f"{serial:016x}",
                    "started_at": NOON,
                    "outcome": "ok",
                    "source": "test",
                    "estimated": False,
                    **common,
                    **row,
                }
            )
        names = sorted({name for row in full for name in row})
        self.client.land("requests", pa.Table.from_pydict({name: [row.get(name) for row in full] for name in names}))

    def late(self):
        """Land a request of October 1 that came after October was closed."""
        began = BEGINS + timedelta(hours=10)
        times = {
            "started_at": began,
            "ended_at": began + timedelta(hours=1),
            "received_at": CLOSED + timedelta(hours=1),
        }
        self.requests({"team": "z", "output_tokens": 400, "replica": "r", "model": "m", **times})

    def rows(self, table, *rows):
        """Land rows of any table."""
        names = sorted({name for row in rows for name in row})
        self.client.land(table, pa.Table.from_pydict({name: [row.get(name) for row in rows] for name in names}))


@pytest.fixture
def now():
    return NOON


@pytest.fixture
def store(tmp_path):
    with closing(FileClient(tmp_path / "fleet.duckdb", write=True)) as client:
        yield Store(client)


@pytest.fixture(scope="session")
def store_of():
    """Fill the file of a client."""
    return Store


@pytest.fixture
def october(store):
    """Two teams on one replica in October at 2 USD/h; each works for one hour of the first two days."""
    known = {"known_from": BEGINS}
    store.rows(
        "rate_cards",
        {
            "rate_id": "a",
            "gpu_type": "H100",
            "currency": "USD",
            "gpu_hour_units": 2 * 10**9,
            "valid_from": BEGINS,
            **known,
        },
    )
    store.rows(
        "replicas", {"replica": "r", "valid_from": BEGINS, "gpu_type": "H100", "gpu_count": 1, "model": "m", **known}
    )
    for day in range(2):
        began = BEGINS + day * DAY + timedelta(hours=10)
        store.requests(
            *({"team": team, "output_tokens": tokens} for team, tokens in (("x", 300), ("y", 100))),
            started_at=began, ended_at=began + timedelta(hours=1), received_at=began + timedelta(hours=2), replica="r",
            model="m",
        )  # fmt: skip
    return store


@pytest.fixture
def cost(store, cli, tmp_path):
    """Run `fleetmeter cost …` on the store's file at a time."""

    def run(*words, now=CLOSED):
        store.client.close()
        timed = ["--now", now.isoformat()] if words[0] in ("close", "report", "explain", "change") else []
        ran = cli("cost", *words, "--db", str(tmp_path / "fleet.duckdb"), *timed)
        store.client = FileClient(tmp_path / "fleet.duckdb", write=True)
        return ran

    return run
