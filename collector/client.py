"""How every other part reads and writes the tables, whether through a running collector or a file.

DuckDB lets one process at a time open a file, so a client of a running collector goes over HTTP: SQL in, an Arrow
stream out. Offline work and tests open the file. Callers see one `Client` and need not know which.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa

from collector.client_connections import KeptConnections, basic_auth_of, split_address, without_user
from collector.errors import PermanentError, RetryableError
from collector.sql_values import parameter_to_json


class Client(Protocol):
    """Read-only SQL, and idempotent landing of rows."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT with `$name` parameters.

        Raises:
            PermanentError: the SQL is wrong or not read-only.
            RetryableError: the collector is unreachable, busy or out of time.
        """

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows by the table's primary key; rows already there are left alone. Columns left out become null.

        Returns:
            How many of the rows were new.

        Raises:
            PermanentError: the table or a column is unknown, or a value does not fit.
            RetryableError: the collector is unreachable or full.
        """

    def close(self) -> None:
        """Release the file or the connection."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: DuckDB makes an error of the query of it, of one class or another."""
    try:
        yield
    except (RuntimeError, PermanentError) as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


class FileClient:
    """A client that opens the DuckDB file itself."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        from collector.file_store import FileStore

        if not write and not path.is_file():
            raise PermanentError(
                f"no database at {path}; name an existing DuckDB file with --db, or a collector with --url"
            )
        self._store = FileStore(path, read_only=not write)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT; see `Client.query`."""
        with interruptible():
            return self._store.query(sql, parameters)

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows; see `Client.land`. Of their attributes is kept what a collector keeps by default."""
        from collector.redaction import AttributeRules
        from collector.table_contracts import conform

        kept, _ = AttributeRules().applied(conform(table, rows))
        with interruptible():
            return self._store.land({table: kept})[table]

    def close(self) -> None:
        """Close the file."""
        self._store.close()


ARROW = "application/vnd.apache.arrow.stream"
AT_ONCE_SECONDS = 1.0
URL_HINT = "name a collector as --url http://HOST:PORT, or a file with --db"
BODY_BYTES = 16 * 2**20
"""Rows go to a collector in bodies of about this size: larger ones are no faster, and it has a limit."""


def rows_per_body(rows: pa.Table) -> int:
    """Return how many of the rows make a body."""
    bodies_count = max(1, -(-rows.nbytes // BODY_BYTES))
    return max(1, int(-(-rows.num_rows // bodies_count)))


def printable(text: object) -> str:
    """Return what another server said, without what drives a terminal."""
    return "".join(one if one.isprintable() or one == "\n" else " " for one in str(text)).strip()


class HttpClient:
    """A client of a running collector."""

    def __init__(self, url: str, *, token: str | None = None, timeout_seconds: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise PermanentError(f"{without_user(url)!r} is no address; {URL_HINT}")
        self.url = without_user(url.rstrip("/"))  # messages tell it
        if token and not (token.isascii() and token.isprintable()):
            raise PermanentError(
                "the token has characters that a header can't carry; commands take it from FLEETMETER_TOKEN"
            )
        try:
            of_address = basic_auth_of(split_address(url))
            authorization = f"Bearer {token}" if token else of_address
            self._connections = KeptConnections(self.url, timeout_seconds)
        except ValueError as error:
            raise PermanentError(f"{printable(self.url)} is no address ({error}); {URL_HINT}") from error
        self._headers = {"Authorization": authorization} if authorization else {}

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT; see `Client.query`."""
        body = {
            "sql": sql,
            "parameters": {name: parameter_to_json(value) for name, value in (parameters or {}).items()},
        }
        content = self._post("/api/v1/sql", json.dumps(body).encode(), "application/json", accept=ARROW, again=True)
        with self._answers_of_a_collector():
            return pa.ipc.open_stream(content).read_all()

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows; see `Client.land`. The answer comes when they are landed; many rows go in several bodies."""
        chunk = rows_per_body(rows)
        return sum(self._land_body(table, rows.slice(start, chunk)) for start in range(0, max(1, rows.num_rows), chunk))

    def back_up(self) -> dict[str, Any]:
        """Let the collector make a backup; return its `folder`, on the collector's machine, and `size_bytes`.

        Raises:
            PermanentError: the token may not.
            RetryableError: no collector answers, or its disk is full.
        """
        content = self._post("/api/v1/backups", b"", "application/json")
        with self._answers_of_a_collector():
            answer = json.loads(content)
            return {"folder": str(answer["folder"]), "size_bytes": int(answer["size_bytes"])}

    def _land_body(self, table: str, rows: pa.Table) -> int:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        content = self._post(f"/api/v1/tables/{quote(table, safe='')}", sink.getvalue().to_pybytes(), ARROW)
        with self._answers_of_a_collector():
            return int(json.loads(content)["landed"])

    @contextmanager
    def _answers_of_a_collector(self) -> Iterator[None]:
        """Say so where something else answers: a proxy's page, another server."""
        try:
            yield
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise PermanentError(f"what answers at {self.url} is no collector; {URL_HINT}") from error

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _post(
        self, path: str, content: bytes, content_type: str, accept: str = "application/json", *, again: bool = False
    ) -> bytes:
        """Post, and return the body of a good answer; `again`: once more, where the connection broke off at once."""
        headers = {"Content-Type": content_type, "Accept": accept, **self._headers}
        started = time.monotonic()
        try:
            reply = self._connections.post(path, content, headers)
        except (http.client.InvalidURL, UnicodeError) as error:
            raise PermanentError(f"{self.url} is no address ({error}); {URL_HINT}") from error
        except (http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
            if again and time.monotonic() - started < AT_ONCE_SECONDS:  # it was kept, and closed at the other end
                return self._post(path, content, content_type, accept)
            raise RetryableError(
                f"the collector at {self.url} broke off the connection ({printable(error)}); ask again"
            ) from error
        except OSError as error:
            over = " over the environment's proxy" if self._connections.over_proxy else ""
            raise RetryableError(
                f"no collector answers at {self.url}{over} ({printable(error)}); start one with `fleetmeter collect`, "
                "or name another with --url, or a file with --db"
            ) from error
        if reply.status == 200:
            return reply.body
        try:
            message = str(json.loads(reply.body)["error"])
        except (ValueError, KeyError, TypeError, RecursionError):
            message = reply.body.decode("utf-8", "replace")[:500]
        message = printable(message)
        kind = RetryableError if reply.status in (408, 429, 502, 503, 504) else PermanentError
        hint = "; commands take theirs from FLEETMETER_TOKEN" if reply.status == 401 else ""
        raise kind(f"{self.url}{path} answered {reply.status}: {message}{hint}")
