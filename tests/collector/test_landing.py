"""The landing: from durable records to rows, when memory is short, when the database refuses, when letters pile up."""

import contextlib
import gzip
import json
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from collector.bodies import decode_record_body, spans_apart
from collector.dead_letters import DeadLetters
from collector.decoded import Decoded, Rejected, SeriesUsed
from collector.errors import PermanentError, RetryableError, StoreFailedError
from collector.file_store import FileStore
from collector.landing import Landing
from collector.landing_batches import BODY_BYTES_PER_ROW, Handed, LandingLimits, entries_of
from collector.landing_writes import BatchWriter
from collector.self_metrics import SelfMetrics
from collector.spool import Spool
from collector.spool_records import Position, Record
from collector.sql_route import arrow_stream
from collector.testing import span_message, traces_body
from collector.trace_decoding import TraceDecoder

SCRAPE = Record("scrape", "identity", 1_790_000_100_000_000, {"target": "t", "observed_us": 1_790_000_000_000_000}, b"")


def traces(number):
    return Record("traces", "identity", 1_790_000_100_000_000, {}, traces_body(span_message(number)))


def until(condition):
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to that")


def retries(landing):
    (line,) = (
        line
        for line in landing.writer.metrics.exposition().decode().splitlines()
        if line.startswith("fleetmeter_landing_retries_total")
    )
    return float(line.split()[1])


@contextlib.contextmanager
def landing_in(folder, linger_seconds=600, expected_failures=0, **limits):
    store = FileStore(folder / "f.duckdb", threads=1)
    spools, landed, failures = [], [], []
    letters = DeadLetters(folder / "dead_letters", 10**6)
    writer = BatchWriter(
        store, letters, SelfMetrics(), landed.append, LandingLimits(linger_seconds, **limits),
        clock=lambda: 1_790_000_200 + time.monotonic(),
    )  # fmt: skip
    landing = Landing(
        writer, lambda spooled: spools[0].read(spooled), TraceDecoder(SelfMetrics(), 10**6), failures.append
    )
    spools.append(
        Spool(
            folder / "spool", landed=store.progress(), limit_bytes=10**9,
            hand_on=landing.put, on_damage=landing.keep_damaged,
        )
    )  # fmt: skip
    spools[0].start()
    try:
        yield spools[0], landing, store
    finally:
        store.close()
    assert len(failures) == expected_failures, failures


def run(spool, landing, replay=()):
    landing.start(replay)
    spool.close()
    landing.close()


@pytest.mark.parametrize("memory_bytes", [0, 10**9])
def test_rows_land_whether_or_not_memory_held_them(tmp_path, memory_bytes):
    with landing_in(tmp_path, memory_bytes=memory_bytes) as (spool, landing, store):
        for number in (1, 2, 3):
            record = traces(number)
            end = spool.append(record, Handed(decode_record_body(record, 10**6))).result(60)
        run(spool, landing)
        assert store.query("SELECT count(*) AS n FROM spans").to_pylist() == [{"n": 3}]
        assert store.progress() == end


def test_who_waits_is_told_the_new_rows_of_his_own_record(tmp_path):
    with landing_in(tmp_path) as (spool, landing, _store):
        waiting = []
        for number in (1, 1, 2):
            record, landed = traces(number), Future()
            spool.append(record, Handed(decode_record_body(record, 10**6), landed)).result(60)
            waiting.append(landed)
        run(spool, landing)
        assert [landed.result(0) for landed in waiting] == [1, 0, 1]


def test_a_record_that_the_database_refuses_is_a_dead_letter_and_the_rest_lands(tmp_path):
    FileStore(tmp_path / "f.duckdb").close()
    with duckdb.connect(str(tmp_path / "f.duckdb")) as connection:
        connection.execute("ALTER TABLE spans DROP COLUMN scope")
    with landing_in(tmp_path) as (spool, landing, store):
        refused = Future()
        spool.append(SCRAPE).result(60)
        spool.append(traces(1), Handed(None, refused)).result(60)
        end = spool.append(SCRAPE).result(60)
        run(spool, landing)
        assert store.query("SELECT count(*) AS n FROM metric_points").to_pylist() == [{"n": 1}]
        assert store.progress() == end
    with pytest.raises(PermanentError, match="scope"):
        refused.result(0)
    (file,) = (tmp_path / "dead_letters").glob("*.jsonl")
    assert "refused by the database" in json.loads(file.read_text())["reason"]


