"""Seconds from a collector's start to ready with 1 GiB of spool that the last run left, and until that is landed."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import httpx

from bench.ingest import cpu_seconds
from bench.request_spans import NOW_US, bodies_of
from collector.spool_records import MAGIC, Record, encode_record
from collector.testing import CollectorProcess

SEGMENT_BYTES = 64 * 2**20


def leave_spool(folder: Path, size_bytes: int, bodies: list[bytes]) -> int:
    """Write segments of these bodies again and again; return how many records."""
    folder.mkdir(parents=True)
    frames = b"".join(encode_record(Record("traces", "gzip", NOW_US, {}, body)) for body in bodies)
    per_segment = max(1, SEGMENT_BYTES // len(frames))
    count = max(1, size_bytes // (per_segment * len(frames)))
    for number in range(1, count + 1):
        (folder / f"segment-{number:012d}.spool").write_bytes(MAGIC + frames * per_segment)
    return count * per_segment * len(bodies)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench restart", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the spool")
    parser.add_argument("--landed", action="store_true", help="wait until it is landed, too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        records = leave_spool(Path(name) / "spool", asked.mebibytes * 2**20, bodies_of(51_200, 512))
        started = time.monotonic()
        collector = CollectorProcess(Path(name)).start()
        try:
            listening = time.monotonic() - started
            while httpx.get(f"{collector.api}/readyz").status_code != 200:
                time.sleep(0.01)
            ready = time.monotonic() - started
            assert collector.process is not None
            cpu = cpu_seconds(collector.process.pid)
            print(f"{asked.mebibytes} MiB of spool, {records} records: listening after {listening:.1f} s, ", end="")
            print(f"ready after {ready:.1f} s and {cpu:.1f} s of CPU", flush=True)
            if asked.landed:
                collector.wait_ready(seconds=3600)
                print(f"landed after {time.monotonic() - started:.0f} s")
        finally:
            collector.kill()
    return 0
