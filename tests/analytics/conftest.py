"""Small fleets for the tests of analytics: a store of its own, and rows with only what a test is about."""

from contextlib import closing
from datetime import datetime
from itertools import count

import pyarrow as pa
import pytest

from collector.client import FileClient

NOON = datetime(2026, 11, 10, 12)


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
