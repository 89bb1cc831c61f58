"""Names and texts that have the same number in every epoch, and the columns of the rows. Data only."""

from __future__ import annotations

from collector.request_rows import (
    DEFAULT_SOURCE,
    INTEGER_COLUMNS,
    NATIVE_ATTRIBUTES,
    NATIVE_NAME,
    NATIVE_SOURCE,
    SGLANG_COUNTED,
)
from engine_exporter import semconv

NULL = -1
"""No value, in every kind of cell."""
FIRST_SPECIAL = -16
"""Texts that the host writes out are numbered downwards from here."""

DOUBLE, ARRAY = 0, 1
"""Kinds of special texts: those that the host writes out."""

CONTENT, SENDER = 1, 2
"""Flags of a name: it carries prompts or completions; it describes the sender's SDK."""

TEXT, FIRST_TEXT, COUNT, SMALL_COUNT, MEASURE, FLAG, MODE = 0, 1, 2, 3, 4, 5, 6
"""Types of columns: semconv's str, strs, int, int of a 32-bit column, float, bool; `mode`, a text of three."""

STARTED, ENDED, RECEIVED, FIRST_COLUMN = 0, 1, 2, 3
"""Cells that rows of both tables begin with: microseconds since 1970."""

COLUMN_NAMES = tuple(attribute.column for attribute in semconv.REQUEST_ATTRIBUTES)
COLUMN_PLACES = {name: FIRST_COLUMN + place for place, name in enumerate(COLUMN_NAMES)}
PAIRS_COUNT = FIRST_COLUMN + len(COLUMN_NAMES)
"""The last cell of a row of `requests`: how many attributes it keeps."""
REQUEST_CELLS = PAIRS_COUNT + 1

DURATION, HAS_PARENT, NAME, KIND, SERVICE, SCOPE, STATUS, STATUS_MESSAGE, SPAN_REPLICA, SPAN_PAIRS_COUNT = range(3, 13)
"""Cells of a row of `spans`."""
SPAN_CELLS = SPAN_PAIRS_COUNT + 1


def type_of(attribute: semconv.Attribute) -> int:
    """Return the type of the column that an attribute fills."""
    if attribute.column == "mode":
        return MODE
    if attribute.column in INTEGER_COLUMNS:
        return SMALL_COUNT
    return {"str": TEXT, "strs": FIRST_TEXT, "int": COUNT, "float": MEASURE, "bool": FLAG}[attribute.type]


COLUMN_TYPES = (-1, -1, -1, *(type_of(attribute) for attribute in semconv.REQUEST_ATTRIBUTES), -1)

FURTHER_KEYS = (
    semconv.RESPONSE_MODEL, "service.name", "service.instance.id", "host.name", "exception.type", "exception.message"
)  # fmt: skip
KEYS = (*(attribute.name for attribute in semconv.REQUEST_ATTRIBUTES), *NATIVE_ATTRIBUTES, *FURTHER_KEYS)
"""The names by number."""
KEY_OUTCOME = KEYS.index(semconv.OUTCOME)
KEY_TPOT = KEYS.index(semconv.TPOT)
KEY_SOURCE = KEYS.index(semconv.SOURCE)
KEY_SGLANG_COUNTED = KEYS.index(SGLANG_COUNTED)
KEY_REPLICA = KEYS.index(semconv.REPLICA)
FIRST_NATIVE_KEY = len(COLUMN_NAMES)
LAST_NATIVE_KEY = FIRST_NATIVE_KEY + len(NATIVE_ATTRIBUTES) - 1
KEY_RESPONSE_MODEL, KEY_SERVICE, KEY_INSTANCE, KEY_HOST, KEY_EXCEPTION_TYPE, KEY_EXCEPTION_MESSAGE = (
    KEYS.index(name) for name in FURTHER_KEYS
)

TEXTS = (
    "false", "true", *(mode.value for mode in semconv.Mode), *(outcome.value for outcome in semconv.Outcome),
    "vllm", NATIVE_SOURCE, DEFAULT_SOURCE, "internal", "server", "client", "producer", "consumer", "unset", NATIVE_NAME,
)  # fmt: skip
"""The texts by number."""
TEXT_FALSE, TEXT_TRUE = 0, 1
FIRST_MODE, LAST_MODE = 2, 1 + len(semconv.Mode)
FIRST_OUTCOME, LAST_OUTCOME = LAST_MODE + 1, LAST_MODE + len(semconv.Outcome)
TEXT_OK, TEXT_ERROR, TEXT_UNSET = TEXTS.index("ok"), TEXTS.index("error"), TEXTS.index("unset")
TEXT_VLLM, TEXT_NATIVE_SOURCE, TEXT_DEFAULT_SOURCE = (
    TEXTS.index(one) for one in ("vllm", NATIVE_SOURCE, DEFAULT_SOURCE)
)
TEXT_NATIVE_NAME = TEXTS.index(NATIVE_NAME)
FIRST_KIND = TEXTS.index("internal")

C_MODEL, C_REPLICA, C_ENGINE, C_E2E, C_SOURCE, C_ESTIMATED, C_OUTCOME, C_TPOT, C_OUTPUT, C_DECODE = (
    COLUMN_PLACES[name]
    for name in (
        "model", "replica", "engine", "e2e_seconds", "source", "estimated", "outcome", "tpot_seconds", "output_tokens",
        "decode_seconds",
    )
)  # fmt: skip
