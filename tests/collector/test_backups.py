"""Backups of a running collector are consistent, and what they restore has every row once."""

import contextlib
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import threading

import httpx
import pytest

from collector import backups
from collector.client import HttpClient
from collector.errors import PermanentError
from collector.file_store import FileStore
from collector.testing import CollectorProcess, running_collector, span_message, traces_body
from collector.verification import verify
from tests.collector.test_archive import requests

PROTOBUF = {"Content-Type": "application/x-protobuf"}
BATCH = 20


class Load:
    """Batches of spans from a thread until it is told to stop; remembers what was acknowledged."""

    def __init__(self, address):
        self._address, self._numbers, self._stop = address, itertools.count(), threading.Event()
        self.acknowledged = set()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()

    def wait_for(self, count):
        while len(self.acknowledged) < count:
            assert self._thread.is_alive()
            self._stop.wait(0.01)

    def _send(self):
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                number = next(self._numbers)
                body = traces_body(*(span_message(number * BATCH + one + 1) for one in range(BATCH)))
                try:
                    answer = client.post(self._address + "/v1/traces", content=body, headers=PROTOBUF)
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    self.acknowledged.add(number)


def batches_of(collector):
    spans = "SELECT list(DISTINCT ((('0x' || span_id)::BIGINT - 1) // {})::INTEGER) FROM spans"
    rows, keys = (
        collector.value("SELECT count(*) FROM spans"),
        collector.value("SELECT count(DISTINCT span_id) FROM spans"),
    )
    found = set(collector.value(spans.format(BATCH)))
    assert rows == keys == len(found) * BATCH, "doubled, or a batch in part"
    return found


@pytest.mark.slow
def test_a_backup_under_load_restores_to_every_acknowledged_span_once(data_dir, tmp_path):
    flags = {"FLEETMETER__COLLECTOR__CHECKPOINT_INTERVAL_SECONDS": "0.3"}
    made = []
    with running_collector(data_dir, **flags) as collector, Load(collector.otlp_http) as load:
        for wanted in (20, 60, 100):
            load.wait_for(wanted)
            before = set(load.acknowledged)
            with contextlib.closing(HttpClient(collector.api)) as client:
                made.append((before, client.back_up()["folder"]))
    for number, (before, folder) in enumerate(made):
        assert list(verify(tmp_path / folder)) == []
        restored = tmp_path / f"restored-{number}"
        assert backups.restore(tmp_path / folder, restored) > 0
        with running_collector(restored) as collector:
            collector.wait_ready()
            assert before <= batches_of(collector), "acknowledged before the backup, and not in it"


@pytest.mark.slow
def test_killed_during_a_backup_nothing_is_lost_and_the_folder_is_no_backup(data_dir):
    collector = CollectorProcess(data_dir).start()
    with Load(collector.otlp_http) as load:
        load.wait_for(30)
        with contextlib.suppress(Exception), contextlib.closing(HttpClient(collector.api)) as client:
            killer = threading.Timer(0.02, collector.kill)
            killer.start()
            client.back_up()
        killer.join()
        acknowledged = set(load.acknowledged)
    for folder in (data_dir / "backups").glob("*"):
        if not (folder / backups.LIST).exists():
            with pytest.raises(PermanentError, match="is no backup, or one that was broken off"):
                backups.restore(folder, data_dir.parent / "restored")
    with running_collector(data_dir) as collector:
        collector.wait_ready()
        assert acknowledged <= batches_of(collector)


@pytest.fixture
def folder(tmp_path):
    store = FileStore(tmp_path / "data" / backups.DATABASE, threads=1)
    store.land({"requests": requests()})
    store.archive.move("requests", requests().column("started_at")[0].as_py().date())
    store.close()
    return tmp_path / "data"


