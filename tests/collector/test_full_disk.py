"""Real disks that fill up or can't be written, under spool and database: refused or landed later, never lost."""

import contextlib
import os
import subprocess
import sys

import pytest

from collector.errors import CollectorError
from collector.file_store import FileStore
from collector.pipeline import Pipeline
from collector.testing import dead_letters
from tests.collector.test_disk_faults import config_in, spooled, until

FILL = """
import os, resource, signal, sys
from pathlib import Path
from collector.errors import RetryableError
from collector.pipeline import Pipeline
from tests.collector.test_disk_faults import config_in, retries, spooled, until

data_dir, ballast, limit_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
failures, acknowledged = [], 0
pipeline = Pipeline(config_in(data_dir), failures.append)
pipeline.spool.start()
try:
    while True:
        pipeline.spool.append(spooled(acknowledged + 1)).result(60)
        acknowledged += 1
except RetryableError as error:
    print("refused:", error)
pipeline.landing.start()
until(lambda: retries(pipeline.landing) or failures)
print("acknowledged", acknowledged, flush=True)
ballast.unlink()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
until(lambda: not pipeline.spool.unlanded_bytes or failures)
print("landed" if not failures else f"failed: {failures[0]}", flush=True)
os._exit(0)  # as a crash would: nothing is tidied up
"""
MIB = 2**20


@contextlib.contextmanager
def mounted(folder, *options):
    """Mount over a folder; False where this machine does not let us."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def landed_after_a_restart(data_dir):
    failures = []
    pipeline = Pipeline(config_in(data_dir), failures.append)
    pipeline.landing.start(pipeline.spool.replay())
    pipeline.spool.start()
    until(lambda: not pipeline.landing.replaying or failures)
    pipeline.close()
    assert failures == []
    store = FileStore(data_dir / "fleetmeter.duckdb", threads=1, read_only=True)
    found = store.query("SELECT list(span_id ORDER BY span_id) AS ids FROM spans")["ids"][0].as_py()
    store.close()
    return found


def test_a_disk_that_is_full_refuses_and_what_was_acknowledged_lands_once_it_has_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", f"size={128 * MIB}", "tmpfs") as small:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(112 * MIB if small else 1))
        limit_bytes = 0 if small else 12 * MIB  # the system's next best: files that may grow no further
        command = [sys.executable, "-c", FILL, str(disk / "data"), str(ballast), str(limit_bytes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        refused, acknowledged, ended = done.stdout.splitlines()
        assert refused.startswith("refused: the spool in")
        count = int(acknowledged.removeprefix("acknowledged "))
        assert count > 100
        assert ended == "landed" or ended.startswith("failed:"), "it waits, or says that a restart is needed"
        found = landed_after_a_restart(disk / "data")
        assert found == [f"{number:016x}" for number in range(1, count + 1)]
        assert dead_letters(disk / "data") == []


def test_a_data_folder_that_cannot_be_written_is_refused_at_the_start_and_keeps_its_spool(tmp_path):
    data_dir = tmp_path / "data"
    pipeline = Pipeline(config_in(data_dir), lambda error: None)
    pipeline.spool.start()
    for number in (1, 2):
        pipeline.spool.append(spooled(number)).result(60)
    pipeline.spool.close()
    pipeline.store.close()
    with read_only(data_dir), pytest.raises(CollectorError, match="data"):
        Pipeline(config_in(data_dir), lambda error: None)
    assert landed_after_a_restart(data_dir) == [f"{number:016x}" for number in (1, 2)]


@contextlib.contextmanager
def read_only(folder):
    """Mount a folder read-only over itself, or take the right to write where that can't be."""
    with mounted(folder, "--bind", str(folder)) as bound:
        if bound:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        else:
            assert os.geteuid() != 0, "root can write to any folder, and this machine lets it mount nothing"
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o500)
        try:
            yield
        finally:
            if not bound:
                for path in (folder, *folder.rglob("*")):
                    path.chmod(0o700)
