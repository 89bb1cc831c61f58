"""Which of an engine's metric names we know: pure, by `semconv` alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine_exporter.semconv import VLLM_KEPT, VLLM_METRICS, VLLM_RENAMED

PREFIX = "vllm:"
_SAMPLE = re.compile(r"^(vllm:\w+)(?=[{ ])", re.MULTILINE)
_HISTOGRAM = re.compile(r"^# TYPE (vllm:\w+) histogram$", re.MULTILINE)
_CREATED = "_created"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The names of one server, each in exactly one list."""

    known: tuple[tuple[str, str], ...]
    """(name as served, canonical name)."""
    renamed: tuple[tuple[str, str], ...]
    """(old name as served, vLLM's name today): an old engine; still read."""
    kept: tuple[str, ...]
    """Known, stored under their own name."""
    missing: tuple[tuple[str, str], ...]
    """(vLLM's name today, canonical name) of what fleetmeter reads and this server has under no name."""
    unknown: tuple[str, ...]
    """Names that this version of fleetmeter has never heard of."""


def served_names(text: str) -> set[str]:
    """Find the metric names of a Prometheus exposition; a histogram counts under its family's name."""
    histograms = set(_HISTOGRAM.findall(text))
    names = set()
    for name in _SAMPLE.findall(text):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        if family in histograms:
            names.add(family)
        elif not name.endswith(_CREATED):
            names.add(name)
    return names - {f"{family}{_CREATED}" for family in histograms}


def compare(names: Iterable[str]) -> Catalog:
    """Sort an engine's names into known, renamed, kept, missing and unknown."""
    served = set(names)
    heard_of = VLLM_METRICS.keys() | VLLM_KEPT
    covered = {VLLM_METRICS[name] for name in served if name in VLLM_METRICS}
    today = {name: canonical for name, canonical in VLLM_METRICS.items() if name not in VLLM_RENAMED}
    return Catalog(
        known=tuple(sorted((name, today[name]) for name in served if name in today)),
        renamed=tuple(sorted((name, VLLM_RENAMED[name]) for name in served if name in VLLM_RENAMED)),
        kept=tuple(sorted(served & VLLM_KEPT)),
        missing=tuple(sorted((name, canonical) for name, canonical in today.items() if canonical not in covered)),
        unknown=tuple(sorted(name for name in served - heard_of if name.startswith(PREFIX))),
    )
