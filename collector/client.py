"""How every other part reads and writes the tables, whether through a running collector or a file.

DuckDB lets one process at a time open a file, so a client of a running collector goes over HTTP: SQL in, an Arrow stream
out. Offline work and tests open the file. Callers see one `Client` and need not know which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from collector.errors import PermanentError, RetryableError


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
        return self._store.query(sql, parameters)

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows; see `Client.land`."""
        return self._store.land({table: rows})[table]

    def close(self) -> None:
        """Close the file."""
        self._store.close()


class HttpClient:
    """A client of a running collector."""

    def __init__(self, url: str, *, token: str | None = None, timeout_seconds: float = 120.0) -> None:
        import httpx

        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT; see `Client.query`."""
        from collector.sql_values import parameter_to_json

        body = {
            "sql": sql,
            "parameters": {name: parameter_to_json(value) for name, value in (parameters or {}).items()},
        }
        content = self._post("/api/v1/sql", json=body, headers={"Accept": "application/vnd.apache.arrow.stream"})
        return pa.ipc.open_stream(content).read_all()

    def land(self, table: str, rows: pa.Table) -> int:
        """Land rows; see `Client.land`. The answer comes when they are durable and landed."""
        import json

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        answer = self._post(
            f"/api/v1/tables/{table}",
            content=sink.getvalue().to_pybytes(),
            headers={"Content-Type": "application/vnd.apache.arrow.stream"},
        )
        return int(json.loads(answer)["landed"])

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, path: str, **request: Any) -> bytes:
        import httpx

        if "json" in request:
            import json

            request["content"] = json.dumps(request.pop("json"))
            request["headers"] = {**request["headers"], "Content-Type": "application/json"}
        try:
            response = self._http.post(path, **request)
        except httpx.HTTPError as error:
            raise RetryableError(
                f"no collector answers at {self.url} ({error}); start one with `fleetmeter collect`, "
                "or name another with --url, or a file with --db"
            ) from error
        if response.status_code == 200:
            return response.content
        try:
            message = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            message = response.text[:500]
        kind = RetryableError if response.status_code in (408, 429, 502, 503, 504) else PermanentError
        raise kind(f"{self.url}{path} answered {response.status_code}: {message}")
