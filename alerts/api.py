"""The alerts API: what is wrong, what happened, who was told, whether the evaluator lives, and the runbooks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from alerts import answers
from alerts.state_store import StateStore
from alerts.telemetry import CONTENT_TYPE, expose

RUNBOOKS = Path(__file__).parent / "data" / "runbooks"


def build_api(
    store: StateStore, exposition: Any, health: Callable[[], tuple[bool, dict[str, Any]]], now: Callable[[], datetime]
) -> FastAPI:
    """Make the application.

    Args:
        store: the state that it tells of.
        exposition: the source of `/metrics`.
        health: says whether the evaluator does its work, and the details.
        now: naive UTC.
    """
    api = FastAPI(title="fleetmeter alerts", docs_url=None, redoc_url=None)

    @api.get("/api/v1/alerts")
    def alerts() -> dict[str, Any]:
        return answers.alerts_document(store, now())

    @api.get("/api/v1/alerts/{fingerprint}/history")
    def history(fingerprint: str) -> Response:
        document = answers.history_document(store, fingerprint)
        if not document["transitions"]:
            return JSONResponse({"error": f"no alert {fingerprint} is known; /api/v1/alerts lists them"}, 404)
        return JSONResponse(document)

    @api.get("/api/v1/deliveries")
    def deliveries() -> dict[str, Any]:
        return answers.deliveries_document(store, now())

    @api.get("/healthz")
    def healthz() -> Response:
        fine, details = health()
        return JSONResponse(details, 200 if fine else 503)

    @api.get("/metrics")
    def metrics() -> Response:
        return Response(expose(exposition), media_type=CONTENT_TYPE)

    @api.get("/runbooks/{name}")
    def runbook(name: str) -> Response:
        known = {file.stem: file for file in RUNBOOKS.glob("*.md")}
        if name not in known:
            return JSONResponse({"error": f"no runbook {name}; known: {', '.join(sorted(known))}"}, 404)
        return PlainTextResponse(known[name].read_text(encoding="utf-8"), media_type="text/markdown; charset=utf-8")

    @api.exception_handler(404)
    def missing(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": f"nothing at {request.url.path}; alerts are at /api/v1/alerts"}, 404)

    return api
