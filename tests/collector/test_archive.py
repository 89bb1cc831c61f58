"""Old days leave for Parquet: readers see no difference, keys stay taken, and every row is in one place."""

from datetime import date, datetime, timedelta

import pyarrow as pa
import pytest

from collector.archive import Archive, large_tables
from collector.file_store import FileStore

START = datetime(2026, 1, 30)
DAYS = 4
PER_DAY = 20
NOW = datetime(2026, 2, 20)


def requests(days=range(DAYS), per_day=PER_DAY, part="a"):
    rows = [
        (f"{day:016x}{number:015x}{part}", START + timedelta(days=day, minutes=number * 60))
        for day in days
        for number in range(per_day)
    ]
    count = len(rows)
    return pa.table({
        "trace_id": [trace for trace, _ in rows], "span_id": ["s" * 16] * count,
        "started_at": [at for _, at in rows], "model": ["m"] * count, "outcome": ["ok"] * count,
        "source": ["test"] * count, "estimated": [False] * count, "ttft_seconds": [0.1] * count,
        "input_tokens": [10] * count, "attributes": pa.array([[("k", "v")]] * count, pa.map_(pa.string(), pa.string())),
    })  # fmt: skip


def points(days=range(DAYS)):
    at = [START + timedelta(days=day, minutes=minute * 60) for day in days for minute in range(24)]
    return pa.table({"series_id": [7] * len(at), "observed_at": at, "value": [1.0] * len(at)})


@pytest.fixture
def open_store(tmp_path):
    opened = []

    def open_it(**options):
        while opened:
            opened.pop().close()
        opened.append(FileStore(tmp_path / "f.duckdb", threads=1, **options))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def value(store, sql, **parameters):
    return next(iter(store.query(sql, parameters).to_pylist()[0].values()))


def everything(store):
    tables = ("requests", "judged_requests", "metric_points", "request_hours")
    answers = [store.query(f"SELECT * EXCLUDE (received_at) FROM {table} ORDER BY ALL") for table in tables[:2]]
    return answers + [store.query(f"SELECT * FROM {table} ORDER BY ALL") for table in tables[2:]]


def filled(open_store, **options):
    store = open_store(**options)
    store.land({"requests": requests(), "metric_points": points()})
    return store


def test_queries_do_not_see_where_rows_are(open_store):
    store = filled(open_store)
    before = everything(store)
    assert store.compact(NOW, archive_after_days=20 - 2) > 0
    assert value(store, "SELECT count(*) FROM main.requests") == PER_DAY
    assert everything(store) == before
    store = open_store()
    assert everything(store) == before
    store = open_store(read_only=True)
    assert everything(store) == before
    assert value(store, "SELECT count(*) FROM requests WHERE started_at < $t", t=START + timedelta(days=1)) == PER_DAY


def test_a_reader_that_comes_before_the_first_day_leaves_sees_its_rows(open_store):
    store, readers = filled(open_store), []
    store.archive.at_step = lambda step: readers.append((step, store.cursor()))
    store.compact(NOW, archive_after_days=0)
    for step, cursor in readers:
        assert cursor.execute("SELECT count(*) FROM requests").fetchall() == [(DAYS * PER_DAY,)], step
        cursor.close()
    assert {step for step, _ in readers} >= {"announced", "written", "published"}
    readers.clear()
    store.expire("requests", NOW.date())
    store.expire("metric_points", NOW.date())
    for step, cursor in readers:
        assert cursor.execute("SELECT count(*) FROM requests").fetchall() == [(0,)], step
        cursor.close()
    assert value(store, "SELECT count(*) FROM requests") == 0


def test_a_moved_folder_still_has_its_archive(tmp_path, open_store):
    store = filled(open_store)
    before = everything(store)
    store.compact(NOW, archive_after_days=0)
    store.close()
    (moved := tmp_path / "elsewhere").mkdir()
    for name in ("f.duckdb", "archive"):
        (tmp_path / name).rename(moved / name)
    for read_only in (True, False):
        store = FileStore(moved / "f.duckdb", read_only=read_only)
        assert everything(store) == before
        store.close()


def test_a_late_duplicate_of_an_archived_row_is_not_counted_twice(open_store):
    for restarted in (False, True):
        store = open_store()
        store.land({"requests": requests(), "metric_points": points()})
        store.compact(NOW, archive_after_days=0)
        if restarted:
            store = open_store()
        assert store.land({"requests": requests(), "metric_points": points()}) == {"requests": 0, "metric_points": 0}
        late = {"requests": requests(per_day=3, part="b"), "metric_points": points(range(-1, DAYS + 1))}
        assert store.land(late) == (
            {"requests": 12, "metric_points": 48} if not restarted else {"requests": 0, "metric_points": 0}
        )
    assert value(store, "SELECT count(*) FROM requests") == DAYS * PER_DAY + 12
    assert value(store, "SELECT count(*) FROM metric_points") == 24 * (DAYS + 2)
    assert value(store, "SELECT count(*) FROM (SELECT DISTINCT series_id, observed_at FROM metric_points)") == 24 * (
        DAYS + 2
    )