def test_a_stopped_folder_is_backed_up_and_restored_with_its_archive(folder, tmp_path, cli):
    ran = cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "copy")
    assert (ran.code, ran.out.strip()) == (0, str(tmp_path / "copy"))
    shutil.rmtree(folder)
    assert cli("store", "verify", "--data-dir", tmp_path / "copy").code == 0
    assert cli("store", "restore", tmp_path / "copy", "--data-dir", tmp_path / "again").code == 0
    ran = cli(
        "query", "--db", tmp_path / "again" / backups.DATABASE, "--format", "csv", "SELECT count(*) FROM requests"
    )
    assert ran.out.splitlines()[1] == "80"
    assert cli("store", "verify", "--data-dir", tmp_path / "again").code == 0


def test_a_spoiled_backup_is_not_restored(folder, tmp_path, cli):
    cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "copy")
    with (tmp_path / "copy" / backups.DATABASE).open("ab") as file:
        file.write(b"?")
    ran = cli("store", "restore", tmp_path / "copy", "--data-dir", tmp_path / "again")
    assert ran.code == 2 and "is not what was written" in ran.err
    assert not (tmp_path / "again").exists()


def test_nothing_that_is_there_is_overwritten(folder, tmp_path, cli):
    cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "copy")
    ran = cli("store", "restore", tmp_path / "copy", "--data-dir", folder)
    assert ran.code == 2 and "has fleetmeter.duckdb, archive already" in ran.err
    ran = cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "copy")
    assert ran.code == 2 and "is there already" in ran.err
    database = folder / backups.DATABASE
    database.rename(tmp_path / "moved.duckdb")
    for name in (f"{backups.DATABASE}.wal", "spool/segment-000000000001.spool"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"left by a process that was killed")
    ran = cli("store", "restore", tmp_path / "copy", "--data-dir", folder)
    assert ran.code == 2 and "has fleetmeter.duckdb.wal, archive, spool already" in ran.err
    assert not database.exists()


@pytest.mark.parametrize(
    "files",
    [
        "[]",
        "5",
        '{"files": []}',
        '{"files": null}',
        '{"files": {}}',
        '{"files": {"../out": {"sha256": "0", "size_bytes": 1}}}',
    ],
)
def test_a_list_that_is_none_or_leads_out_of_the_folder_restores_nothing(folder, tmp_path, cli, files):
    cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "copy")
    (tmp_path / "out").write_text("x")
    if ".." in files:
        listed = json.loads((tmp_path / "copy" / backups.LIST).read_text())
        listed["files"]["../out"] = {"sha256": hashlib.sha256(b"x").hexdigest(), "size_bytes": 1}
        files = json.dumps(listed)
    (tmp_path / "copy" / backups.LIST).write_text(files)
    ran = cli("store", "restore", tmp_path / "copy", "--data-dir", tmp_path / "sub/again")
    assert ran.code == 2 and "Traceback" not in ran.err
    assert not (tmp_path / "sub").exists()


def test_a_backup_that_can_not_be_made_says_so(folder, tmp_path, cli):
    (tmp_path / "file").write_text("x")
    ran = cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "file" / "copy")
    assert ran.code == 3 and "can't be made" in ran.err


RESTORE_KILLED = """
import os, signal, sys
from pathlib import Path
from collector import backups
left, copy = [int(sys.argv[3])], backups.shutil.copyfile
def copyfile(*names):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return copy(*names)
backups.shutil.copyfile = copyfile
backups.restore(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("copied", [0, 1])
def test_a_restore_that_is_killed_starts_over(folder, tmp_path, cli, copied):
    cli("store", "backup", "--data-dir", folder, "--to", tmp_path / "copy")
    command = [sys.executable, "-c", RESTORE_KILLED, str(tmp_path / "copy"), str(tmp_path / "again"), str(copied)]
    assert subprocess.run(command).returncode == -9
    assert not (tmp_path / "again" / backups.DATABASE).exists()
    assert cli("store", "restore", tmp_path / "copy", "--data-dir", tmp_path / "again").code == 0
    assert cli("store", "verify", "--data-dir", tmp_path / "again").code == 0
