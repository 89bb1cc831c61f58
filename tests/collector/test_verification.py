"""`fleetmeter store verify` finds what does not fit, says what mends it, and exits 1."""

from datetime import datetime

import duckdb
import pytest

from collector.file_store import FileStore
from collector.spool_records import MAGIC, Position, Record, encode_record
from collector.verification import verify
from tests.collector.test_archive import points, requests


@pytest.fixture
def folder(tmp_path):
    store = FileStore(tmp_path / "fleetmeter.duckdb", threads=1)
    store.land({"requests": requests(), "metric_points": points()})
    store.compact(datetime(2026, 2, 20), archive_after_days=18)
    spool = tmp_path / "spool"
    spool.mkdir()
    record = encode_record(Record("rows", "identity", 0, {}, b"x"))
    for number in (4, 5):
        (spool / f"segment-{number:012d}.spool").write_bytes(MAGIC + record + record)
    store.land_conformed([], Position(4, len(MAGIC) + len(record)))
    store.close()
    return tmp_path


def change(folder, sql):
    with duckdb.connect(str(folder / "fleetmeter.duckdb")) as connection:
        connection.execute(sql)


def files(folder):
    return sorted((folder / "archive/requests").rglob("*.parquet"))


def lose_a_file(folder):
    files(folder)[0].unlink()


def flip_a_byte(folder):
    content = bytearray(files(folder)[0].read_bytes())
    content[100] ^= 1
    files(folder)[0].write_bytes(content)


def leave_a_stranger(folder):
    (files(folder)[0].parent / "stranger.parquet").write_bytes(b"?")


def double_a_row(folder):
    change(folder, "INSERT INTO main.requests SELECT * FROM main.requests LIMIT 1")


def double_an_archived_row(folder):
    files = f"read_parquet('{folder}/archive/metric_points/**', hive_partitioning = false)"
    change(folder, f"INSERT INTO main.metric_points SELECT * FROM {files} LIMIT 1")


def spoil_a_rollup(folder):
    change(folder, "UPDATE settled_request_hours SET input_tokens = input_tokens + 1 WHERE input_tokens > 0")


def miscount_a_file(folder):
    change(folder, "UPDATE archive_files SET rows_count = rows_count + 1 WHERE table_name = 'requests'")


def damage_a_segment(folder):
    segment = folder / "spool/segment-000000000004.spool"
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)


def lose_a_segment(folder):
    (folder / "spool/segment-000000000005.spool").rename(folder / "spool/segment-000000000006.spool")


def run_ahead_of_the_spool(folder):
    change(folder, "UPDATE spool_progress SET position_bytes = 99999")


SPOILED = {
    lose_a_file: "is not there",
    flip_a_byte: "checksum differs",
    leave_a_stranger: "on no list",
    double_a_row: "more than once",
    double_an_archived_row: "more than once",
    spoil_a_rollup: "differ from the requests",
    miscount_a_file: "are listed",
    damage_a_segment: "is damaged from byte",
    lose_a_segment: "is missing between",
    run_ahead_of_the_spool: "the tables have taken 99999",
}


def test_a_whole_folder_has_no_finding(folder, cli):
    assert list(verify(folder)) == []
    ran = cli("store", "verify", "--data-dir", folder)
    assert (ran.code, ran.out) == (0, "")
    assert "0 findings" in ran.err


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_what_is_spoiled_is_found_with_its_fix(folder, spoil):
    spoil(folder)
    findings = list(verify(folder))
    assert any(SPOILED[spoil] in finding.said for finding in findings), findings
    assert all(finding.fix for finding in findings)


def test_a_finding_is_exit_code_1_and_rollups_are_mended(folder, cli):
    spoil_a_rollup(folder)
    ran = cli("store", "verify", "--data-dir", folder)
    assert ran.code == 1
    assert "fix: `fleetmeter store compact --rollups`" in ran.out
    assert cli("store", "compact", "--rollups", "--data-dir", folder).code == 0
    assert cli("store", "verify", "--data-dir", folder).code == 0


def test_a_folder_that_a_collector_holds_is_exit_code_3(folder, cli):
    import subprocess
    import sys

    code = (
        "import sys, time; from collector.file_store import FileStore; "
        "store = FileStore(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder / "fleetmeter.duckdb")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        ran = cli("store", "verify", "--data-dir", folder)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert ran.code == 3
    assert "held by another process" in ran.err


def test_no_database_is_exit_code_2(tmp_path, cli):
    ran = cli("store", "verify", "--data-dir", tmp_path)
    assert ran.code == 2
    assert "no database at" in ran.err


def test_a_tables_old_days_can_be_expired_by_command(folder, cli):
    ran = cli("store", "expire", "requests", "--before", "2026-02-01", "--data-dir", folder)
    assert ran.code == 0 and "40 rows of requests" in ran.err
    assert cli("store", "expire", "requests", "--data-dir", folder).code == 2
    assert cli("store", "verify", "--data-dir", folder).code == 0
