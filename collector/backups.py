"""A copy of everything while the collector runs, and its way back.

Between two checkpoints DuckDB changes no block that its last checkpoint refers to: new rows go to the write-ahead log
and to blocks that were free. So a backup checkpoints, takes log and spool in a moment without landings (milliseconds,
as the log was just emptied), and then copies the file while landing goes on; only checkpoints wait. The spool holds
what is acknowledged and not landed. Files of the archive never change; those in a bucket stay there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Protocol, TypedDict

import duckdb

from collector.archive import Archive
from collector.archive_places import FolderPlace, checksum_of, sync
from collector.archive_views import RESTORE
from collector.config import CollectorConfig
from collector.errors import PermanentError, RetryableError
from collector.spool import segments_in

log = logging.getLogger(__name__)

LIST = "backup.json"
"""The list of files with their checksums; written last, so a folder without it is no backup."""
DATABASE = "fleetmeter.duckdb"


class Listed(TypedDict):
    """One file of a backup."""

    sha256: str
    """Hexadecimal."""
    size_bytes: int


RESTORING = "restoring"
"""Stands in a data folder while it is restored, so that what a restore that was broken off left there is its own."""


def back_up(
    connection: duckdb.DuckDBPyConnection, database: Path, archive: Archive, writing: threading.Lock, folder: Path
) -> int:
    """Write a backup; the caller keeps checkpoints and the archive from moving meanwhile.

    Args:
        connection: the database's.
        database: its file.
        archive: its archive.
        writing: held by whoever changes the tables.
        folder: where; must not be there yet.

    Returns:
        Bytes written.

    Raises:
        PermanentError: the folder is there already.
        RetryableError: the disk is full, or a transaction kept the log from being emptied.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise PermanentError(f"{folder} is there already; name a new folder") from error
    except OSError as error:
        raise RetryableError(f"{folder} can't be made: {error}; name another folder, or mend the disk") from error
    try:
        with disk_errors(folder):
            checkpointed(connection)
            with writing:
                copy_if_there(database.with_name(database.name + ".wal"), folder / f"{DATABASE}.wal")
                spooled = held_spool(database.parent / "spool", folder)
            shutil.copyfile(database, folder / DATABASE)
            for held, target in spooled:
                if held != target:
                    shutil.copyfile(held, target)
                    held.unlink()
            copy_archive(archive, folder)
            return write_list(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class BackedUp(Protocol):
    """What can be backed up."""

    def back_up(self, folder: Path) -> int:
        """Write a consistent copy into a new folder; return its bytes."""


def new_backup(store: BackedUp, config: CollectorConfig, folder: Path | None = None) -> tuple[Path, int]:
    """Back up into a folder, by default a new one named by the time; return it and its bytes."""
    place = config.backup_dir or config.data_dir / "backups"
    target = folder or place / f"backup-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    size_bytes = store.back_up(target)
    log.info("backed_up", extra={"folder": str(target), "size_bytes": size_bytes})
    return target, size_bytes


def checkpointed(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty the log into the file; where a transaction needs it, the log is copied as it is."""
    cursor = connection.cursor()
    try:
        cursor.execute("CHECKPOINT").fetchall()
    except duckdb.TransactionException as error:
        log.info("backup_with_log", extra={"error": str(error)})
    except duckdb.Error as error:
        raise RetryableError(f"no checkpoint before the backup: {error}") from error
    finally:
        cursor.close()


def copy_if_there(source: Path, target: Path) -> None:
    """Copy a file, if there is one."""
    if source.is_file():
        shutil.copyfile(source, target)


def held_spool(spool: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Hold every segment of the spool by a second name, for landing may delete it; copy it where that can't be.

    Returns:
        The names that hold them, and where they are to be copied.
    """
    held = []
    for left in spool.glob(".backup-*"):  # of a backup that was broken off
        left.unlink(missing_ok=True)
    target_folder = folder / "spool"
    target_folder.mkdir()
    for segment in segments_in(spool).values():
        target = target_folder / segment.name
        name = spool / f".backup-{os.getpid()}-{segment.name}"
        try:
            os.link(segment, name)
        except OSError:
            copy_if_there(segment, target)
            name = target
        held.append((name, target))
    return held


def copy_archive(archive: Archive, folder: Path) -> None:
    """Copy the live files of the folder beside the database; links where the disk is the same."""
    for file in archive.files:
        place = archive.places[file.place]
        if file.place or not isinstance(place, FolderPlace):
            continue
        target = folder / "archive" / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = place.folder / file.path
        if not source.is_file():
            raise RetryableError(f"archived file {source} is missing: {RESTORE}")
        try:
            os.link(source, target)
        except OSError:
            place.fetch(file.path, target)


def write_list(folder: Path) -> int:
    """Write the list of files, durably and last; return their bytes."""
    files: dict[str, Listed] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = checksum_of(file)
        assert found is not None
        files[str(file.relative_to(folder))] = Listed(sha256=found[0], size_bytes=found[1])
        sync(file)
    content = {
        "fleetmeter": metadata.version("fleetmeter"),
        "duckdb": duckdb.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    draft = folder / f"{LIST}.part"
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sync(draft)
    draft.replace(folder / LIST)
    for changed in {folder, folder.parent, *(path for path in folder.rglob("*") if path.is_dir())}:
        sync(changed)
    return sum(file["size_bytes"] for file in files.values())


def read_list(backup: Path) -> dict[str, Listed]:
    """Read which files a backup has, and check each.

    Raises:
        PermanentError: it is no backup, or a file is not as it was written.
    """
    try:
        files = {
            str(name): Listed(sha256=str(stated["sha256"]), size_bytes=int(stated["size_bytes"]))
            for name, stated in json.loads((backup / LIST).read_bytes())["files"].items()
        }
    except FileNotFoundError as error:
        raise PermanentError(f"{backup} is no backup, or one that was broken off: it has no {LIST}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PermanentError(f"{backup / LIST} can't be read: {error}") from error
    if DATABASE not in files:
        raise PermanentError(f"{backup} has no {DATABASE}; take another backup")
    for name, stated in files.items():
        if not (backup / name).resolve().is_relative_to(backup.resolve()):
            raise PermanentError(f"{backup / LIST} names {name}, which is outside of it; take another backup")
        found = checksum_of(backup / name)
        if found is None or found[0] != stated["sha256"]:
            wrong = "is missing" if found is None else "is not what was written"
            raise PermanentError(f"{backup / name} {wrong}; take another backup")
    return files


def restore(backup: Path, data_dir: Path) -> int:
    """Put a backup into a data folder; return its bytes.

    The database comes last and by a rename: broken off, the folder has none, and restoring starts over.

    Raises:
        PermanentError: the backup is not whole, or the folder has a database.
        RetryableError: the disk is full.
    """
    files = read_list(backup)
    begun = data_dir / RESTORING
    taken = (DATABASE,) if begun.exists() else (DATABASE, f"{DATABASE}.wal", "archive", "spool")
    if there := [name for name in taken if holds(data_dir / name)]:
        raise PermanentError(
            f"{data_dir} has {', '.join(there)} already; restore into a new folder, or move all of it away first"
        )
    with disk_errors(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        begun.touch()
        for name in sorted(files, key=lambda name: name == DATABASE):
            target = data_dir / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(target.name + ".part")
            shutil.copyfile(backup / name, draft)
            sync(draft)
            if name == DATABASE:
                begun.unlink()
            draft.replace(target)
            sync(target.parent)
    return sum(file["size_bytes"] for file in files.values())


def holds(path: Path) -> bool:
    """Tell whether a path is a file, or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say what the disk says."""
    try:
        yield
    except OSError as error:
        raise RetryableError(f"{folder} can't be written: {error}; free or mend the disk, then try again") from error
