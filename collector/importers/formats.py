"""What a format is, and the published ones whose every row is a request: Azure, Mooncake, VTC.

A trace lands with what it has and the rest is null. None of the traces says how a request ended unless noted: it was
served, so its outcome is `ok`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from collector.importers.values import absent, after, count, moment, number, quoted, seconds, text
from engine_exporter.semconv import Outcome

T = TypeVar("T")

DEFAULT_START = datetime(2024, 1, 1)
"""Where traces without a calendar begin unless told otherwise: a Monday, 00:00 UTC."""


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """How the rows of one kind of file become rows of `requests`."""

    name: str
    """What people type."""
    columns: tuple[str, ...]
    """Columns that the file must have."""
    read: Callable[[Mapping[str, Any]], dict[str, Any]]
    """One row of the file to columns of `requests`, `started_at` at least; ValueError says what is wrong with it."""


def azure() -> TraceFormat:
    """Azure LLM inference traces (2023 and 2024): arrival, context tokens, generated tokens.

    Source: https://github.com/Azure/AzurePublicDataset (CC-BY-4.0).
    """

    def read(cells: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "started_at": needed("TIMESTAMP", cells, moment),
            "input_tokens": needed("ContextTokens", cells, count),
            "output_tokens": needed("GeneratedTokens", cells, count),
            "outcome": Outcome.OK.value,
        }

    return TraceFormat("azure", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), read)


def mooncake(start: datetime = DEFAULT_START) -> TraceFormat:
    """Mooncake traces: milliseconds from `start`, lengths, and the ids of the prompt's 512-token blocks.

    The block ids stay in `attributes` as `mooncake.hash_ids`, runs of ids written as `first-last`.
    Source: https://github.com/kvcache-ai/Mooncake (Apache-2.0).
    """

    def read(cells: Mapping[str, Any]) -> dict[str, Any]:
        arrival = needed("timestamp", cells, number)
        if arrival < 0:
            raise ValueError(f"timestamp {quoted(arrival)} lies before the trace's own beginning")
        blocks = cells.get("hash_ids") or []
        if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
            raise ValueError("hash_ids is not a list of whole numbers")
        return {
            "started_at": named("timestamp", after, start, arrival, "ms"),
            "input_tokens": needed("input_length", cells, count),
            "output_tokens": needed("output_length", cells, count),
            "outcome": Outcome.OK.value,
            "attributes": {"mooncake.hash_ids": write_runs(blocks)} if blocks else None,
        }

    return TraceFormat("mooncake", ("timestamp", "input_length", "output_length"), read)


def vtc(start: datetime = DEFAULT_START, run: str | None = None) -> TraceFormat:
    """VTC's fairness benchmarks of S-LoRA: tenant, lengths, arrival, TTFT and E2E.

    The tenant is both team and adapter; the run's path is the deployment (every run begins at `start`). A latency of
    -1 marks a request that the server's rate limit turned away: it is `rejected`, and the tokens asked for, which were
    never made, stay in `attributes` as `vtc.output_len`.
    Source: https://github.com/Ying1123/VTC-artifact (Apache-2.0), fair_bench/run_exp.py.
    """

    def read(cells: Mapping[str, Any]) -> dict[str, Any]:
        tenant = needed("tenant", cells, text)
        rejected = needed("ttft_s", cells, number) == -1
        asked = needed("output_len", cells, count)
        return {
            "started_at": named("req_time_s", after, start, needed("req_time_s", cells, seconds)),
            "team": tenant,
            "adapter": tenant,
            "deployment": named("path", text, cells.get("path")),
            "input_tokens": needed("prompt_len", cells, count),
            "output_tokens": None if rejected else asked,
            "ttft_seconds": None if rejected else named("ttft_s", seconds, cells["ttft_s"]),
            "e2e_seconds": None if rejected else named("e2e_s", seconds, cells["e2e_s"]),
            "outcome": (Outcome.REJECTED if rejected else Outcome.OK).value,
            "attributes": {"vtc.output_len": str(asked)} if rejected else None,
        }

    return TraceFormat("vtc", ("tenant", "prompt_len", "output_len", "req_time_s", "ttft_s", "e2e_s"), read)


def named(name: str, read: Callable[..., T], *arguments: Any) -> T:
    """Read something; an error begins with the column's name."""
    try:
        return read(*arguments)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from None


def needed(name: str, cells: Mapping[str, Any], read: Callable[[Any], T | None]) -> T:
    """Read a cell that may not be empty."""
    value = None if absent(cells[name]) else named(name, read, cells[name])
    if value is None:
        raise ValueError(f"{name} is empty")
    return value


def write_runs(ids: Iterable[int]) -> str:
    """Write whole numbers compactly and without loss: [0, 14, 15, 16] is `0,14-16`."""
    runs: list[list[int]] = []
    for block in ids:
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