def test_late_rows_of_an_archived_day_join_its_file(open_store, tmp_path):
    store = filled(open_store)
    store.compact(NOW, archive_after_days=0)
    store.land({"requests": requests([1], 3, "b")})
    before = everything(store)
    store.compact(NOW, archive_after_days=0)
    assert value(store, "SELECT count(*) FROM main.requests") == 0
    live = store.query(
        "SELECT day, rows_count FROM archive_files WHERE state = 'live' AND table_name = 'requests' ORDER BY 1"
    )
    assert live.column("rows_count").to_pylist() == [PER_DAY, PER_DAY + 3, PER_DAY, PER_DAY]
    assert everything(store) == before
    files = len(list((tmp_path / "archive").rglob("*.parquet")))
    assert store.archive.tidy(grace_seconds=0) == 1
    assert len(list((tmp_path / "archive").rglob("*.parquet"))) == files - 1
    assert everything(store) == before


def test_a_query_of_recent_time_opens_no_archived_file(open_store):
    store = filled(open_store)
    store.compact(NOW, archive_after_days=0)

    def plan(since):
        sql = "EXPLAIN SELECT count(*) FROM judged_requests WHERE started_at >= $since::TIMESTAMP"
        return (
            store.cursor()
            .execute(sql, {"since": since})
            .fetchall()[0][1]
            .upper()
            .replace("READ PARQUET", "READ_PARQUET")
        )

    assert "READ_PARQUET" not in plan(datetime(2026, 3, 1))
    assert "READ_PARQUET" in plan(datetime(2026, 2, 1))
    assert plan(datetime(2026, 1, 1)).count("READ_PARQUET") == 2 * plan(datetime(2026, 2, 1)).count("READ_PARQUET")


def test_files_are_sorted_zstd_in_date_partitions(open_store, tmp_path):
    import pyarrow.parquet as pq

    store = filled(open_store)
    store.compact(NOW, archive_after_days=0)
    (file,) = (tmp_path / "archive/requests/day=2026-01-30").glob("*.parquet")
    parquet = pq.ParquetFile(file)
    assert parquet.metadata.row_group(0).column(0).compression == "ZSTD"
    starts = parquet.read().column("started_at").to_pylist()
    assert starts == sorted(starts) and len(starts) == PER_DAY


def test_retention_drops_days_hot_and_archived(open_store, tmp_path):
    store = filled(open_store)
    store.compact(NOW, archive_after_days=20 - 1)
    hours = value(store, "SELECT sum(requests_count)::BIGINT FROM request_hours")
    assert hours == DAYS * PER_DAY
    assert store.expire("requests", date(2026, 2, 2)) == 3 * PER_DAY
    assert value(store, "SELECT count(*) FROM requests") == PER_DAY
    assert value(store, "SELECT sum(requests_count)::BIGINT FROM request_hours") == PER_DAY
    assert value(store, "SELECT count(*) FROM metric_points") == 24 * DAYS
    store.archive.tidy(grace_seconds=0)
    assert not list((tmp_path / "archive/requests").rglob("*.parquet"))
    assert store.expire("metric_points", date(2026, 3, 1)) == 24 * DAYS
    store = open_store()
    assert value(store, "SELECT count(*) FROM requests") == PER_DAY


def test_a_column_added_later_is_null_in_archived_rows(open_store, tmp_path):
    store = filled(open_store)
    store.compact(NOW, archive_after_days=0)
    store.close()
    import duckdb

    with duckdb.connect(str(tmp_path / "f.duckdb")) as connection:
        connection.execute(
            "UPDATE archive_files SET column_names = replace(column_names, ',model,', ',') "
            "WHERE table_name = 'requests'"
        )
        connection.execute("DROP SCHEMA whole CASCADE")  # as every migration does
    store = open_store()
    assert value(store, "SELECT count(model) FROM requests") == 0
    assert value(store, "SELECT count(*) FROM requests") == DAYS * PER_DAY


def test_a_round_of_retention_that_has_nothing_to_drop_changes_nothing(open_store):
    store = filled(open_store)
    store.compact(NOW, archive_after_days=0)
    steps = []
    store.archive.at_step = steps.append
    with store.archive.writing:  # landing goes on meanwhile
        assert store.expire("requests", START.date()) == 0
        assert store.archive.expire("metric_points", date(2000, 1, 1)) == 0
    assert steps == []


def test_every_large_table_has_a_day():
    assert {"requests", "spans", "metric_points", "metric_histograms", "gpu_samples"} <= set(large_tables())


def test_rows_that_come_while_a_day_is_written_are_not_lost(open_store):
    store = filled(open_store)
    landed = []

    def land_more(step):
        if step == "written" and not landed:
            landed.append(store.land({"requests": requests([0], 1, "c")}))

    store.archive.at_step = land_more
    store.archive.move("requests", START.date())
    assert landed == [{"requests": 1}]
    assert value(store, "SELECT count(*) FROM requests") == DAYS * PER_DAY + 1
    assert value(store, "SELECT count(*) FROM main.requests") == (DAYS - 1) * PER_DAY
    assert isinstance(store.archive, Archive)