@pytest.mark.parametrize("started_us", [-(2**63) + 1, 253402300800000000, 2**63 - 1, -62135596800000001])
def test_a_row_of_a_time_that_no_calendar_has_is_a_dead_letter_wherever_it_came_in(tmp_path, started_us, monkeypatch):
    row = pa.table({
        "trace_id": ["1" * 32], "span_id": ["1" * 16], "started_at": pa.array([started_us], pa.timestamp("us")),
        "outcome": ["ok"], "source": ["test"], "estimated": [False],
    })  # fmt: skip
    with landing_in(tmp_path) as (spool, landing, store):
        with pytest.raises(PermanentError, match="times are from 1900 to 9999"):
            store.land({"requests": row})
        monkeypatch.setattr("collector.table_contracts.check_times", lambda *asked: None)
        odd = Record("rows", "identity", 1, {"table": "requests"}, arrow_stream(row))
        waiting = []
        for record in (traces(1), odd, traces(2)):
            landed = Future()
            spool.append(record, Handed(decode_record_body(record, 10**6), landed)).result(60)
            waiting.append(landed)
        run(spool, landing)
        assert [waiting[0].result(0), waiting[2].result(0)] == [1, 1]
        with pytest.raises(PermanentError):
            waiting[1].result(0)
    assert list((tmp_path / "dead_letters").glob("*.jsonl"))


def test_of_a_record_of_many_spans_only_those_that_the_database_refuses_are_lost(tmp_path, monkeypatch):
    def refusing(store, batch, progress=None):
        if any("bad" in str(rows["name"].to_pylist()) for table, rows in batch if table == "spans"):
            raise PermanentError("it does not like the name")
        return land_conformed(store, batch, progress)

    land_conformed = FileStore.land_conformed
    monkeypatch.setattr(FileStore, "land_conformed", refusing)
    names = {number: "bad" if number in (3, 4, 17) else "good" for number in range(1, 20)}
    body = b"".join(traces_body(span_message(number, name=name)) for number, name in names.items())
    record = Record("traces", "gzip", 1_790_000_100_000_000, {}, gzip.compress(body))
    with landing_in(tmp_path) as (spool, landing, store):
        spool.append(traces(100)).result(60)
        end = spool.append(record).result(60)
        run(spool, landing)
        assert store.query("SELECT count(*) AS n FROM spans").to_pylist() == [{"n": 17}]
        assert store.progress() == end
    (file,) = (tmp_path / "dead_letters").glob("*.jsonl")
    letters = [json.loads(line) for line in file.read_text().splitlines()]
    assert ["does not like the name" in letter["reason"] for letter in letters] == [True] * 3


def test_a_record_of_which_very_much_is_refused_is_given_up_in_few_steps(tmp_path, monkeypatch):
    tried = []

    def refusing(store, batch, progress=None):
        if batch:
            tried.append(batch)
            raise PermanentError("it does not like anything")
        return land_conformed(store, batch, progress)

    land_conformed = FileStore.land_conformed
    monkeypatch.setattr(FileStore, "land_conformed", refusing)
    body = traces_body(*(span_message(number) for number in range(1, 3000)))
    record = Record("traces", "identity", 1_790_000_100_000_000, {}, body)
    with landing_in(tmp_path) as (spool, landing, store):
        end = spool.append(record).result(60)
        run(spool, landing)
        assert store.progress() == end
    assert len(tried) < 300
    (file,) = (tmp_path / "dead_letters").glob("*.jsonl")
    assert len(file.read_text().splitlines()) < 200
    assert spans_apart(body, len(body)) == [], "apart they are larger than they may be"


def test_a_batch_is_gathered_and_made_ready_while_the_one_before_is_written(tmp_path, monkeypatch):
    written, ready, go_on = [], threading.Event(), threading.Event()

    def slow(store, batch, progress=None):
        written.append(progress)
        if len(written) == 1:
            assert go_on.wait(60)
        return land_conformed(store, batch, progress)

    def prepared(writer, batch):
        if written and batch:
            ready.set()
        return prepare(writer, batch)

    land_conformed, prepare = FileStore.land_conformed, BatchWriter.prepared
    monkeypatch.setattr(FileStore, "land_conformed", slow)
    monkeypatch.setattr(BatchWriter, "prepared", prepared)
    with landing_in(tmp_path, linger_seconds=0) as (spool, landing, store):
        landing.start()
        first = spool.append(traces(1)).result(60)
        until(lambda: written)
        second = spool.append(traces(2)).result(60)
        assert ready.wait(60)
        assert store.progress() < first
        assert landing.oldest_age_seconds() > 0
        go_on.set()
        spool.close()
        landing.close()
        assert written == [first, second]
        assert store.progress() == second
        assert landing.oldest_age_seconds() == 0
        assert store.query("SELECT count(*) AS n FROM spans").to_pylist() == [{"n": 2}]


