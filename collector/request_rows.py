"""Which spans are requests, and the row that each becomes. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from collector.attribute_values import COERCIONS, as_count, as_measure, as_text
from collector.errors import PermanentError
from engine_exporter import semconv

NATIVE_NAME = "llm_request"
"""The span that vLLM itself makes of a finished request."""
NATIVE_SOURCE = "vllm_span"
DEFAULT_SOURCE = "otlp"

NATIVE_ATTRIBUTES = {
    "gen_ai.usage.prompt_tokens": semconv.INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": semconv.OUTPUT_TOKENS,
    "gen_ai.latency.time_to_first_token": semconv.TTFT,
    "gen_ai.latency.e2e": semconv.E2E,
    "gen_ai.latency.time_in_queue": semconv.QUEUE,
    "gen_ai.latency.time_in_model_prefill": semconv.PREFILL,
    "gen_ai.latency.time_in_model_decode": semconv.DECODE,
}
"""vLLM's attribute names (0.8 to 0.33) and ours for the same thing."""

SGLANG_NAME, SGLANG_SCOPE = " Req ", "sglang"
"""SGLang's root span of a request is named ` Req 1f3a…`, or `decode Req 1f3a…` where prefill runs elsewhere."""
SGLANG_PREFILL = "prefill"
"""So begins the name of the root span at a prefill server: the decode server's tells the whole request."""
SGLANG_COUNTED = "gen_ai.usage.completion_tokens"
"""What a root span of a request says, unlike the spans of its stages."""
SGLANG_SOURCE = "sglang_span"
SGLANG_ATTRIBUTES = {**NATIVE_ATTRIBUTES, "gen_ai.usage.cached_tokens": semconv.CACHED_TOKENS}
"""SGLang's attribute names (0.5) and ours; its finish reasons are a JSON list in a string.

Source: sglang 0.5.23, srt/observability/trace.py and the tokenizer manager's span attributes.
"""

OUTCOMES = frozenset(outcome.value for outcome in semconv.Outcome)
MODES = frozenset(mode.value for mode in semconv.Mode)
INTEGER_COLUMNS = frozenset({"gpu_count", "preemptions_count", "http_status"})
INTEGER_LIMIT = 2**31
REPLICA_FALLBACKS = ("service.instance.id", "host.name")
SENDER_PREFIXES = ("telemetry.", "process.", "vllm.process_")
"""Resource attributes that describe the sender's SDK, not the request: left out of the leftovers."""

FRAME_COLUMNS = ("trace_id", "span_id", "started_at", "ended_at", "received_at")
EMPTY_ROW: dict[str, Any] = dict.fromkeys(
    (*FRAME_COLUMNS, *(attribute.column for attribute in semconv.REQUEST_ATTRIBUTES), "attributes")
)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an attribute goes."""

    column: str
    coerce: Callable[[Any], Any]
    """To the type of the column; None says that the value does not fit."""
    takes_first: bool
    """True where the first of an array is taken."""

    def value_of(self, value: Any) -> Any:
        """Return the value for the column; None where it fits none."""
        coerced = self.coerce(value)
        if coerced is None or (self.column in INTEGER_COLUMNS and coerced >= INTEGER_LIMIT):
            return None
        return coerced if self.column != "mode" or coerced in MODES else None


SLOTS = {
    one.name: Slot(one.column, COERCIONS[one.type], takes_first=one.type == "strs")
    for one in semconv.REQUEST_ATTRIBUTES
}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource's attributes, sorted once for all of its spans."""

    attributes: dict[str, Any]
    """All, as they came."""
    columns: dict[str, Any]
    """Those that fill a column of `requests`."""
    leftovers: dict[str, str]
    """The rest as text."""


def sorted_resource(attributes: dict[str, Any]) -> Resource:
    """Sort a resource's attributes into columns and leftovers."""
    columns: dict[str, Any] = {}
    leftovers = {key: value for key, value in attributes.items() if not key.startswith(SENDER_PREFIXES)}
    return Resource(attributes, columns, sort_into(columns, leftovers))


def sort_into(row: dict[str, Any], attributes: dict[str, Any]) -> dict[str, str]:
    """Put every attribute into its column of a row; return as text those that no column takes, or that fit none."""
    leftovers = {}
    for name, value in attributes.items():
        slot = SLOTS.get(name)
        taken = slot.value_of(value) if slot is not None else None
        if slot is not None and taken is not None:
            row[slot.column] = taken
            if not (slot.takes_first and isinstance(value, list) and len(value) > 1):
                continue
        leftovers[name] = as_text(value)
    return leftovers


def is_request(span: Any, scope: str, attributes: dict[str, Any]) -> bool:
    """Tell whether a span is a row of `requests`."""
    return semconv.OUTCOME in attributes or is_native(span, scope, attributes)


def is_native(span: Any, scope: str, attributes: dict[str, Any]) -> bool:
    """Tell whether it is an engine's own span of a request that no exporter measured (else it would count twice)."""
    return (
        semconv.OUTCOME not in attributes
        and (is_of_vllm(span, scope, attributes) or is_of_sglang(span, scope, attributes))
        and semconv.TRACESTATE_KEY not in tracestate_keys(span.trace_state)
    )


