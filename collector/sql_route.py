"""POST /api/v1/sql as bare ASGI: boards ask many small questions, and a framework's handler costs as much as one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from collector.audit import Audit, shortened
from collector.errors import CollectorError, PermanentError, RetryableError, TooLargeError
from collector.quotas import QuotaError
from collector.receivers.http_messages import (
    Answer,
    App,
    Disconnected,
    Receive,
    Scope,
    Send,
    headers_of,
    read_body,
    send_answer,
)
from collector.receivers.otlp_http import MethodError, status_of
from collector.receivers.room import Hold, Room
from collector.self_metrics import SelfMetrics
from collector.sql_door import Asker, SqlDoor
from collector.sql_values import answer_to_json, mapping_of_parameters
from collector.tokens import Bearer, Tokens

PATH = "/api/v1/sql"
ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
QUESTION_BYTES = 4 * 2**20
LEFT_SECONDS = 0.05
"""A query that takes longer is stopped once its client has left; it is told to stop again as often."""
ERROR_LENGTH = 500
"""So many characters of an error stand in the audit log."""


@dataclass(slots=True)
class SqlRoute:
    """POST /api/v1/sql; other paths go to `otherwise`.

    Args:
        room: for bodies.
        door: answers.
        queries: the threads that run it.
        queries_limit: as many queries run at once.
        tokens: who may come in.
        metrics: told about queries.
        audit: told who read what.
        otherwise: answers other paths.
    """

    room: Room
    door: SqlDoor
    queries: ThreadPoolExecutor
    queries_limit: int
    tokens: Tokens
    metrics: SelfMetrics
    audit: Audit
    otherwise: App
    _running: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.otherwise(scope, receive, send)
            return
        try:
            answer = await self._asked(scope, receive)
        except Disconnected:
            return
        except CollectorError as error:
            answer = refusal(error)
        self.metrics.count("fleetmeter_queries", status=str(answer.status))
        await send_answer(send, answer.status, answer.body, answer.content_type, answer.headers)

    async def _asked(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            raise MethodError("SQL is sent with POST")
        headers = headers_of(scope)
        bearer = self.tokens.check(headers.get("authorization"), "read")
        bearer.spend_query()
        with Hold(self.room) as hold:
            sql, parameters = question_of(await read_question(scope, receive, hold))
        as_arrow = ARROW in headers.get("accept", "")
        remote = scope["client"][0] if scope.get("client") else None
        if self._running >= 4 * self.queries_limit:
            raise RetryableError(f"{self._running} queries run or wait already; ask again in a moment")
        self._running += 1
        try:
            loop, asker = asyncio.get_running_loop(), Asker()
            answer = loop.run_in_executor(self.queries, self.answer, sql, parameters, as_arrow, bearer, remote, asker)
            content = await unless_left(answer, receive, asker)
        finally:
            self._running -= 1
        return Answer(200, content, (ARROW if as_arrow else JSON).encode())

    def answer(
        self, sql: str, parameters: Any, as_arrow: bool, bearer: Bearer, remote: str | None, asker: Asker
    ) -> bytes:
        """Run a question and write its rows; the audit log and the metrics are told."""
        started = time.perf_counter()
        told: dict[str, Any] = {"status": 500}
        try:
            rows = self.door.query(sql, parameters, bearer.team, asker)
            content = arrow_stream(rows) if as_arrow else answer_to_json(rows)
            told = {"status": 200, "rows": rows.num_rows}
        except Exception as error:
            told |= {"error": f"{type(error).__name__}: {error}"[:ERROR_LENGTH]}
            if isinstance(error, CollectorError):
                told = {"status": status_of(error), "error": str(error)[:ERROR_LENGTH]}
            raise
        finally:
            seconds = time.perf_counter() - started
            self.audit.write(bearer, "query", remote, **told, seconds=round(seconds, 6), **shortened(sql))
        self.metrics.observe("fleetmeter_query_seconds", seconds)
        return content


def refusal(error: CollectorError) -> Answer:
    """Return an error as JSON with its status."""
    status = status_of(error)
    headers = {401: ((b"www-authenticate", b"Bearer"),), 405: ((b"allow", b"POST"),), 503: ((b"retry-after", b"2"),)}
    if isinstance(error, QuotaError):
        headers[429] = ((b"retry-after", str(error.retry_after_seconds).encode()),)
    return Answer(status, json.dumps({"error": str(error)}).encode(), JSON.encode(), headers.get(status, ()))


async def read_question(scope: Scope, receive: Receive, hold: Hold) -> bytes:
    """Read the whole body; see `read_body`."""
    try:
        return await read_body(scope, receive, QUESTION_BYTES, hold)
    except TooLargeError as error:
        raise TooLargeError(
            f"SQL and parameters have over {QUESTION_BYTES} bytes, which no setting changes; ask in several queries"
        ) from error


def question_of(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """Return the SQL and the parameters of a question.

    Raises:
        PermanentError: it is none.
    """
    try:
        asked = json.loads(body)
        sql, parameters = asked["sql"], mapping_of_parameters(asked.get("parameters"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PermanentError('the body is JSON: {"sql": "SELECT …", "parameters": {…}}') from error
    if not isinstance(sql, str):
        raise PermanentError('"sql" is a string')
    return sql, parameters


async def unless_left(answer: asyncio.Future[bytes], receive: Receive, asker: Asker) -> bytes:
    """Wait for an answer; where the client leaves first, stop the query, so that its thread is free for another."""
    watching: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later(
        LEFT_SECONDS, lambda: watching.append(loop.create_task(stop_once_left(answer, receive, asker)))
    )
    try:
        return await answer
    finally:
        later.cancel()
        for task in watching:
            task.cancel()


async def stop_once_left(answer: asyncio.Future[bytes], receive: Receive, asker: Asker) -> None:
    """Stop a query once its client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    while not answer.done():
        asker.leave()
        await asyncio.sleep(LEFT_SECONDS)


def arrow_stream(rows: pa.Table) -> bytes:
    """Write a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue().to_pybytes())
