"""An archive that can't be read holds back rows of its own days, and buries none."""

import os
import time
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from collector.errors import PermanentError, RetryableError
from collector.file_store import FileStore
from collector.verification import check_files
from tests.collector.test_archive import DAYS, NOW, PER_DAY, points, requests

HOUR = timedelta(hours=1)


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


def truncate(file):
    file.write_bytes(file.read_bytes()[:100])


def spoil_footer(file):
    content = file.read_bytes()
    begins = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    file.write_bytes(content[:begins] + b"\xff" * 200 + content[begins + 200 :])


@pytest.mark.parametrize(
    ("spoil", "number"), [(truncate, 1), (spoil_footer, 0), (Path.unlink, 1)], ids=["cut", "spoilt", "gone"]
)
def test_a_moved_folder_with_a_file_that_cannot_be_read_loses_that_day_alone(archived, spoil, number, tmp_path):
    store, files = archived
    store.close()
    (moved := tmp_path / "elsewhere").mkdir()
    for name in ("f.duckdb", "archive"):
        (tmp_path / name).rename(moved / name)
    spoilt = moved / files[number].relative_to(tmp_path)
    spoil(spoilt)
    day = datetime.fromisoformat(spoilt.parent.name.removeprefix("day="))
    for read_only in (True, False):
        store = FileStore(moved / "f.duckdb", read_only=read_only, threads=1)
        for sql in (
            "SELECT count(*) AS n FROM requests",
            "SELECT max(team) AS n FROM requests",
            "SELECT count(*) AS n FROM requests WHERE team = 'nobody'",
            f"SELECT trace_id FROM requests WHERE started_at BETWEEN '{day + HOUR}' AND '{day + 2 * HOUR}'",
        ):
            with pytest.raises(PermanentError, match=r"archived file requests/day=.* can't be read: restore it"):
                store.query(sql)
        later = "SELECT count(*) AS n FROM requests WHERE started_at >= $at"
        (found,) = store.query(later, {"at": day + 24 * HOUR}).to_pylist()
        assert found["n"] == PER_DAY * (DAYS - 1 - number)
        assert store.query("SELECT count(*) AS n FROM metric_points").to_pylist()[0]["n"] > 0
        if read_only:
            assert spoilt.name in {Path(finding.subject).name for finding in check_files(store, deep=True)}
        else:
            with (
                pytest.raises(RetryableError, match=r"is missing: restore it") if not spoilt.exists() else nullcontext()
            ):
                store.back_up(tmp_path / f"backup-{spoilt.exists()}")
            store.land({"requests": requests([DAYS + 1], part="b"), "metric_points": points([DAYS + 1])})
            assert store.compact(NOW + timedelta(days=2), archive_after_days=0) > 0
            assert store.expire("requests", (day + timedelta(days=1)).date()) == (number + 1) * PER_DAY
            assert store.query("SELECT count(*) AS n FROM requests").to_pylist()[0]["n"] == PER_DAY * (DAYS - number)
        store.close()


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
