"""Values of OTLP attributes: as Python, as text, and coerced to the type of a column. Pure."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

MAX_TEXT_LENGTH = 16_384
"""Longer texts are cut: an attribute is a label, not a document."""
CUT = "…"
"""The end of a text that was cut."""

INT64_END = 2**63

CONTENT_PREFIXES = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.content",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.documents",
    "gen_ai.evaluation.explanation",
    "input.value",
    "output.value",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts",
    "llm.completions",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "prompt",
    "prompts",
    "messages",
    "completion",
    "completions",
)
"""Attributes of common instrumentations that carry prompts or completions: these are never stored, in any case."""
ENCODED_PREFIXES = tuple(prefix.encode() for prefix in CONTENT_PREFIXES)


@lru_cache(maxsize=4096)
def is_content(name: str) -> bool:
    """Tell whether an attribute carries what people wrote or got: `gen_ai.prompt`, `GEN_AI.PROMPT.0.content` …"""
    lowered = name.encode("utf-8", "replace").lower()  # of ASCII alone, as the walker does
    return any(lowered == prefix or lowered.startswith(prefix + b".") for prefix in ENCODED_PREFIXES)


def attribute_dict(attributes: Iterable[Any]) -> dict[str, Any]:
    """Return `KeyValue` messages as a dict, without empty keys, unset values and contents; the last of a key stays."""
    values = {}
    for item in attributes:
        key = item.key
        if key and (value := plain_value(item.value)) is not None and not is_content(key):
            values[key] = value
    return values


def plain_value(value: Any) -> Any:
    """Return an `AnyValue` message as str, bool, int, float, bytes, list or dict, without contents in it.

    None where it is unset.
    """
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain_value(item.value) for item in value.kvlist_value.values if not is_content(item.key)}
    return getattr(value, kind)


def as_text(value: Any) -> str:
    """Write a value as the text that a map of strings keeps."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, bytes):
        text = base64.b64encode(value).decode()
    elif isinstance(value, list | dict):
        text = json.dumps(value, default=as_text, ensure_ascii=False)
    else:
        text = repr(value)
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + CUT


def as_str(value: Any) -> str | None:
    """Coerce to a non-empty string: numbers and booleans are written out, the rest does not fit."""
    if isinstance(value, str | bool | int | float):
        return (value if type(value) is str and len(value) < MAX_TEXT_LENGTH else as_text(value)).strip() or None
    return None


def as_first_str(value: Any) -> str | None:
    """Coerce an array of strings to its first; a lone string counts as an array of one."""
    if isinstance(value, list):
        value = value[0] if value else None
    return as_str(value)


def as_count(value: Any) -> int | None:
    """Coerce to a whole number of things, 0 or more: "12" and 12.0 are 12; -1, 1.5, true and "many" do not fit."""
    if type(value) is int and 0 <= value < INT64_END:
        return value
    number = as_measure(value)
    if number is None or number != int(number):
        return None
    exact = (
        int(value) if isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal()) else int(number)
    )
    return exact if exact < INT64_END else None


def as_measure(value: Any) -> float | None:
    """Coerce to a finite number, 0 or more; booleans, NaN, infinities and words do not fit."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def as_flag(value: Any) -> bool | None:
    """Coerce to a boolean: true/false, 1/0 and their usual spellings."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words.get(as_text(value).strip().lower()) if isinstance(value, str | int) else None


COERCIONS: dict[str, Callable[[Any], Any]] = {
    "str": as_str,
    "strs": as_first_str,
    "int": as_count,
    "float": as_measure,
    "bool": as_flag,
}
"""How a value becomes the type that semconv gives an attribute; None means that it does not fit."""
