"""Where archived days are kept: a folder, or an object store. Files are written once under names of their own.

A file is whole or not there: a folder gets it by a rename after fsync, an object store by one upload. What is in a
place is decided by the table `archive_files` alone; nobody lists a place to find out what is in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from collector.errors import PermanentError, RetryableError

if TYPE_CHECKING:
    import duckdb

CHUNK_BYTES = 4 * 2**20
PARQUET_MARK = b"PAR1"
"""What a Parquet file begins and ends with."""


class Place(Protocol):
    """Where files are."""

    address: str | None
    """As configured; None for the folder beside the database, which may move with it."""
    staging: Path
    """A local folder where files are made; DuckDB may write there."""

    def publish(self, staged: Path, path: str) -> None:
        """Move a staged file to its path, durably, whole or not at all."""

    def remove(self, path: str) -> None:
        """Delete a file; nothing happens where it is not there."""

    def checksum(self, path: str) -> tuple[str, int] | None:
        """Return a file's SHA-256 and size; None where it is not there."""

    def seems_whole(self, path: str) -> bool:
        """Tell, where that is cheap, whether a file is there and ends as Parquet does; true where it is not."""

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file to the local disk."""

    def address_of(self, path: str) -> str:
        """Return the address under which DuckDB reads a file."""


class FolderPlace:
    """A folder of this machine, by default `archive` beside the database."""

    def __init__(self, folder: Path, address: str | None = None) -> None:
        self.address = address
        self.folder = folder.absolute()
        self.staging = self.folder / ".staging"

    def publish(self, staged: Path, path: str) -> None:
        """Rename within the folder; both the file and its directory entry are durable."""
        target = self.folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sync(staged)
            staged.replace(target)
            for folder in {target.parent, *target.relative_to(self.folder).parents}:
                sync(self.folder / folder)
        except OSError as error:
            raise RetryableError(
                f"the archive {self.folder} can't be written ({error}); free or mend the disk"
            ) from error

    def remove(self, path: str) -> None:
        """Delete a file."""
        (self.folder / path).unlink(missing_ok=True)

    def checksum(self, path: str) -> tuple[str, int] | None:
        """Return SHA-256 and size."""
        return checksum_of(self.folder / path)

    def seems_whole(self, path: str) -> bool:
        """Look at the file's last bytes."""
        try:
            with (self.folder / path).open("rb") as file:
                file.seek(-len(PARQUET_MARK), os.SEEK_END)
                return file.read() == PARQUET_MARK
        except OSError:
            return False

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file."""
        shutil.copyfile(self.folder / path, target)

    def address_of(self, path: str) -> str:
        """Return the absolute path."""
        return str(self.folder / path)


class ObjectPlace:
    """A prefix of a bucket: `s3://bucket/prefix` or `gs://…`. pyarrow speaks to it, with the environment's credentials.

    Options stand in the address as pyarrow reads them: `?region=eu-central-1&endpoint_override=minio:9000&scheme=http`.

    Raises:
        PermanentError: the address can't be read.
    """

    def __init__(self, address: str, staging: Path) -> None:
        from pyarrow import fs

        self.address: str | None = address
        self.staging = staging
        try:
            self._filesystem, self._root = fs.FileSystem.from_uri(address)
        except (OSError, ValueError) as error:
            raise PermanentError(f"collector.archive_url {address!r} can't be read: {error}") from error
        self._scheme = address.split(":", 1)[0]
        self.prefix = f"{self._scheme}://{self._root.rstrip('/')}/"

    def publish(self, staged: Path, path: str) -> None:
        """Upload; an object appears when its upload ends."""
        try:
            with staged.open("rb") as source, self._filesystem.open_output_stream(self._path(path)) as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
        except OSError as error:
            raise RetryableError(f"the archive {self.prefix} can't be written: {error}") from error
        staged.unlink()

    def remove(self, path: str) -> None:
        """Delete an object."""
        try:
            self._filesystem.delete_file(self._path(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise RetryableError(f"the archive {self.prefix} can't be written: {error}") from error

    def checksum(self, path: str) -> tuple[str, int] | None:
        """Return SHA-256 and size; the object is read whole."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._filesystem.open_input_stream(self._path(path)) as source:
                while content := source.read(CHUNK_BYTES):
                    digest.update(content)
                    size += len(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RetryableError(f"the archive {self.prefix} can't be read: {error}") from error
        return digest.hexdigest(), size

    def seems_whole(self, path: str) -> bool:
        """Ask nobody: a bucket that can't be reached for a while loses no file."""
        return True

    def fetch(self, path: str, target: Path) -> None:
        """Download an object."""
        with self._filesystem.open_input_stream(self._path(path)) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)

    def address_of(self, path: str) -> str:
        """Return the object's address without options."""
        return self.prefix + path

    def let_in(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB read the bucket through pyarrow: its own extension for that has to be downloaded."""
        connection.register_filesystem(bridge(self._filesystem, self._scheme))

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


def bridge(filesystem: Any, scheme: str) -> Any:
    """Give a pyarrow filesystem the interface that DuckDB asks for."""
    from fsspec.implementations.arrow import ArrowFSWrapper

    class Bridge(ArrowFSWrapper):  # type: ignore[misc]
        protocol = scheme

        @property
        def fsid(self) -> str:
            return scheme

    return Bridge(filesystem)


def place_of(address: str | None, folder: Path) -> Place:
    """Return the place that is configured; a plain path is a folder.

    Args:
        address: a folder or the address of a bucket; None is `folder`.
        folder: `archive` beside the database, where files are made in any case.
    """
    if address is None:
        return FolderPlace(folder)
    if "://" in address:
        return ObjectPlace(address, folder.absolute() / ".staging")
    return FolderPlace(Path(address), address)


def checksum_of(file: Path) -> tuple[str, int] | None:
    """Return SHA-256 and size of a local file; None where it is not there."""
    try:
        with file.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            return digest, source.tell()
    except FileNotFoundError:
        return None


def sync(path: Path) -> None:
    """Make a file's content or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
