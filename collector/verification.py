"""`fleetmeter store verify`: whether spool, tables, rollups and archive say the same, each finding with what mends it.

It opens the folder for reading alone and changes nothing, so it runs on a stopped collector's folder or on a backup.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from collector.archive_places import FolderPlace
from collector.backups import DATABASE
from collector.errors import PermanentError
from collector.file_store import FileStore
from collector.spool import segments_in
from collector.spool_records import MAGIC, Position, first_record_start, walk_segment
from collector.table_contracts import BOOKKEEPING, TableContract, table_contracts

ROLLUPS = ("request_hours", "request_sketches", "request_arrivals")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit."""

    subject: str
    """The table, segment or file."""
    said: str
    """What is wrong."""
    fix: str
    """What mends it."""


def verify(data_dir: Path, *, archive: str | None = None, deep: bool = True) -> Iterator[Finding]:
    """Check a data folder.

    Args:
        data_dir: the collector's folder, or a backup.
        archive: where archived days go, as configured.
        deep: also read every archived file whole and recompute the rollups.

    Yields:
        Findings; none where all is well.

    Raises:
        RetryableError: a collector holds the database.
        PermanentError: there is no database, or it can't be opened.
    """
    path = data_dir / DATABASE
    if not path.is_file():
        raise PermanentError(f"no database at {path}; name the collector's data folder with --data-dir")
    store = FileStore(path, read_only=True, archive=archive)
    try:
        yield from check_files(store, deep=deep)
        yield from check_keys(store)
        if deep:
            yield from check_archived_rows(store)
            yield from check_rollups(store)
        yield from check_spool(data_dir / "spool", store.progress())
    finally:
        store.close()


def check_files(store: FileStore, *, deep: bool) -> Iterator[Finding]:
    """Compare the list of archived files with the files."""
    rows = store.query(
        "SELECT path, coalesce(place, '') AS place, state, size_bytes, sha256 FROM archive_files ORDER BY path"
    ).to_pylist()
    restore = "restore it from a backup, or take its day out with `fleetmeter store expire`"
    for row in rows:
        if row["state"] != "live":
            continue
        place = store.archive.places[row["place"]]
        if not deep and isinstance(place, FolderPlace):
            file = place.folder / row["path"]
            found = ("", file.stat().st_size) if file.is_file() else None
        else:
            found = place.checksum(row["path"])
        if found is None:
            yield Finding(row["path"], "is listed as live and is not there", restore)
        elif found[1] != row["size_bytes"] or (found[0] and found[0] != row["sha256"]):
            yield Finding(row["path"], "is not what was written: its checksum differs", restore)
    listed = {(row["place"], row["path"]) for row in rows}
    for address, place in store.archive.places.items():
        if isinstance(place, FolderPlace) and place.folder.is_dir():
            for file in sorted(place.folder.glob("*/day=*/*")):
                name = str(file.relative_to(place.folder))
                if (address, name) not in listed:
                    yield Finding(name, "is in the archive and on no list", "move it away: no query reads it")


def check_keys(store: FileStore) -> Iterator[Finding]:
    """Look for keys that are there twice, in the table, the archive, or one in each."""
    for contract in table_contracts().values():
        if contract.indexed or not contract.key or contract.name in BOOKKEEPING:
            continue
        try:
            doubled = int(store.query(doubled_sql(contract))["doubled"][0].as_py())
        except PermanentError as error:
            yield Finding(contract.name, f"can't be read: {error}", "restore the last backup")
            continue
        if doubled:
            yield Finding(
                contract.name,
                f"{doubled} keys ({', '.join(contract.key)}) are there more than once",
                "report it with the collector's version; until then ask for DISTINCT ON the key",
            )


def doubled_sql(contract: TableContract) -> str:
    """Return SQL that counts keys with several rows. Hashes first: rows of equal hashes alone are compared whole."""
    key = ", ".join(f'"{name}"' for name in contract.key)
    return (
        f'WITH suspects AS (SELECT hash({key}) AS key_hash FROM "{contract.name}" GROUP BY 1 HAVING count(*) > 1) '
        f'SELECT count(*) AS doubled FROM (SELECT {key} FROM "{contract.name}" '
        f"WHERE hash({key}) IN (SELECT key_hash FROM suspects) GROUP BY {key} HAVING count(*) > 1)"
    )


def check_archived_rows(store: FileStore) -> Iterator[Finding]:
    """Compare each file's rows with the list, and that they are of its day."""
    for file in store.archive.files:
        clock = time_of(file.table)
        address = store.archive.places[file.place].address_of(file.path).replace("'", "''")
        cursor = store.cursor()
        try:
            count, first, last = cursor.execute(
                f'SELECT count(*), min("{clock}")::DATE, max("{clock}")::DATE FROM read_parquet(\'{address}\')'
            ).fetchall()[0]
        except duckdb.Error as error:
            yield Finding(file.path, f"can't be read: {error}", "restore it from a backup")
            continue
        finally:
            cursor.close()
        if count != file.rows_count or (count and (first, last) != (file.day, file.day)):
            said = f"has {count} rows from {first} to {last} where {file.rows_count} of {file.day} are listed"
            yield Finding(file.path, said, "restore it from a backup")


def check_rollups(store: FileStore) -> Iterator[Finding]:
    """Compare settled rollups with the requests."""
    for view in ROLLUPS:
        try:
            different = store.query(
                f"SELECT DISTINCT hour_at FROM ((SELECT * FROM {view} EXCEPT ALL SELECT * FROM computed_{view}) "
                f"UNION ALL (SELECT * FROM computed_{view} EXCEPT ALL SELECT * FROM {view})) ORDER BY hour_at"
            )["hour_at"].to_pylist()
        except PermanentError as error:
            yield Finding(view, f"can't be computed: {error}", "mend what is said of the archive first")
            continue
        if different:
            yield Finding(
                view,
                f"{len(different)} hours differ from the requests, the first {different[0]}",
                "`fleetmeter store compact --rollups` computes them anew",
            )


def check_spool(folder: Path, progress: Position) -> Iterator[Finding]:
    """Check every record of the spool, and that what the tables have not taken yet is there."""
    segments = segments_in(folder)
    for path in sorted(folder.glob("segment-*.spool")):
        if path not in segments.values():
            yield Finding(path.name, "has the name of no segment", "move it away: nothing reads it")
    for number, path in segments.items():
        content = path.read_bytes()
        end = 0
        damaged: list[int] = []
        for record, start, following in walk_segment(content):
            if record is not None:
                end = following
            elif following < len(content) or number != max(segments):
                damaged.append(start)
        if damaged or (first_record_start(content) == 0 and not MAGIC.startswith(content)):
            fix = "start the collector: it lands what can be read, and keeps the rest in the dead letters"
            yield Finding(path.name, f"is damaged from byte {damaged[0] if damaged else 0} on", fix)
        if number == progress.segment and max(end, first_record_start(content)) < progress.offset_bytes:
            said = f"ends at byte {end}, and the tables have taken {progress.offset_bytes} of it"
            yield Finding(path.name, said, "database and spool are not of one time: restore both from one backup")
    expected = set(range(progress.segment + 1, max(segments, default=0) + 1))
    for number in sorted(expected - segments.keys()):
        fix = "restore it; what was acknowledged in it is not in the tables"
        yield Finding(f"segment {number}", "is missing between its neighbours", fix)


def time_of(table: str) -> str:
    """Return the column by which a table's rows belong to a day."""
    from collector.table_contracts import time_column_of

    return str(time_column_of(table_contracts()[table]))
