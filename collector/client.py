"""How every other part reads and writes the tables, whether through a running collector or a file.

DuckDB lets one process at a time open a file, so a client of a running collector goes over HTTP: SQL in, an Arrow
stream out. Offline work and tests open the file. Callers see one `Client` and need not know which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import pyarrow as pa
import urllib3

from collector.client_tls import client_context
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
        from collector.store import FileStore

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
        """Land rows; see `Client.land`."""
        with interruptible():
            return self._store.land({table: rows})[table]

    def close(self) -> None:
        """Close the file."""
        self._store.close()


ARROW = "application/vnd.apache.arrow.stream"
CONNECTIONS = 64
"""So many are kept for the next question; more are opened where more ask at once."""
URL_HINT = "name a collector as --url http://HOST:PORT, or a file with --db"
BODY_BYTES = 16 * 2**20
"""Rows go to a collector in bodies of about this size: larger ones are no faster, and it has a limit."""


def rows_per_body(rows: pa.Table) -> int:
    """Return how many of the rows make a body."""
    bodies_count = max(1, -(-rows.nbytes // BODY_BYTES))
    return max(1, int(-(-rows.num_rows // bodies_count)))


def pool_of(url: str, timeout_seconds: float) -> urllib3.PoolManager:
    """Return the connections to one address, over the proxy that the environment names for it, if any.

    By urllib3: httpx takes twice its CPU time for a short answer, and a board asks for dozens.
    """
    settings: dict[str, Any] = {"timeout": timeout_seconds, "retries": False, "maxsize": CONNECTIONS}
    if url.startswith("https://"):
        settings["ssl_context"] = client_context()
    host = urlsplit(url).netloc
    proxy = None if proxy_bypass(host) else getproxies().get(urlsplit(url).scheme)
    return urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)


class HttpClient:
    """A client of a running collector."""

    def __init__(self, url: str, *, token: str | None = None, timeout_seconds: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise PermanentError(f"{url!r} is no address; {URL_HINT}")
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = pool_of(self.url, timeout_seconds)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT; see `Client.query`."""
        body = {
            "sql": sql,
            "parameters": {name: parameter_to_json(value) for name, value in (parameters or {}).items()},
        }
        content = self._post("/api/v1/sql", json.dumps(body).encode(), "application/json", accept=ARROW)
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
        answer: dict[str, Any] = json.loads(self._post("/api/v1/backups", b"", "application/json"))
        return answer

    def _land_body(self, table: str, rows: pa.Table) -> int:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        answer = self._post(f"/api/v1/tables/{table}", sink.getvalue().to_pybytes(), ARROW)
        return int(json.loads(answer)["landed"])

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def _post(self, path: str, content: bytes, content_type: str, accept: str = "application/json") -> bytes:
        headers = {"Content-Type": content_type, "Accept": accept, **self._headers}
        try:
            response = self._pool.urlopen("POST", self.url + path, body=content, headers=headers, redirect=False)
        except urllib3.exceptions.LocationValueError as error:
            raise PermanentError(f"{self.url} is no address ({error}); {URL_HINT}") from error
        except urllib3.exceptions.HTTPError as error:
            why = error.__cause__ or error
            raise RetryableError(
                f"no collector answers at {self.url} ({why}); start one with `fleetmeter collect`, "
                "or name another with --url, or a file with --db"
            ) from error
        if response.status == 200:
            return response.data
        try:
            message = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            message = response.data.decode("utf-8", "replace")[:500]
        kind = RetryableError if response.status in (408, 429, 502, 503, 504) else PermanentError
        hint = "; commands take theirs from FLEETMETER_TOKEN" if response.status == 401 else ""
        raise kind(f"{self.url}{path} answered {response.status}: {message}{hint}")
