"""The collector's API beside OTLP: SQL, rows, scrapes, health, self-metrics. FastAPI, for these routes are not hot."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from collector.audit import Audit, shortened
from collector.errors import CollectorError, PermanentError, RetryableError
from collector.quotas import QuotaError
from collector.receivers.http_messages import Disconnected, read_body
from collector.receivers.intake import Intake
from collector.receivers.otlp_http import status_of
from collector.receivers.room import Hold
from collector.self_metrics import SelfMetrics
from collector.sql_door import Asker, SqlDoor
from collector.sql_values import answer_to_json, mapping_of_parameters
from collector.table_contracts import writable_contract
from collector.tokens import Bearer, Tokens

ARROW = "application/vnd.apache.arrow.stream"
SQL_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["sql"],
                    "properties": {
                        "sql": {"type": "string", "description": "One SELECT, parameters as $name."},
                        "parameters": {
                            "type": "object",
                            "description": "Values by name; a time is {type: timestamp, value: ISO 8601}.",
                        },
                    },
                }
            }
        },
    }
}
QUESTION_BYTES = 4 * 2**20
STOP_AGAIN_SECONDS = 0.05
ERROR_LENGTH = 500
"""So many characters of an error stand in the audit log."""
ARROW_BODY = {"requestBody": {"required": True, "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}}
TEXT_BODY = {"requestBody": {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}}
OTLP_PATHS: dict[str, Any] = {
    f"/v1/{kind}": {
        "post": {
            "summary": f"OTLP/HTTP {kind}: protobuf or JSON, plain or compressed",
            "requestBody": {
                "required": True,
                "content": {
                    "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
                    "application/json": {"schema": {"type": "object"}},
                },
            },
            "responses": {
                "200": {"description": "durable; partial_success says what became no row"},
                "400": {"description": "not OTLP: do not send it again"},
                "401": {"description": "no or a wrong bearer token"},
                "403": {"description": "a token that may not write"},
                "413": {"description": "over the limit"},
                "415": {"description": "an unknown content type or encoding"},
                "429": {"description": "over the token's quota: try again after Retry-After seconds"},
                "503": {"description": "full or stopping: try again after Retry-After seconds"},
            },
        }
    }
    for kind in ("traces", "metrics", "logs")
}
REMOTE_WRITE_PATH: dict[str, Any] = {
    "/api/v1/write": {
        "post": {
            "summary": "Prometheus remote write 1.0 and 2.0",
            "requestBody": {
                "required": True,
                "content": {"application/x-protobuf": {"schema": {"type": "string", "format": "binary"}}},
            },
            "responses": {
                "204": {"description": "durable"},
                "400": {"description": "no remote write, or some series of it were left out: do not send it again"},
                "415": {"description": "an unknown version or encoding"},
                "429": {"description": "over the token's quota: try again after Retry-After seconds"},
                "503": {"description": "full or stopping: try again after Retry-After seconds"},
            },
        }
    }
}


@dataclass(slots=True)
class Api:
    """What the routes need.

    Args:
        intake: takes rows and scrapes.
        door: answers SQL.
        queries: the threads that run it; as many queries run at once.
        tokens: who may come in.
        metrics: told about queries.
        audit: told who read and landed what.
        not_ready: why the collector is not ready yet; empty once it is.
        back_up: makes a backup; returns its folder and its bytes.
        clock: the time now, UTC.
    """

    intake: Intake
    door: SqlDoor
    queries: ThreadPoolExecutor
    queries_limit: int
    tokens: Tokens
    metrics: SelfMetrics
    audit: Audit
    not_ready: Callable[[], str]
    back_up: Callable[[], tuple[Path, int]]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _running: int = 0

    async def sql(self, request: Request) -> Response:
        """Answer one SELECT as an Arrow stream, or as JSON where the client accepts only that."""
        bearer = self.tokens.check(request.headers.get("authorization"), "read")
        bearer.spend_query()
        with Hold(self.intake.room) as hold:
            sql, parameters = question_of(await body_of(request, QUESTION_BYTES, hold))
        as_arrow = ARROW in request.headers.get("accept", "")
        if self._running >= 4 * self.queries_limit:
            raise RetryableError(f"{self._running} queries run or wait already; ask again in a moment")
        self._running += 1
        try:
            loop, asker = asyncio.get_running_loop(), Asker()
            answer = loop.run_in_executor(
                self.queries, self._answer, sql, parameters, as_arrow, bearer, remote_of(request), asker
            )
            content = await unless_left(answer, request, asker)
        finally:
            self._running -= 1
        return Response(content, media_type=ARROW if as_arrow else "application/json")

    def _answer(
        self, sql: str, parameters: Any, as_arrow: bool, bearer: Bearer, remote: str | None, asker: Asker
    ) -> bytes:
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

    async def rows(self, table: str, request: Request) -> Response:
        """Make an Arrow stream of rows durable, land it, and answer how many rows were new."""
        bearer = self.tokens.check(request.headers.get("authorization"), "write")
        writable_contract(table)
        encoding = request.headers.get("content-encoding", "identity").lower() or "identity"
        meta = {"table": table}
        with Hold(self.intake.room) as hold:
            body = await body_of(request, self.intake.max_body_bytes, hold)
            bearer.spend_bytes(len(body))
            self._received("rows", body)
            answer = await self.intake.accept(
                "rows", body, encoding=encoding, meta=meta, wait_for_landing=True, held=True
            )
        self.audit.write(bearer, "land", remote_of(request), table=table, rows=answer.landed_count)
        return JSONResponse({"landed": answer.landed_count})

    async def scrapes(self, target: str, request: Request) -> Response:
        """Make one /metrics text durable, as read from `target` at `observed_at`; `label.NAME=VALUE` lays on labels."""
        bearer = self.tokens.check(request.headers.get("authorization"), "write")
        observed_at = observed_time(request.query_params.get("observed_at"), self.clock())
        labels = {
            name.removeprefix("label."): value
            for name, value in request.query_params.items()
            if name.startswith("label.")
        }
        encoding = request.headers.get("content-encoding", "identity").lower() or "identity"
        meta = {"target": target, "labels": labels, "observed_us": int(observed_at.timestamp() * 1e6), "up": True}
        with Hold(self.intake.room) as hold:
            body = await body_of(request, self.intake.max_body_bytes, hold)
            bearer.spend_bytes(len(body))
            self._received("scrapes", body)
            answer = await self.intake.accept("scrape", body, encoding=encoding, meta=meta, held=True)
        return JSONResponse({"accepted": answer.accepted_count, "rejected": answer.rejected_count})

    def _received(self, door: str, body: bytes) -> None:
        self.metrics.count("fleetmeter_received_bodies", door=door)
        self.metrics.count("fleetmeter_received_bytes", len(body), door=door)

    async def backups(self, request: Request) -> Response:
        """Make a backup beside landing and queries, and answer where it is."""
        bearer = self.tokens.check(request.headers.get("authorization"), "admin")
        loop = asyncio.get_running_loop()
        folder, size_bytes = await loop.run_in_executor(None, self.back_up)
        self.audit.write(bearer, "backup", remote_of(request), folder=str(folder), size_bytes=size_bytes)
        return JSONResponse({"folder": str(folder), "size_bytes": size_bytes})

    async def readyz(self) -> Response:
        """Say whether the tables are migrated and the spool is replayed."""
        reason = self.not_ready()
        return JSONResponse({"ready": not reason, "reason": reason or None}, 503 if reason else 200)


def build_api(api: Api) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="fleetmeter collector", version=metadata.version("fleetmeter"), docs_url=None, redoc_url=None)

    @app.post("/api/v1/sql", summary="Read-only SQL", openapi_extra=SQL_BODY)
    async def sql(request: Request) -> Response:
        return await counted(api.metrics, api.sql(request))

    @app.post("/api/v1/tables/{table}", summary="Land rows (Arrow IPC stream)", openapi_extra=ARROW_BODY)
    async def rows(table: str, request: Request) -> Response:
        return await told_refused(api.metrics, "rows", api.rows(table, request))

    @app.post("/api/v1/scrapes", summary="Land one Prometheus text", openapi_extra=TEXT_BODY)
    async def scrapes(target: str, request: Request, observed_at: str | None = None) -> Response:
        return await told_refused(api.metrics, "scrapes", api.scrapes(target, request))

    @app.post("/api/v1/backups", summary="Make a consistent copy of everything, on the collector's machine")
    async def backups(request: Request) -> Response:
        return await api.backups(request)

    @app.get("/metrics", summary="The collector about itself")
    async def metrics() -> Response:
        return Response(api.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz", summary="The process answers")
    async def healthz() -> Response:
        return JSONResponse({"healthy": True})

    @app.get("/readyz", summary="Migrated and replayed")
    async def readyz() -> Response:
        return await api.readyz()

    app.add_exception_handler(CollectorError, refuse)
    app.add_exception_handler(HTTPException, refuse_route)
    app.add_exception_handler(RequestValidationError, refuse_request)
    app.openapi_schema = {**app.openapi(), "paths": {**OTLP_PATHS, **REMOTE_WRITE_PATH, **app.openapi()["paths"]}}
    return app


async def counted(metrics: SelfMetrics, answer: Awaitable[Response]) -> Response:
    """Count a query by the status of its answer."""
    try:
        response = await answer
    except CollectorError as error:
        metrics.count("fleetmeter_queries", status=str(status_of(error)))
        raise
    metrics.count("fleetmeter_queries", status=str(response.status_code))
    return response


async def told_refused(metrics: SelfMetrics, door: str, answer: Awaitable[Response]) -> Response:
    """Count a body that is refused, by its status."""
    try:
        return await answer
    except Disconnected:
        raise
    except CollectorError as error:
        metrics.count("fleetmeter_refused_bodies", door=door, status=str(status_of(error)))
        raise


async def refuse(request: Request, error: Exception) -> Response:
    """Answer an error as JSON with its status."""
    status = status_of(error) if isinstance(error, CollectorError) else 500
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "2"}}.get(status)
    if isinstance(error, QuotaError):
        headers = {"Retry-After": str(error.retry_after_seconds)}
    return JSONResponse({"error": str(error)}, status, headers)


async def refuse_route(request: Request, error: Exception) -> Response:
    """Answer an unknown route or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = "the routes are in /openapi.json"
    return JSONResponse({"error": f"{request.method} {request.url.path} is not served here; {known}"}, status)


