"""The read API's door: one SELECT, inside a read-only transaction, with limits of time, rows and bytes.

Read-only by construction, in layers: files, network, extensions and settings are locked for the whole database
(`collector.duckdb_files.settings`); the transaction is READ ONLY, so a data-modifying CTE fails; only one statement of
type SELECT is let in; and table functions are an allow-list, because some act rather than read (`checkpoint()`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import duckdb
import pyarrow as pa

from collector import few_rows, team_view
from collector.deadlines import Deadlines
from collector.duckdb_files import parsed
from collector.errors import PermanentError, RetryableError
from collector.rollups import narrow
from collector.small_answers import SMALL_BYTES, SMALL_ROWS, SmallForm, small_form, tree_of
from collector.statement_checks import TABLE_FUNCTIONS, check_statement

ROLLUPS = re.compile(r"\brequest_(hours|sketches|arrivals)\b", re.IGNORECASE)
"""Views that are to be told what is stale: collector/rollups.py."""
COMPUTED = re.compile(r"\bcomputed_request_", re.IGNORECASE)
"""What compares them with the requests asks for all of those."""

LEFT = "the question was taken back"
STOPPING = "the collector is stopping; ask again in a few seconds"
QUERY_ERRORS = (duckdb.Error, pa.ArrowException, OSError, MemoryError, TypeError, ValueError, RuntimeError)
"""What a query may end with. An error after its first rows comes through Arrow's stream, which makes it an OSError."""
OUT_OF_MEMORY = "Out of Memory Error"
"""So begins the message of one that was out of memory by then."""
ROWS_AT_ONCE = 1_024
"""Fetched of an answer between two looks at its limits: long texts are no answer too large before they are there."""
UNHELD_TYPES = frozenset({"TIME WITH TIME ZONE", "UHUGEINT"})
"""Types whose values are others once they are Arrow's."""
REMEMBERED_LENGTH, REMEMBERED_IN_ALL = 8_192, 262_144
"""Statements of at most so many characters are remembered as let in, and so many characters of them: one that is parsed
takes hundreds of times the memory of its text."""


@dataclass(slots=True)
class Checked:
    """A statement that was let in."""

    statement: duckdb.Statement
    asks_rollups: bool
    """The views of rollups are to be told what is stale."""
    small: SmallForm | None = None
    """How it is asked while its answers are small; None: as a stream."""
    small_known: bool = False
    """That has been looked for."""
    was_small: bool = False
    """Its last answer was."""
    was_few: bool = False
    """Its last answer was a few rows of plain types."""
    had_odd_values: bool = False
    """A few rows of it could not be fetched as Python's values."""


@dataclass(slots=True)
class Asker:
    """Whoever waits for an answer, and may leave."""

    gone: bool = False
    """True once nobody waits any more."""
    stop: Callable[[], None] | None = None
    """Stops the query while it runs."""

    def leave(self) -> None:
        """Take the question back; call it again until the query has ended, for one about to start can't be stopped."""
        self.gone = True
        if (stop := self.stop) is not None:
            with suppress(duckdb.Error):  # it has just ended by itself
                stop()


