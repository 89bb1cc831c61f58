"""Archived days in an S3 bucket: a real server of the protocol, started by the test."""

from datetime import datetime

import pytest
from moto.server import ThreadedMotoServer

from collector.backups import DATABASE
from collector.errors import RetryableError
from collector.file_store import FileStore
from collector.verification import verify
from tests.collector.test_archive import DAYS, PER_DAY, requests


@pytest.fixture
def bucket(monkeypatch):
    from pyarrow import fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = f"region=us-east-1&scheme=http&endpoint_override={host}:{port}"
    filesystem, _ = fs.FileSystem.from_uri(f"s3://days/fleet?{options}&allow_bucket_creation=true")
    filesystem.create_dir("days")
    yield f"s3://days/fleet?{options}", filesystem
    server.stop()


def test_days_in_a_bucket_are_read_kept_apart_and_verified(bucket, tmp_path):
    address, filesystem = bucket
    store = FileStore(tmp_path / DATABASE, threads=1, archive=address)
    store.land({"requests": requests()})
    before = store.query("SELECT * FROM requests ORDER BY trace_id")
    store.compact(datetime(2026, 2, 20), archive_after_days=1)
    assert store.query("SELECT count(*) AS n FROM main.requests")["n"].to_pylist() == [0]
    assert store.query("SELECT * FROM requests ORDER BY trace_id") == before
    assert store.land({"requests": requests()}) == {"requests": 0}
    store.close()
    assert not list((tmp_path / "archive").rglob("*.parquet"))
    for read_only in (True, False):  # the address is in the database: nobody needs to name it again
        store = FileStore(tmp_path / DATABASE, threads=1, read_only=read_only)
        assert store.query("SELECT count(*) AS n FROM requests")["n"].to_pylist() == [DAYS * PER_DAY]
        store.close()
    assert list(verify(tmp_path)) == []
    path = next(file.path for file in store.archive.files)
    filesystem.delete_file(f"days/fleet/{path}")
    assert any("is not there" in finding.said for finding in verify(tmp_path))


def test_rows_of_archived_days_wait_while_the_bucket_is_out_of_reach(bucket, tmp_path):
    address, filesystem = bucket
    store = FileStore(tmp_path / DATABASE, threads=1, archive=address)
    store.land({"requests": requests()})
    store.compact(datetime(2026, 2, 20), archive_after_days=1)
    filesystem.delete_dir_contents("days/fleet")
    with pytest.raises(RetryableError, match="make the archive reachable"):
        store.land({"requests": requests()})
    assert store.land({"requests": requests([30])}) == {"requests": PER_DAY}
    store.close()


def test_nothing_but_the_archive_of_a_bucket_is_within_reach(bucket, tmp_path):
    import duckdb

    address, filesystem = bucket
    with filesystem.open_output_stream("days/secret.csv") as file:
        file.write(b"a\n1\n")
    store = FileStore(tmp_path / DATABASE, threads=1, archive=address)
    with pytest.raises(duckdb.PermissionException):
        store.cursor().execute("SELECT * FROM read_csv('s3://days/secret.csv')")
    store.close()
