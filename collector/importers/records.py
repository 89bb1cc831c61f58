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
    """Line in a text file, from 1."""
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
        self.kind = self._kind()
        self.columns = self._columns()

    def digest(self) -> str:
        """Hash the file's bytes (BLAKE2b, 32 bytes, as hex digits)."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()

    def records(self) -> Iterator[Record]:
        """Read the rows in order, lazily."""
        if self.kind == "parquet":
            yield from self._parquet_records()
            return
        with self.path.open("rb") as file:
            yield from (self._csv_records(file) if self.kind == "csv" else self._json_records(file))

    def _kind(self) -> str:
        with self.path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return "parquet"
            file.seek(0)
            head = self._text(file).read(4096).lstrip()
        if head.startswith("[") and head[1:].lstrip()[:1] in ("{", "]"):
            raise PermanentError(f"{self.path} is one JSON array; write one object a line, e.g. jq -c '.[]' FILE")
        if not head:
            raise PermanentError(f"{self.path} is empty: there is nothing to import")
        if "\0" in head:
            raise PermanentError(f"{self.path} is not text and not Parquet; name a CSV, JSON-lines or Parquet file")
        return "json" if head.startswith("{") else "csv"

    def _columns(self) -> tuple[str, ...]:
        if self.kind == "parquet":
            return tuple(self._parquet().schema_arrow.names)
        with self.path.open("rb") as file:
            if self.kind == "csv":
                return tuple(split_header(self._text(file))[0])
            return tuple(next((record.cells for record in self._json_records(file) if not record.fault), {}))

    def _text(self, file: BinaryIO) -> io.TextIOWrapper:
        magic = file.read(4)
        file.seek(0)
        packed = next((name for start, name in COMPRESSION.items() if magic.startswith(start)), None)
        stream: Any = pa.CompressedInputStream(file, packed) if packed else file
        try:
            return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        except OSError as error:
            raise PermanentError(f"{self.path} can't be unpacked: {error}") from error

    def _csv_records(self, file: BinaryIO) -> Iterator[Record]:
        text = self._text(file)
        columns, delimiter = split_header(text)
        number = 0
        reader = csv.reader(text, delimiter=delimiter)
        while True:
            try:
                cells = next(reader, None)
                fault = None
            except csv.Error as error:
                cells, fault = [""], str(error)
            if cells is None:
                return
            if not cells:
                continue
            number += 1
            if fault is None and len(cells) != len(columns):
                fault = f"{len(cells)} cells where the header has {len(columns)}"
            named = {} if fault else dict(zip(columns, cells, strict=True))
            yield Record(number, named, file.tell(), reader.line_num + 1, fault)

    def _json_records(self, file: BinaryIO) -> Iterator[Record]:
        number = 0
        for line, words in enumerate(self._text(file), start=1):
            if not words.strip():
                continue
            number += 1
            try:
                cells, fault = json.loads(words), None
            except ValueError as error:
                cells, fault = {}, f"not JSON: {error}"
            if not isinstance(cells, dict):
                cells, fault = {}, "not a JSON object"
            yield Record(number, cells, file.tell(), line, fault)

    def _parquet(self) -> Any:
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(self.path)
        except (pa.ArrowInvalid, OSError) as error:
            raise PermanentError(f"{self.path} is a broken Parquet file: {error}") from error

    def _parquet_records(self) -> Iterator[Record]:
        file, number = self._parquet(), 0
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
