"""Which engines a page is of, and which version its server is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from engine_exporter import alias_tables
from engine_exporter.errors import ExporterError
from engine_exporter.normalise import Line, normalise

ANSWER_SECONDS = 2.0
LENGTH_MAX = 64


def engines_of(lines: Iterable[Line], types: Mapping[str, str]) -> set[str]:
    """Name every table of which the page has a name."""
    return normalise(lines, types, keep_unknown=False).tables


def ask_version(base: str, engines: Iterable[str], fetch: Callable[[str, float], str]) -> str | None:
    """Ask a server for its version.

    Args:
        base: its address without a path.
        engines: whose names it serves; each has its own place for the version.
        fetch: reads an address within so many seconds.

    Returns:
        The version as the server tells it; None where it does not.
    """
    for engine in sorted(engines):
        table = alias_tables.table_of(engine)
        if table.version_path is None:
            continue
        try:
            told = json.loads(fetch(base + table.version_path, ANSWER_SECONDS))[table.version_key]
        except (ExporterError, ValueError, KeyError, TypeError):
            continue
        if isinstance(told, str) and told:
            return told[:LENGTH_MAX]
    return None
