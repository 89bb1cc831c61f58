"""A catalogue check for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from engine_exporter.catalog import Catalog


def as_json(found: Catalog) -> str:
    """Return it as one JSON object."""
    data = {
        "engines": list(found.engines),
        "version": found.version,
        "at_least": found.at_least,
        "findings": found.has_findings,
        "known": dict(found.known),
        "renamed": dict(found.renamed),
        "missing": dict(found.missing),
        "suspect": {
            doubt.name: {"why": doubt.why, "source": doubt.source, "finding": doubt.is_finding}
            for doubt in found.suspect
        },
        "ignored": dict(found.ignored),
        "kept": list(found.kept),
        "unknown": list(found.unknown),
    }
    return json.dumps(data, indent=2)


def as_text(found: Catalog) -> str:
    """Return one line a name, and a line of counts."""
    return "\n".join([*_lines(found), counts_of(found)])


def counts_of(found: Catalog) -> str:
    """Count each list in a sentence."""
    findings = [doubt for doubt in found.suspect if doubt.is_finding]
    counted = (
        (found.known, "known"),
        (found.renamed, "renamed"),
        (found.kept, "kept under their own name"),
        (found.ignored, "not read"),
        (found.missing, "missing"),
        (findings, "suspect"),
        (found.unknown, "unknown"),
    )
    return ", ".join(f"{len(names)} {label}" for names, label in counted)


def _lines(found: Catalog) -> Iterator[str]:
    version = found.version or (f"at least {found.at_least}, by its names" if found.at_least else "not told")
    yield f"engine   {', '.join(found.engines)}; version {version}"
    for name, canonical in found.known.items():
        yield f"known    {name}  ->  {canonical}"
    for name, today in found.renamed.items():
        yield f"renamed  {name}  is now  {today}"
    for name in found.kept:
        yield f"kept     {name}"
    for name, why in found.ignored.items():
        yield f"not read {name}: {why}"
    for name, canonical in found.missing.items():
        yield f"missing  {name}  ->  {canonical}"
    for doubt in found.suspect:
        source = f" ({doubt.source})" if doubt.source else ""
        yield f"{'suspect' if doubt.is_finding else 'note   '}  {doubt.name}: {doubt.why}{source}"
    for name in found.unknown:
        yield f"unknown  {name}"