def is_of_vllm(span: Any, scope: str, attributes: dict[str, Any]) -> bool:
    """Tell whether it is vLLM's span of a request."""
    return span.name == NATIVE_NAME and (
        scope.startswith("vllm") or any(name in attributes for name in NATIVE_ATTRIBUTES)
    )


def is_of_sglang(span: Any, scope: str, attributes: dict[str, Any]) -> bool:
    """Tell whether it is SGLang's root span of a request."""
    return (
        SGLANG_COUNTED in attributes
        and SGLANG_NAME in span.name
        and scope.startswith(SGLANG_SCOPE)
        and not span.name.startswith(SGLANG_PREFILL)
    )


def tracestate_keys(tracestate: str) -> set[str]:
    """Return the keys of a W3C tracestate header."""
    return {member.split("=", 1)[0].strip() for member in tracestate.split(",")}


def request_row(span: Any, frame: dict[str, Any], attributes: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """Return one row of `requests`; an attribute of the span wins over the resource's.

    Attributes that no column takes, or whose value fits none, stay in `attributes`.

    Raises:
        PermanentError: the outcome is none of the five.
    """
    native = semconv.OUTCOME not in attributes
    engine = None
    given = attributes
    if native:
        engine = "vllm" if span.name == NATIVE_NAME else "sglang"
        given = upgrade_native(attributes) if engine == "vllm" else upgrade_sglang(attributes)
    row = {**EMPTY_ROW, **frame, **resource.columns}
    own = sort_into(row, given)
    leftovers = {key: text for key, text in resource.leftovers.items() if key not in given}
    leftovers.update(own)
    if (outcome := row["outcome"]) not in OUTCOMES:
        row["outcome"] = checked_outcome(outcome, attributes)
    fill_gaps(row, span, leftovers, resource, engine)
    row["attributes"] = list(leftovers.items())
    return row


def checked_outcome(outcome: str | None, attributes: dict[str, Any]) -> str:
    """Return the outcome in the one spelling.

    Raises:
        PermanentError: it is none of the five.
    """
    if outcome is not None and outcome.lower() in OUTCOMES:
        return outcome.lower()
    said = as_text(attributes.get(semconv.OUTCOME, ""))[:80]
    raise PermanentError(f"{semconv.OUTCOME} is {said!r}; it is one of {', '.join(sorted(OUTCOMES))}")


def upgrade_sglang(attributes: dict[str, Any]) -> dict[str, Any]:
    """Rename SGLang's attributes to ours, and unpack its finish reasons; those that end with an abort were left."""
    reasons = finish_reasons(attributes.get(semconv.FINISH_REASONS))
    given = {**attributes, **({semconv.FINISH_REASONS: reasons} if reasons else {})}
    given.setdefault(semconv.SOURCE, SGLANG_SOURCE)
    if "abort" in reasons:
        given[semconv.OUTCOME] = semconv.Outcome.CLIENT_DISCONNECT.value
    return upgrade_native(given, SGLANG_ATTRIBUTES)


def finish_reasons(value: Any) -> list[str]:
    """Return finish reasons that are a JSON list in a string; none where they are no such list."""
    try:
        reasons = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return []
    return [one for one in reasons if isinstance(one, str)] if isinstance(reasons, list) else []


def upgrade_native(attributes: dict[str, Any], names: dict[str, str] = NATIVE_ATTRIBUTES) -> dict[str, Any]:
    """Rename an engine's attributes to ours. vLLM's span exists only for requests that finished: the outcome is ok."""
    renamed = {names.get(key, key): value for key, value in attributes.items()}
    output_tokens, decode = as_count(renamed.get(semconv.OUTPUT_TOKENS)), as_measure(renamed.get(semconv.DECODE))
    if output_tokens is not None and output_tokens > 1 and decode is not None:
        renamed.setdefault(semconv.TPOT, decode / (output_tokens - 1))
    renamed.setdefault(semconv.OUTCOME, semconv.Outcome.OK.value)
    renamed.setdefault(semconv.SOURCE, NATIVE_SOURCE)
    return renamed


def fill_gaps(
    row: dict[str, Any], span: Any, leftovers: dict[str, str], resource: Resource, native_engine: str | None
) -> None:
    """Fill what the span says in another way: model, replica, engine, duration, source."""
    if row["model"] is None:
        row["model"] = leftovers.pop(semconv.RESPONSE_MODEL, None)
    if row["replica"] is None:
        found = (COERCIONS["str"](resource.attributes.get(name)) for name in REPLICA_FALLBACKS)
        row["replica"] = next((name for name in found if name), None)
    if row["engine"] is None:
        row["engine"] = native_engine
    if row["e2e_seconds"] is None and row["ended_at"] is not None:
        row["e2e_seconds"] = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    row["source"] = row["source"] or DEFAULT_SOURCE
    row["estimated"] = bool(row["estimated"])
