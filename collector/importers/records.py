"""The rows of a file as dictionaries: CSV, JSON lines or Parquet, told apart by their content, gzip or zstd or not.

A row that can't be read is handed on as a `Record` with its fault, so that it is counted and told, and takes no other
row down with it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from collector.errors import PermanentError

COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file."""

    number: int
    """1 for the first row of data; a header is not counted."""
    cells: Mapping[str, Any]
    """Values by column; empty where the row could not be read."""
    offset: int
    """How much of the file was read when it came, in the unit of `RecordFile.length`."""
    line: int | None = None
    """Line in a text file where it begins, from 1."""
    fault: str | None = None
    """Why the row could not be read."""


class RecordFile:
    """A file of rows that has been looked at: its kind, its columns and its digest."""

    def __init__(self, path: Path) -> None:
        """Look at the head of the file.

        Raises:
            PermanentError: no such file, an empty one, or a kind that has no rows.
        """
        if path.is_dir():
            raise PermanentError(f"{path} is a folder; name one file in it")
        if not path.is_file():
            raise PermanentError(f"no file at {path}; name an existing CSV, JSON-lines or Parquet file")
        self.path = path
        self.length = path.stat().st_size
        if self.length == 0:
            raise PermanentError(f"{path} is empty: there is nothing to import")
        try:
            self.kind = self._kind()
            self.columns = self._columns()
        except OSError as error:
            raise PermanentError(f"{path} can't be read: {error}") from error

    def digest(self) -> str:
        """Hash the file's bytes (BLAKE2b, 32 bytes, as hex digits)."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()

    def records(self) -> Iterator[Record]:
        """Read the rows in order, lazily."""
        readers = {"parquet": self._parquet_records, "csv": self._csv_records, "json": self._json_records}
        return readers[self.kind]()

    def _kind(self) -> str:
        with self.path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return "parquet"
        with self._text() as (text, _):
            head = text.read(4096).lstrip()
        if head.startswith("[") and head[1:].lstrip()[:1] in ("{", "]"):
            raise PermanentError(f"{self.path} is one JSON array; write one object a line, e.g. jq -c '.[]' FILE")
        if not head:
            raise PermanentError(f"{self.path} is empty: there is nothing to import")
        if "\0" in head:
            raise PermanentError(f"{self.path} is not text and not Parquet; name a CSV, JSON-lines or Parquet file")
        return "json" if head.startswith("{") else "csv"

    def _columns(self) -> tuple[str, ...]:
        if self.kind == "parquet":
            with self._parquet() as file:
                return tuple(file.schema_arrow.names)
        if self.kind == "csv":
            with self._text() as (text, _):
                return tuple(split_header(text)[0])
        return tuple(dict.fromkeys(name for record in self._json_records() for name in record.cells))

    @contextmanager
    def _text(self) -> Iterator[tuple[io.TextIOWrapper, BinaryIO]]:
        """Open the file as text, unpacked; the second is the file itself, which knows how far it was read."""
        with self.path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            packed = next((name for start, name in COMPRESSION.items() if magic.startswith(start)), None)
            stream: Any = pa.CompressedInputStream(file, packed) if packed else file
            try:
                with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text:
                    yield text, file
            except OSError as error:
                raise PermanentError(f"{self.path} can't be unpacked: {error}") from error

    def _csv_records(self) -> Iterator[Record]:
        with self._text() as (text, file):
            columns, delimiter = split_header(text)
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            number = 0
            line = 2
            while (read := read_cells(reader)) is not None:
                first_line, line = line, reader.line_num + 2
                cells, fault = read
                if not cells and not fault:
                    continue
                number += 1
                if not fault and len(cells) != len(columns):
                    fault = f"{len(cells)} cells where the header has {len(columns)}"
                named = {} if fault else dict(zip(columns, cells, strict=True))
                yield Record(number, named, position(file, self.length), first_line, fault)

    def _json_records(self) -> Iterator[Record]:
        number = 0
        with self._text() as (text, file):
            for line, words in enumerate(text, start=1):
                if not words.strip():
                    continue
                number += 1
                try:
                    cells, fault = json.loads(words), None
                except (ValueError, RecursionError) as error:
                    cells, fault = {}, f"not JSON: {error}"
                if not isinstance(cells, dict):
                    cells, fault = {}, "not a JSON object"
                yield Record(number, cells, position(file, self.length), line, fault)

    def _parquet(self) -> Any:
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(self.path)
        except (pa.ArrowInvalid, OSError) as error:
            raise PermanentError(f"{self.path} is a broken Parquet file: {error}") from error

    def _parquet_records(self) -> Iterator[Record]:
        number = 0
        with self._parquet() as file:
            rows = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=10_000):
                for cells in batch.to_pylist():
                    number += 1
                    yield Record(number, cells, self.length * number // rows)


def split_header(text: io.TextIOWrapper) -> tuple[list[str], str]:
    """Read the first line of a CSV: the names in it, and the delimiter that it has most of."""
    head = text.readline()
    delimiter = max(DELIMITERS, key=head.count)
    return [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])], delimiter


def read_cells(reader: Iterator[list[str]]) -> tuple[list[str], str | None] | None:
    """Read the next line of a CSV: its cells or its fault; None at the end."""
    try:
        cells = next(reader, None)
    except csv.Error as error:
        unclosed = str(error) == "unexpected end of data"
        return [], f"not CSV: {'a quote is not closed: the rest of the file is in it' if unclosed else error}"
    return None if cells is None else (cells, None)


def position(file: BinaryIO, otherwise: int) -> int:
    """Say how far a file was read; at its end the text layer may have closed it already."""
    return otherwise if file.closed else file.tell()
