"""OTLP logs to rows of `logs`: bytes in, Arrow out. Pure; the clock comes in as `received_us`.

What people wrote or got is never stored: the body of a GenAI event, keys of a structured body and attributes that carry
contents, and what follows `prompt:` or `"prompt":` in a line about a request.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.attribute_values import as_text, attribute_dict, plain_value
from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded, Rejected, RowBuilder
from collector.errors import PermanentError

SEVERITIES = ("trace", "debug", "info", "warn", "error", "fatal")
CONTENT_EVENTS = ("gen_ai.",)
"""Events that begin so have contents for a body."""
ANNOUNCED = r"prompts?|(?:prompt_)?(?:input|output|token)_ids|\b(?:messages|completions?|outputs?)"
"""Words behind which a prompt or an answer follows in a line of text: `Received request …: prompt: '…'`."""
NAMED = r"\b(?:arguments|contents?|inputs?|parts|responses?|texts?|tool_calls)"
"""Words that say so only as a key in quotes, or where something in quotes or brackets is assigned: `text='…'`."""
CONTENT_KEY = re.compile(rf"\w*?(?:{ANNOUNCED}|{NAMED})", re.IGNORECASE)
"""Keys of structured bodies, and attributes, that carry contents."""
PROMPT = re.compile(rf"(?:{ANNOUNCED})\\*['\"]?\s*[:=]|{NAMED}(?:\\*['\"]\s*:|\s*=(?=\s*\\*['\"\[{{(]))", re.IGNORECASE)
"""How a line of text, JSON and Python among them, announces a prompt, as the request logs of vLLM and SGLang do."""
DROPPED = "[not stored]"


def decode_logs(body: bytes, received_us: int) -> Decoded:
    """Decode an `ExportLogsServiceRequest`.

    Args:
        body: the message, not compressed.
        received_us: when it was received, microseconds since 1970, UTC.

    Raises:
        PermanentError: the bytes are no such message.
    """
    request = ExportLogsServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise PermanentError(f"the body is not an OTLP ExportLogsServiceRequest: {error}") from error
    rows = RowBuilder("logs")
    rejected: list[Rejected] = []
    for resource_logs in request.resource_logs:
        resource = attribute_dict(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                try:
                    rows.add(log_row(record, scope_logs.scope.name, resource, received_us))
                except PermanentError as error:
                    rejected.append(Rejected(str(error), record.SerializeToString()))
    return Decoded({}, len(rows.rows), tuple(rejected), (rows,))


def log_row(record: Any, scope: str, resource: dict[str, Any], received_us: int) -> dict[str, Any]:
    """Return one row.

    Raises:
        PermanentError: its time is absurd.
    """
    nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
    logged_us = nanoseconds // 1000 if nanoseconds else received_us
    if not EARLIEST_US <= logged_us <= received_us + AHEAD_US:
        raise PermanentError(
            f"time_unix_nano {nanoseconds} is before 2000 or more than a day ahead: "
            "check the sender's clock and unit (nanoseconds since 1970)"
        )
    attributes = without_contents(attribute_dict(record.attributes))
    event_name = record.event_name or as_text(attributes.get("event.name", ""))
    replica = resource.get("infer.replica") or resource.get("service.instance.id")
    merged = {**resource, **attributes}
    return {
        "logged_at": logged_us,
        "log_hash": log_hash(record, scope, resource),
        "severity": severity_of(record.severity_number, record.severity_text),
        "severity_number": record.severity_number or None,
        "event_name": event_name or None,
        "body": body_text(record, event_name),
        "trace_id": hex_id(record.trace_id, 16),
        "span_id": hex_id(record.span_id, 8),
        "service": as_text(resource["service.name"]) if "service.name" in resource else None,
        "scope": scope or None,
        "replica": as_text(replica) if replica is not None else None,
        "attributes": [(key, as_text(value)) for key, value in merged.items()],
        "received_at": received_us,
    }


def log_hash(record: Any, scope: str, resource: dict[str, Any]) -> int:
    """Return the hash that tells a record from every other of its microsecond."""
    parts = (record.SerializeToString(deterministic=True), scope.encode(), repr(sorted(resource.items())).encode())
    framed = b"".join(len(part).to_bytes(4) + part for part in parts)
    return int.from_bytes(hashlib.blake2b(framed, digest_size=8).digest(), signed=True)


def severity_of(number: int, text: str) -> str | None:
    """Return the severity by its number, else by its text."""
    if 1 <= number <= 24:
        return SEVERITIES[(number - 1) // 4]
    word = text.strip().lower()
    named = {"warning": "warn", "critical": "fatal", "err": "error", "notice": "info"}.get(word, word)
    return named if named in SEVERITIES else None


def hex_id(identity: bytes, length: int) -> str | None:
    """Return an id in hex; None where there is none."""
    return identity.hex() if len(identity) == length and any(identity) else None


def body_text(record: Any, event_name: str) -> str | None:
    """Return what a record says, without prompts and completions; None where it says nothing else."""
    if event_name.startswith(CONTENT_EVENTS):
        return None
    body = without_contents(plain_value(record.body))
    return as_text(body) or None if body is not None else None


def without_contents(value: Any) -> Any:
    """Take contents out of a body of any shape, or out of attributes."""
    if isinstance(value, dict):
        return {key: without_contents(one) for key, one in value.items() if not CONTENT_KEY.fullmatch(key)}
    if isinstance(value, list):
        return [without_contents(one) for one in value]
    if isinstance(value, str) and (announced := PROMPT.search(value)):
        return value[: announced.end()] + " " + DROPPED
    return value