async def refuse_request(request: Request, error: Exception) -> Response:
    """Answer a request whose parameters are missing or wrong."""
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    told = "; ".join(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in problems)
    return JSONResponse({"error": told}, 400)


async def body_of(request: Request, limit_bytes: int, hold: Hold) -> bytes:
    """Read the body up to a limit."""
    return await read_body(request.scope, request.receive, limit_bytes, hold)


def question_of(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """Return the SQL and the parameters of a question.

    Raises:
        PermanentError: it is none.
    """
    try:
        asked = json.loads(body)
        sql = asked["sql"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PermanentError('the body is JSON: {"sql": "SELECT …", "parameters": {…}}') from error
    if not isinstance(sql, str):
        raise PermanentError('"sql" is a string')
    return sql, mapping_of_parameters(asked.get("parameters"))


def remote_of(request: Request) -> str | None:
    """Return the address of the peer; None over a socket without one."""
    return request.client.host if request.client else None


async def unless_left(answer: asyncio.Future[bytes], request: Request, asker: Asker) -> bytes:
    """Wait for an answer; where the client leaves first, stop the query, so that its thread is free for another."""
    left = asyncio.create_task(wait_until_left(request))
    try:
        either: set[asyncio.Future[Any]] = {answer, left}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        while not answer.done():
            asker.leave()
            await asyncio.wait({answer}, timeout=STOP_AGAIN_SECONDS)
    finally:
        left.cancel()
    return answer.result()


async def wait_until_left(request: Request) -> None:
    """Return once the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def observed_time(text: str | None, now: datetime) -> datetime:
    """Return the time of a scrape: ISO 8601 (UTC where it has no zone), or seconds since 1970; none is now.

    Raises:
        PermanentError: it is neither.
    """
    if text is None:
        return now
    try:
        seconds = float(text)
    except ValueError:
        seconds = None
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
        # A plus sign in an address that was not quoted arrives as a space.
        value = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except (ValueError, OverflowError, OSError) as error:
        raise PermanentError(f"observed_at {text!r} is neither ISO 8601 nor seconds since 1970") from error
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def arrow_stream(rows: pa.Table) -> bytes:
    """Write a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue().to_pybytes())
