"""Lands a stream of rows in chunks, counts what became of every one, and knows how to say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from collector.decode_traces import AHEAD_US
from collector.errors import CollectorError, PermanentError
from collector.importers.formats import TraceFormat
from collector.importers.records import RecordFile
from collector.importers.rows import check_times, complete, derive_ids, to_table

if TYPE_CHECKING:
    from collector.client import Client

CHUNK_ROWS = 20_000
FAULTS_TOLD = 20


class BadRowsError(PermanentError):
    """With --strict: the file has rows that can't be read; nothing was landed."""

    exit_code = 1


@dataclass(slots=True)
class Report:
    """What became of the rows of one import."""

    format: str
    file: str
    rows_read: int = 0
    rows_landed: int = 0
    rows_duplicate: int = 0
    """Rows that were there already."""
    rows_skipped: int = 0
    input_tokens: int = 0
    """Sum over all readable rows, in tokens, whether they were new or not."""
    output_tokens: int = 0
    """As above."""
    first_started_at: datetime | None = None
    last_started_at: datetime | None = None
    faults: list[str] = field(default_factory=list)
    """The first of the rows that were kept out, with their numbers and reasons."""

    def skip(self, fault: str) -> None:
        """Count a row that can't be read."""
        self.rows_skipped += 1
        if len(self.faults) < FAULTS_TOLD:
            self.faults.append(fault)

    def admit(self, row: Mapping[str, Any]) -> None:
        """Count a row that can."""
        self.input_tokens += row.get("input_tokens") or 0
        self.output_tokens += row.get("output_tokens") or 0
        started_at = row["started_at"]
        self.first_started_at = min(started_at, self.first_started_at or started_at)
        self.last_started_at = max(started_at, self.last_started_at or started_at)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What to write into a row where the trace says nothing."""

    team: str | None = None
    app: str | None = None
    model: str | None = None

    def onto(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Fill the row's gaps."""
        return {
            **row,
            "team": row.get("team") or self.team,
            "app": row.get("app") or self.app,
            "model": row.get("model") or self.model,
        }


def check_columns(file: RecordFile, form: TraceFormat) -> None:
    """Refuse a file that lacks a column of its format.

    Raises:
        PermanentError: naming what is missing and what was found.
    """
    if missing := [name for name in form.columns if name not in file.columns]:
        raise PermanentError(
            f"{file.path} is no {form.name} trace: it lacks {', '.join(missing)}; found: "
            f"{', '.join(file.columns) or 'nothing'}. Another format, or `generic` with --map, may fit"
        )


def read_rows(
    file: RecordFile,
    form: TraceFormat,
    stamp: Stamp,
    report: Report,
    progress: Callable[[int], None] = lambda offset: None,
) -> Iterator[dict[str, Any]]:
    """Turn a file's records into rows of `requests`, keeping out and counting those that can't be read.

    Args:
        progress: told how many bytes of `file.length` were read.
    """
    so_far = blake2b(form.name.encode())
    latest = datetime.now(UTC).replace(tzinfo=None) + timedelta(microseconds=AHEAD_US)
    for record in file.records():
        report.rows_read += 1
        progress(record.offset)
        so_far.update(f"\n{dict(record.cells)!r}".encode(errors="backslashreplace"))
        try:
            if record.fault:
                raise ValueError(record.fault)
            if missing := [name for name in form.columns if name not in record.cells]:
                raise ValueError(f"no {', '.join(missing)}")
            row = complete(stamp.onto(form.read(record.cells)))
            check_times(row, latest)
        except (ValueError, OverflowError) as error:
            line = f" (line {record.line})" if record.line else ""
            report.skip(f"row {record.number}{line}: {error}")
            continue
        trace_id, span_id = derive_ids(form.name, so_far.hexdigest())
        report.admit(row)
        yield {"trace_id": trace_id, "span_id": span_id, "source": f"import_{form.name}", "estimated": False, **row}


def check_rows(rows: Iterable[Mapping[str, Any]], report: Report) -> None:
    """Read all rows without landing any.

    Raises:
        BadRowsError: some can't be read.
    """
    for _ in rows:
        pass
    if report.rows_skipped:
        raise BadRowsError(
            f"{report.rows_skipped} of {report.rows_read} rows can't be read; with --strict none was landed"
        )


def land_rows(client: Client, rows: Iterable[Mapping[str, Any]], report: Report, chunk_rows: int = CHUNK_ROWS) -> None:
    """Land rows in chunks and count the new ones.

    Raises:
        CollectorError: as the client's, with how far it came; the same import again takes it up where it broke off.
    """
    for chunk in in_chunks(rows, chunk_rows):
        try:
            new = client.land("requests", to_table(chunk))
        except CollectorError as error:
            raise type(error)(
                f"{error} ({report.rows_landed} rows had landed; the same command lands the rest and none twice)"
            ) from error
        report.rows_landed += new
        report.rows_duplicate += len(chunk) - new


def in_chunks(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Cut a stream into lists of at most `size`."""
    chunk: list[Mapping[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
