"""The collector's API beside telemetry and SQL: rows, scrapes, health, self-metrics. FastAPI, for they are not hot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from collector.audit import Audit
from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.errors import CollectorError, PermanentError
from collector.receivers.http_messages import Disconnected, read_body
from collector.receivers.intake import Intake
from collector.receivers.otlp_http import status_of
from collector.receivers.room import Hold
from collector.self_metrics import SelfMetrics
from collector.sql_route import ARROW, refusal
from collector.table_contracts import writable_contract
from collector.tokens import Tokens

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


SQL_PATH: dict[str, Any] = {
    "/api/v1/sql": {
        "post": {
            "summary": "Read-only SQL",
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
            },
            "responses": {
                "200": {
                    "description": "the rows: as JSON, or as an Arrow stream where the client accepts that",
                    "content": {
                        "application/json": {"schema": {"type": "object", "required": ["columns", "rows"]}},
                        ARROW: {"schema": {"type": "string", "format": "binary"}},
                    },
                },
                "400": {"description": "no single SELECT, an error of SQL, or an answer over the limits"},
                "401": {"description": "no or a wrong bearer token"},
                "403": {"description": "a token that may not read"},
                "413": {"description": "a question over the limit"},
                "429": {"description": "over the token's quota: try again after Retry-After seconds"},
                "503": {
                    "description": "too many at once, out of time, or stopping: try again after Retry-After seconds"
                },
            },
        }
    }
}


@dataclass(slots=True)
class Api:
    """What the routes need.

    Args:
        intake: takes rows and scrapes.
        tokens: who may come in.
        metrics: told what came in.
        audit: told who landed and administered what.
        not_ready: why the collector is not ready yet; empty once it is.
        back_up: makes a backup; returns its folder and its bytes.
        clock: the time now, UTC.
    """

    intake: Intake
    tokens: Tokens
    metrics: SelfMetrics
    audit: Audit
    not_ready: Callable[[], str]
    back_up: Callable[[], tuple[Path, int]]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

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
        told: dict[str, Any] = {"status": 500}
        try:
            folder, size_bytes = await loop.run_in_executor(None, self.back_up)
            told = {"status": 200, "folder": str(folder), "size_bytes": size_bytes}
        except CollectorError as error:
            told = {"status": status_of(error), "error": str(error)}
            raise
        finally:
            self.audit.write(bearer, "backup", remote_of(request), **told)
        return JSONResponse({"folder": str(folder), "size_bytes": size_bytes})

    async def readyz(self) -> Response:
        """Say whether the tables are migrated and the spool is replayed."""
        reason = self.not_ready()
        return JSONResponse({"ready": not reason, "reason": reason or None}, 503 if reason else 200)


def build_api(api: Api) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="fleetmeter collector", version=metadata.version("fleetmeter"), docs_url=None, redoc_url=None)

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
    app.openapi_schema = {
        **app.openapi(),
        "paths": {**OTLP_PATHS, **REMOTE_WRITE_PATH, **SQL_PATH, **app.openapi()["paths"]},
    }
    return app


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
    answer = refusal(cast("CollectorError", error))
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, answer.content_type.decode())


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


def remote_of(request: Request) -> str | None:
    """Return the address of the peer; None over a socket without one."""
    return request.client.host if request.client else None


def observed_time(text: str | None, now: datetime) -> datetime:
    """Return the time of a scrape: ISO 8601 (UTC where it has no zone), or seconds since 1970; none is now.

    Raises:
        PermanentError: it is neither, or before 2000 or more than a day ahead.
    """
    if text is None:
        return now
    try:
        seconds = float(text)
    except ValueError:
        seconds = None
    try:
        if seconds is not None:
            value = datetime.fromtimestamp(seconds, UTC)
        else:  # a plus sign in an address that was not quoted arrives as a space
            value = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except (ValueError, OverflowError, OSError) as error:
        raise PermanentError(f"observed_at {text!r} is neither ISO 8601 nor seconds since 1970") from error
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not EARLIEST_US <= value.timestamp() * 1e6 <= now.timestamp() * 1e6 + AHEAD_US:
        raise PermanentError(
            f"observed_at {text!r} is before 2000 or more than a day ahead: check the clock and the unit"
        )
    return value
