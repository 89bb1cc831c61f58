"""Upkeep by a clock that may be wrong: days leave only where the clock can be believed."""

from datetime import UTC, datetime, timedelta

import pytest

from collector.bodies import decode_record_body
from collector.clocks import ReceiptClock
from collector.config import CollectorConfig
from collector.file_store import FileStore
from collector.self_metrics import SelfMetrics
from collector.spool_records import Record
from collector.testing import span_message, traces_body
from collector.upkeep import Upkeep
from tests.collector.test_archive import DAYS, PER_DAY, START, points, requests

DAY = 86_400.0
NOON = (START + timedelta(days=DAYS)).replace(tzinfo=UTC).timestamp()
CONFIG = CollectorConfig(archive_after_days=30, retention_days={"requests": 90, "metric_points": 90})


class Clocks:
    """A machine's clock that can be set, and one that nobody can."""

    def __init__(self, wall):
        self.wall, self.steady = wall, 1000.0

    def pass_time(self, seconds):
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def store(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    store.land({"requests": requests(), "metric_points": points()})
    yield store
    store.close()


def upkeep_of(store, clocks):
    return Upkeep(store, CONFIG, SelfMetrics(), lambda: clocks.wall, lambda: clocks.steady)


def counts(store):
    sql = "SELECT (SELECT count(*) FROM requests) AS requests, (SELECT count(*) FROM metric_points) AS points"
    return tuple(store.query(sql).to_pylist()[0].values())


def doubted(upkeep):
    return b"fleetmeter_clock_in_doubt 1.0" in upkeep.metrics.exposition()


@pytest.mark.parametrize("days", [400, -400])
def test_a_clock_that_jumps_archives_and_deletes_nothing_until_it_is_right_again(store, days, caplog):
    clocks = Clocks(NOON)
    upkeep = upkeep_of(store, clocks)
    upkeep.round()
    assert not doubted(upkeep)
    clocks.wall += days * DAY
    for _ in range(3):
        clocks.pass_time(60)
        upkeep.round()
    assert counts(store) == (DAYS * PER_DAY, DAYS * 24)
    assert store.health().archived_files_count == 0
    assert doubted(upkeep)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["clock_in_doubt"]
    clocks.wall -= days * DAY
    upkeep.round()
    assert not doubted(upkeep)


def test_a_start_long_after_the_newest_row_deletes_nothing(store):
    upkeep = upkeep_of(store, Clocks(NOON + 400 * DAY))
    store.land({"requests": requests([400], part="b")})
    upkeep.round()
    assert counts(store) == ((DAYS + 1) * PER_DAY, DAYS * 24)
    assert doubted(upkeep)


def test_a_restart_once_rows_come_again_lets_old_days_go(store):
    store.land({"requests": requests([400], part="b")})
    upkeep = upkeep_of(store, Clocks(NOON + 400 * DAY))
    upkeep.round()
    assert counts(store) == (PER_DAY, 0)
    assert not doubted(upkeep)


def test_a_collector_that_runs_through_a_quiet_time_lets_days_go(store):
    clocks = Clocks(NOON)
    upkeep = upkeep_of(store, clocks)
    clocks.pass_time(88 * DAY)
    upkeep.round()
    assert 0 < counts(store)[0] < DAYS * PER_DAY
    assert store.health().archived_files_count > 0


def test_the_newest_row_may_be_an_archived_one(store):
    store.compact(datetime(2026, 6, 1), archive_after_days=1)
    assert store.newest_before(datetime(2026, 6, 1)) == START + timedelta(days=DAYS)


@pytest.mark.parametrize("days", [-2, -400, 400])
def test_spans_of_senders_whose_clocks_are_right_are_taken_while_ours_jumps(days):
    sent = 1_790_000_000.0
    clocks = Clocks(sent)
    clock = ReceiptClock(lambda: clocks.wall, lambda: clocks.steady)
    clocks.pass_time(10)
    clocks.wall += days * DAY
    record = Record("traces", "identity", int(clock() * 1e6), {}, traces_body(span_message(1)))
    assert decode_record_body(record, 10**6).accepted_count == 1


def test_a_clock_that_is_set_back_a_little_is_followed():
    clocks = Clocks(1_790_000_000.0)
    clock = ReceiptClock(lambda: clocks.wall, lambda: clocks.steady)
    clocks.wall -= 3600
    assert clock() == clocks.wall
    assert clock.moved_seconds == -3600