def test_a_database_that_can_not_tell_its_series_for_a_moment_does_not_end_the_landing(tmp_path, monkeypatch):
    def failing(store, ids):
        if len(asked) < 3:
            asked.append(ids)
            raise RetryableError("the disk is away")
        return unknown_series(store, ids)

    asked, unknown_series = [], FileStore.unknown_series
    monkeypatch.setattr(FileStore, "unknown_series", failing)
    with landing_in(tmp_path, linger_seconds=0) as (spool, landing, store):
        landing.start()
        series = SeriesUsed(np.array([7]), lambda places: ())
        end = spool.append(SCRAPE, Handed(replace(decode_record_body(SCRAPE, 10**6), series=series))).result(60)
        until(lambda: store.progress() == end)
        spool.close()
        landing.close()
        assert len(asked) == 3
        assert store.query("SELECT count(*) AS n FROM metric_points").to_pylist() == [{"n": 1}]


def test_a_database_that_fails_is_told_at_once_though_the_next_batch_can_not_be_read(tmp_path, monkeypatch):
    def failing(store, batch, progress=None):
        begun.set()
        assert go_on.wait(60)
        raise StoreFailedError("the file is gone")

    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(FileStore, "land_conformed", failing)
    first, second, third = Future(), Future(), Future()
    with landing_in(tmp_path, 0, expected_failures=1, memory_bytes=0) as (spool, landing, _store):
        told = []
        monkeypatch.setattr(landing, "on_failure", lambda error, tell=landing.on_failure: (tell(error), told.append(1)))
        landing.start()
        spool.append(traces(1), Handed(None, first)).result(60)
        assert begun.wait(60)
        monkeypatch.setattr(landing, "read_again", unreadable)
        spool.append(traces(2), Handed(None, second)).result(60)
        until(lambda: retries(landing) > 0)
        go_on.set()
        until(lambda: told)
        spool.append(traces(3), Handed(None, third)).result(60)
        spool.close()
        landing.close()
    for landed in (first, second, third):
        assert isinstance(landed.exception(0), RetryableError), "whoever waits is told"


def test_a_fault_in_making_rows_ready_is_told_to_the_server_and_to_whoever_waits(tmp_path, monkeypatch):
    def faulty(batch, unknown=None):
        raise KeyError("of ours")

    monkeypatch.setattr("collector.landing_writes.entries_of", faulty)
    waiting = Future()
    with landing_in(tmp_path, 0, expected_failures=1) as (spool, landing, store):
        spool.append(traces(1), Handed(None, waiting)).result(60)
        run(spool, landing)
        assert store.progress() == Position(0, 0)
    assert isinstance(waiting.exception(0), RetryableError)


def test_memory_that_is_short_while_spans_are_told_apart_does_not_end_the_landing(tmp_path, monkeypatch):
    def refusing(store, batch, progress=None):
        if any("bad" in str(rows["name"].to_pylist()) for table, rows in batch if table == "spans"):
            refused.append(batch)
            raise PermanentError("it does not like the name")
        return land_conformed(store, batch, progress)

    def short(batch, unknown=None):
        if refused and not asked:
            asked.append(batch)
            raise pa.ArrowMemoryError("malloc of size 8 failed")
        return entries_of(batch, unknown)

    asked, refused, land_conformed = [], [], FileStore.land_conformed
    monkeypatch.setattr(FileStore, "land_conformed", refusing)
    monkeypatch.setattr("collector.landing_writes.entries_of", short)
    body = b"".join(traces_body(span_message(number, name="bad" if number == 2 else "good")) for number in (1, 2, 3))
    with landing_in(tmp_path, linger_seconds=0) as (spool, landing, store):
        landing.start()
        end = spool.append(Record("traces", "identity", 1_790_000_100_000_000, {}, body)).result(60)
        until(lambda: store.progress() == end)
        spool.close()
        landing.close()
        assert store.query("SELECT count(*) AS n FROM spans").to_pylist() == [{"n": 2}]
    assert asked


