"""Killed at every step of archiving and retention, every row is there once, and the next round goes on from there."""

import subprocess
import sys
from datetime import date, datetime

import pytest

from collector.file_store import FileStore
from collector.verification import verify
from tests.collector.test_archive import DAYS, PER_DAY, START, points, requests

KILLED = """
import os, signal, sys
from datetime import date, datetime
from pathlib import Path
from collector.file_store import FileStore

path, what, at, count = sys.argv[1:]
store, left = FileStore(Path(path), threads=1), [int(count)]

def step(name):
    if name == at:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

store.archive.at_step = step
if what == "move":
    store.compact(datetime(2026, 2, 20), archive_after_days=1)
elif what == "expire":
    store.expire("requests", date(2026, 2, 2))
else:
    store.archive.tidy(grace_seconds=0)
print("survived")
"""
MOVING = ("announced", "written", "published", "replaced", "views", "committed")


def counts(store):
    sql = (
        "SELECT (SELECT count(*) FROM requests) AS requests, "
        "(SELECT count(*) FROM (SELECT DISTINCT trace_id FROM requests)) AS traces, "
        "(SELECT count(*) FROM metric_points) AS points, "
        "(SELECT sum(requests_count)::BIGINT FROM request_hours) AS in_rollups"
    )
    return tuple(store.query(sql).to_pylist()[0].values())


def killed(path, what, at, count):
    command = [sys.executable, "-c", KILLED, str(path), what, at, str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -9, done.stdout + done.stderr


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "fleetmeter.duckdb"
    store = FileStore(path, threads=1)
    store.land({"requests": requests(), "metric_points": points()})
    store.compact(datetime(2026, 2, 20))
    store.close()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("at", MOVING)
def test_killed_while_a_day_moves(path, at):
    killed(path, "move", at, 2)
    store = FileStore(path, read_only=True)
    assert counts(store) == (DAYS * PER_DAY, DAYS * PER_DAY, DAYS * 24, DAYS * PER_DAY)
    store.close()
    store = FileStore(path, threads=1)
    assert store.land({"requests": requests(), "metric_points": points()}) == {"requests": 0, "metric_points": 0}
    store.compact(datetime(2026, 2, 20), archive_after_days=1)
    store.archive.tidy(grace_seconds=0)
    assert counts(store) == (DAYS * PER_DAY, DAYS * PER_DAY, DAYS * 24, DAYS * PER_DAY)
    assert store.query("SELECT count(*) AS n FROM main.requests")["n"].to_pylist() == [0]
    files = {file.path for file in store.archive.files}
    store.close()
    found = {str(file.relative_to(path.parent / "archive")) for file in (path.parent / "archive").rglob("*.parquet")}
    assert found == files, "half-written files went"
    assert list(verify(path.parent)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("at", "left"), [("expired", DAYS), ("views", DAYS), ("committed", 1)])
def test_killed_while_days_expire(path, at, left):
    store = FileStore(path, threads=1)
    store.compact(datetime(2026, 2, 20), archive_after_days=18)
    store.close()
    killed(path, "expire", at, 1)
    store = FileStore(path, threads=1)
    assert counts(store) == (left * PER_DAY, left * PER_DAY, DAYS * 24, left * PER_DAY)
    store.expire("requests", date(2026, 2, 2))
    assert counts(store)[0] == PER_DAY
    store.close()
    killed(path, "tidy", "tidied", 1)
    store = FileStore(path, threads=1)
    store.archive.tidy(grace_seconds=0)
    store.close()
    assert list(verify(path.parent)) == []
    assert not list((path.parent / "archive/requests").rglob("*.parquet"))
    assert START.date() < date(2026, 2, 2)
