"""An archive that can't be read holds back rows of its own days, and buries none."""

import os
import time

import pytest

from collector.errors import RetryableError
from collector.file_store import FileStore
from tests.collector.test_archive import DAYS, NOW, PER_DAY, points, requests


@pytest.fixture
def archived(tmp_path):
    """A store whose days are all archived, and those of its files that hold requests."""
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    store.land({"requests": requests(), "metric_points": points()})
    store.compact(NOW, archive_after_days=0)
    yield store, sorted((tmp_path / "archive/requests").rglob("*.parquet"))
    store.close()


def damage(file):
    rewrite(file, file.read_bytes()[:-8] + bytes(8), days=1)


def rewrite(file, content, *, days):
    """Write a file with a time of its own: DuckDB 1.5 goes by it, in seconds, for what it has read of a file before."""
    file.write_bytes(content)
    at = time.time() - 86_400 * days
    os.utime(file, (at, at))


@pytest.mark.parametrize("spoil", [damage, lambda file: file.unlink()], ids=["damaged", "missing"])
def test_rows_of_other_days_land_whatever_becomes_of_an_archived_file(archived, spoil):
    store, files = archived
    spoil(files[0])
    assert store.land({"requests": requests([DAYS + 1], part="b")}) == {"requests": PER_DAY}
    assert store.land({"requests": requests([1], 3, "b")}) == {"requests": 3}
    assert store.land({"requests": requests([1], 3, "b")}) == {"requests": 0}


@pytest.mark.parametrize("spoil", [damage, lambda file: file.unlink()], ids=["damaged", "missing"])
@pytest.mark.parametrize("table", ["requests", "metric_points"])
def test_rows_of_a_day_whose_file_cannot_be_read_wait_until_it_is_mended(archived, spoil, table, tmp_path):
    store, _ = archived
    file = min((tmp_path / "archive" / table).rglob("*.parquet"))
    rows = {"requests": requests([0]), "metric_points": points([0])}[table]
    whole = file.read_bytes()
    spoil(file)
    for _ in range(2):
        with pytest.raises(RetryableError, match="make the archive reachable"):
            store.land({table: rows})
    rewrite(file, whole, days=2)
    assert store.land({table: rows}) == {table: 0}


def test_a_restart_reads_nothing_of_the_archive(archived, tmp_path):
    store, files = archived
    store.close()
    for file in files:
        damage(file)
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    assert store.land({"requests": requests([DAYS + 1])}) == {"requests": PER_DAY}
    store.close()


def test_only_keys_of_the_table_itself_are_in_memory(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    store.land({"requests": requests(), "metric_points": points()})
    assert store._inserts.remembered_count == DAYS * PER_DAY
    store.compact(NOW, archive_after_days=20 - 1)
    assert store._inserts.remembered_count == 2 * PER_DAY
    store.expire("requests", NOW.date())
    assert store._inserts.remembered_count == 0
    assert store.land({"requests": requests()}) == {"requests": DAYS * PER_DAY}
    store.close()