def test_how_long_a_record_waits_is_told_while_the_next_can_not_be_read(tmp_path):
    with landing_in(tmp_path, 0, memory_bytes=0) as (spool, landing, _):
        read, landing.read_again = landing.read_again, unreadable
        spool.append(traces(1), Handed(None)).result(60)
        landing.start()
        until(lambda: retries(landing) > 0)
        until(lambda: landing.oldest_age_seconds() > 0.05)
        landing.read_again = read
        until(lambda: landing.oldest_age_seconds() == 0)
        spool.close()
        landing.close()


def unreadable(spooled):
    raise RetryableError("the file can't be opened")


def test_a_batch_is_bounded_also_where_memory_was_short(tmp_path, monkeypatch):
    def counted(writer, batch, prepared=None):
        batches.append(len(batch))
        return write(writer, batch, prepared)

    batches, write = [], BatchWriter.write
    monkeypatch.setattr(BatchWriter, "write", counted)
    spans = [span_message(number) for number in range(1, 101)]
    body = traces_body(*spans)
    with landing_in(tmp_path, memory_bytes=0, rows_limit=3 * len(body) // BODY_BYTES_PER_ROW) as (spool, landing, _):
        record = Record("traces", "identity", 1_790_000_100_000_000, {}, body)
        for _ in range(12):
            spool.append(record, Handed(Decoded())).result(60)
        run(spool, landing)
    assert (sum(batches), max(batches)) == (12, 3)


def test_a_log_that_can_not_be_written_into_the_file_takes_no_landing_back(tmp_path, monkeypatch):
    def full(store):
        raise RetryableError("the disk is full")

    monkeypatch.setattr("collector.file_store.LONGEST_LOG_BYTES", 0)
    with landing_in(tmp_path, linger_seconds=0) as (spool, landing, store):
        monkeypatch.setattr(FileStore, "checkpoint", full)
        waiting = Future()
        end = spool.append(traces(1), Handed(None, waiting)).result(60)
        run(spool, landing)
        assert (waiting.result(0), store.progress()) == (1, end)
        assert retries(landing) == 0


def test_rows_for_which_there_is_no_memory_now_are_landed_later(tmp_path, monkeypatch):
    def short(batch, unknown=None):
        if len(asked) < 3:
            asked.append(batch)
            raise pa.ArrowMemoryError("malloc of size 8 failed")
        return entries_of(batch, unknown)

    asked = []
    monkeypatch.setattr("collector.landing_writes.entries_of", short)
    with landing_in(tmp_path, linger_seconds=0) as (spool, landing, store):
        landing.start()
        end = spool.append(traces(1)).result(60)
        until(lambda: store.progress() == end)
        spool.close()
        landing.close()
        assert store.query("SELECT count(*) AS n FROM spans").to_pylist() == [{"n": 1}]


def test_dead_letters_are_bounded_and_the_oldest_go_first(tmp_path):
    letters = DeadLetters(tmp_path, limit_bytes=1000)
    for number in range(20):
        letters.keep(SCRAPE, Position(1, number), [Rejected("because", bytes(50))])
    kept = sorted(path.name for path in tmp_path.glob("*"))
    assert sum(path.stat().st_size for path in tmp_path.glob("*")) == letters.size_bytes <= 1000
    assert kept[-1] == f"{1:012d}-{19:012d}-scrape.jsonl"
    assert len(kept) == len(letters_again := sorted(path.name for path in tmp_path.glob("*")))
    assert DeadLetters(tmp_path, 1000).size_bytes == letters.size_bytes
    assert letters_again == kept


def test_the_same_record_again_is_the_same_letter(tmp_path):
    letters = DeadLetters(tmp_path, limit_bytes=1000)
    for _ in range(3):
        letters.keep(SCRAPE, Position(1, 1), [Rejected("because", b"x")])
    (file,) = tmp_path.glob("*")
    assert file.stat().st_size == letters.size_bytes


def test_the_newest_letter_stays_even_where_it_alone_is_over_the_limit(tmp_path):
    letters = DeadLetters(tmp_path, limit_bytes=1000)
    for number in (1, 2):
        letters.keep(SCRAPE, Position(1, number), [Rejected("because", bytes(2000))])
    (file,) = tmp_path.glob("*")
    assert file.name == f"{1:012d}-{2:012d}-scrape.jsonl"