class SqlDoor:
    """Run one SELECT from outside.

    Args:
        new_cursor: gives a connection of its own to the database.
        timeout_seconds: a query is interrupted after it; None: never.
        rows_limit: a larger answer is refused; None: none is.
        bytes_limit: the same for bytes of Arrow.
    """

    def __init__(
        self,
        new_cursor: Callable[[], duckdb.DuckDBPyConnection],
        *,
        timeout_seconds: float | None = None,
        rows_limit: int | None = None,
        bytes_limit: int | None = None,
    ) -> None:
        self._new_cursor = new_cursor
        self._timeout_seconds = timeout_seconds
        self._deadlines = None if timeout_seconds is None else Deadlines(timeout_seconds)
        self._rows_limit = rows_limit
        self._bytes_limit = bytes_limit
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._checked: dict[str, Checked] = {}
        """Statements that were let in; boards ask the same ones again and again."""
        self._closed = False

    def close(self) -> None:
        """Stop every running query, and let in no more."""
        self._closed = True
        for cursor in list(self._running):
            with suppress(duckdb.Error):  # it has just ended by itself
                cursor.interrupt()
        if self._deadlines is not None:
            self._deadlines.close()

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        team: str | None = None,
        asker: Asker | None = None,
    ) -> pa.Table:
        """Return the rows of one SELECT with `$name` parameters; with a team, out of that team's rows alone.

        Args:
            sql: one statement.
            parameters: values by name.
            team: whose rows may be seen; None: all.
            asker: lets whoever asks take the question back.

        Raises:
            PermanentError: the SQL is wrong, is no single SELECT, or its answer is too large.
            RetryableError: it ran into the time limit, or the database is out of memory.
        """
        if self._closed:
            raise RetryableError(STOPPING)
        if asker is not None and asker.gone:
            raise RetryableError(LEFT)
        cursor = self._new_cursor()
        self._running.add(cursor)
        try:
            if self._closed:  # meanwhile, and this cursor was not among those that were stopped
                raise RetryableError(STOPPING)
            if asker is not None:
                asker.stop = cursor.interrupt
            with self._time_limit(cursor) as late:
                return self._run(cursor, sql, dict(parameters or {}), team, late)
        except PermanentError as error:
            if asker is not None and asker.gone:
                raise RetryableError(LEFT) from error
            raise
        finally:
            if asker is not None:
                asker.stop = None
            self._running.discard(cursor)
            cursor.close()

    def _check(self, cursor: duckdb.DuckDBPyConnection, sql: str, team: str | None) -> Checked:
        """Let a statement in, cut to the rows of a team; remember it where there is none."""
        if team is None and (known := self._checked.get(sql)) is not None:
            return known
        statement, tree = check_statement(cursor, sql, TABLE_FUNCTIONS if team is None else team_view.TABLE_FUNCTIONS)
        if team is not None:
            cut = team_view.narrowed(cursor, team, tree)
            return Checked(cursor.extract_statements(cut)[0], asks_rollups(cut))
        checked = Checked(statement, asks_rollups(sql))
        if len(sql) <= REMEMBERED_LENGTH:
            if sum(map(len, self._checked)) + len(sql) > REMEMBERED_IN_ALL:
                self._checked.clear()
            self._checked[sql] = checked
        return checked

    def _run(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        parameters: dict[str, Any],
        team: str | None,
        late: threading.Event,
    ) -> pa.Table:
        try:
            checked = self._check(cursor, sql, team)
            cursor.execute(parsed("BEGIN TRANSACTION READ ONLY")).fetchall()
            if checked.asks_rollups:
                narrow(cursor)
            rows = self._small(cursor, checked, parameters) if checked.was_small else None
            if rows is None:
                rows = self._fetched(cursor.sql(checked.statement, params=parameters))
            checked.was_small = rows.num_rows <= SMALL_ROWS and rows.nbytes <= SMALL_BYTES
            checked.was_few = few_rows.is_few(rows)
            return rows
        except QUERY_ERRORS as error:
            raise self._explained(error, late) from error

    def _small(
        self, cursor: duckdb.DuckDBPyConnection, checked: Checked, parameters: dict[str, Any]
    ) -> pa.Table | None:
        """Fetch all rows at once; None where they may be many."""
        if not checked.small_known:
            checked.small = small_form(cursor, checked.statement, tree_of(cursor, checked.statement.query))
            checked.small_known = True
        if checked.small is None or not checked.small.is_small(parameters):
            return None
        answer = cursor.execute(checked.small.statement, parameters)
        first: list[pa.RecordBatch] = []
        if checked.was_few and not checked.had_odd_values and few_rows.are_plain(answer):
            try:
                batch, is_all = few_rows.fetched(answer)
            except few_rows.LongTextsError:
                answer.abort()
                return None
            except few_rows.OddValueError:
                checked.had_odd_values = True
                answer.abort()
                answer = cursor.execute(checked.small.statement, parameters)
            else:
                if is_all:
                    return pa.Table.from_batches(self._within_limits([batch]), batch.schema)
                first = [batch]
        rows = self._fetched(answer, first)
        return rows if rows.num_rows <= SMALL_ROWS else None

    def _fetched(
        self, answer: duckdb.DuckDBPyRelation | duckdb.DuckDBPyConnection, first: Sequence[pa.RecordBatch] = ()
    ) -> pa.Table:
        """Fetch what is left of an answer, behind what has been fetched of it."""
        described = answer.description or ()
        if unheld := UNHELD_TYPES.intersection(str(column[1]) for column in described):
            raise PermanentError(f"{', '.join(unheld)} is no type of Arrow's: cast it, x::VARCHAR")
        reader = answer.to_arrow_reader(ROWS_AT_ONCE)
        return pa.Table.from_batches(self._within_limits(chain(first, reader)), reader.schema)

    def _within_limits(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = size = 0
        for batch in batches:
            rows += batch.num_rows
            size += batch.nbytes
            if self._rows_limit is not None and rows > self._rows_limit:
                raise PermanentError(f"the answer has over {self._rows_limit} rows; aggregate, or page with LIMIT")
            if self._bytes_limit is not None and size > self._bytes_limit:
                raise PermanentError(f"the answer has over {self._bytes_limit} bytes; select fewer columns or rows")
            yield batch

    def _explained(self, error: Exception, late: threading.Event) -> PermanentError | RetryableError:
        if self._closed:
            return RetryableError("the query was stopped because the collector is stopping")
        if late.is_set():
            return RetryableError(
                f"the query ran over {self._timeout_seconds:g} s and was stopped; narrow its time range"
            )
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError) or str(error).startswith(OUT_OF_MEMORY):
            return RetryableError(f"the query needs more memory than the collector gives: {error}")
        if isinstance(error, RecursionError):
            return PermanentError("the statement is nested too deep; write it flatter, or with WITH")
        return PermanentError(str(error))

    @contextmanager
    def _time_limit(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[threading.Event]:
        late = threading.Event()
        if self._deadlines is None:
            yield late
            return

        def stop() -> None:
            late.set()
            with suppress(duckdb.Error):  # it has just ended by itself
                cursor.interrupt()

        with self._deadlines.limit(stop):
            yield late


def asks_rollups(sql: str) -> bool:
    """Say whether a statement reads the views of rollups, and not what compares them with the requests."""
    return ROLLUPS.search(sql) is not None and COMPUTED.search(sql) is None
