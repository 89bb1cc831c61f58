"""Opening a DuckDB file, and locking it in: no files, network, extensions or settings for any statement after."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import duckdb

from collector.archive_places import FolderPlace, ObjectPlace, Place
from collector.archive_views import quoted
from collector.errors import PermanentError, RetryableError


def settings(threads: int | None, memory_limit_bytes: int | None) -> dict[str, str]:
    """Return DuckDB's settings.

    The store itself checkpoints: DuckDB's own, at a log of 16 MB, stall inserts, and would come in a backup's way.
    """
    chosen = {
        "checkpoint_threshold": "1TB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if threads is not None:
        chosen["threads"] = str(threads)
    if memory_limit_bytes is not None:
        chosen["memory_limit"] = f"{memory_limit_bytes // 2**20}MiB"
    return chosen


def open_file(path: Path | str, read_only: bool, config: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """Open the file and say clearly why it can't be."""
    try:
        if not read_only:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(str(path), read_only=read_only, config=config)
    except OSError as error:
        raise PermanentError(f"the folder of {path} can't be made: {error}") from error
    except duckdb.Error as error:
        if "could not set lock" in str(error).lower():
            raise RetryableError(
                f"{path} is held by another process (a running collector?); ask that one with --url ({error})"
            ) from error
        raise PermanentError(f"{path} is not a DuckDB file that this version can open: {error}") from error


@cache
def parsed(sql: str) -> duckdb.Statement:
    """Return one of our own statements parsed, for any connection: a short one is parsed for as long as it runs."""
    with duckdb.connect() as connection:
        (statement,) = connection.extract_statements(sql)
    return statement


def lock_in(connection: duckdb.DuckDBPyConnection, places: Iterable[Place]) -> None:
    """Close every way out but the archive's, and lock the settings.

    Another store of this process may have done it, for one file has one instance of DuckDB.
    """
    if connection.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
        return
    folders: list[str] = []
    for place in places:
        folders.append(f"{place.staging}/")
        if isinstance(place, FolderPlace):
            folders.append(f"{place.folder}/")
        elif isinstance(place, ObjectPlace):
            place.let_in(connection)
            folders.append(place.prefix)
    connection.execute(f"SET allowed_directories = [{', '.join(map(quoted, sorted(set(folders))))}]").fetchall()
    connection.execute("SET enable_external_access = false").fetchall()
    connection.execute("SET lock_configuration = true").fetchall()
