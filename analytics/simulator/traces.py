"""Public traces as sources of arrivals and lengths: Azure 2023, Mooncake, ServeGen."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.simulator.arrivals import unit_gaps
from analytics.simulator.config import TraceConfig
from analytics.simulator.errors import SimulatorError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOONCAKE_BLOCK_TOKENS = 512
SERVEGEN_WINDOW_SECONDS = 600.0
SERVEGEN_LENGTHS_SECONDS = 21_600.0


@dataclass(frozen=True)
class TraceRequests:
    """Requests of a trace in order of arrival."""

    at: Floats
    """Unit: s after the first moment of the trace."""
    input_tokens: Ints
    output_tokens: Ints
    block_from: Ints
    """Request i has the prefix blocks `block_ids[block_from[i]:block_from[i + 1]]`."""
    block_ids: Ints
    block_tokens: int = MOONCAKE_BLOCK_TOKENS
    """Tokens of a block."""

    @property
    def block_counts(self) -> Ints:
        """Blocks of each request."""
        return np.diff(self.block_from)

    @property
    def distinct_blocks(self) -> int:
        """One more than the highest block id."""
        return int(self.block_ids.max()) + 1 if self.block_ids.size else 0

    def blocks_of(self, i: int) -> Ints:
        """The blocks of one request, from the start of its prompt."""
        return self.block_ids[self.block_from[i] : self.block_from[i + 1]]


def read_trace(config: TraceConfig, length_seconds: float, rng: np.random.Generator) -> TraceRequests:
    """Read a trace, speed it up or repeat it, and cut it to a length.

    Raises:
        SimulatorError: the file can't be read or is not of its format.
    """
    import polars as pl

    path = Path(config.path).expanduser()
    if not path.exists():
        raise SimulatorError(f"trace {path} does not exist; name the {config.format} file in `trace.path`")
    try:
        if config.format == "azure":
            trace = read_azure(path)
        elif config.format == "mooncake":
            trace = read_mooncake(path)
        else:
            trace = read_servegen(path, config.clients, length_seconds * config.speed, rng)
    except SimulatorError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise SimulatorError(f"{path} can't be read as a trace of format {config.format}: {error}") from error
    if trace.at.size == 0:
        raise SimulatorError(f"{path} holds no request")
    return cut(trace, config, length_seconds)


def cut(trace: TraceRequests, config: TraceConfig, length_seconds: float) -> TraceRequests:
    """Speed up, repeat and cut."""
    at = trace.at / config.speed
    period = float(at[-1]) + float(np.mean(np.diff(at))) if at.size > 1 else length_seconds
    times = max(1, math.ceil(length_seconds / period)) if config.repeat and period > 0 else 1
    at = np.concatenate([at + k * period for k in range(times)])
    counts = np.tile(trace.block_counts, times)
    kept = int(np.searchsorted(at, length_seconds))
    block_from = np.concatenate([[0], np.cumsum(counts[:kept])])
    return TraceRequests(
        at=at[:kept], input_tokens=np.tile(trace.input_tokens, times)[:kept],
        output_tokens=np.tile(trace.output_tokens, times)[:kept],
        block_from=block_from, block_ids=np.tile(trace.block_ids, times)[: block_from[-1]],
        block_tokens=trace.block_tokens,
    )  # fmt: skip


def read_azure(path: Path) -> TraceRequests:
    """Azure LLM inference trace 2023: TIMESTAMP, ContextTokens, GeneratedTokens."""
    import polars as pl

    frame = pl.read_csv(path, try_parse_dates=False)
    if missing := {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} - set(frame.columns):
        raise SimulatorError(f"{path} has no column {', '.join(sorted(missing))}: not an Azure trace")
    stamps = frame["TIMESTAMP"].str.slice(0, 26).str.to_datetime(time_unit="us", strict=True)
    frame = frame.with_columns(at=(stamps - stamps.min()).dt.total_microseconds() / 1e6).sort("at")
    return _plain(frame["at"].to_numpy(), frame["ContextTokens"].to_numpy(), frame["GeneratedTokens"].to_numpy())


def read_mooncake(path: Path) -> TraceRequests:
    """Mooncake FAST'25: a JSON object a line: timestamp (ms), input_length, output_length, hash_ids (512 tokens)."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    rows.sort(key=lambda row: row["timestamp"])
    counts = [len(row["hash_ids"]) for row in rows]
    return TraceRequests(
        at=np.array([row["timestamp"] / 1000.0 for row in rows]),
        input_tokens=np.array([row["input_length"] for row in rows], np.int64),
        output_tokens=np.array([row["output_length"] for row in rows], np.int64),
        block_from=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        block_ids=np.array([block for row in rows for block in row["hash_ids"]], np.int64),
    )


def read_servegen(
    folder: Path, clients: tuple[str, ...], length_seconds: float, rng: np.random.Generator
) -> TraceRequests:
    """ServeGen: each client's rate, CV and gap distribution by 600 s, and its token densities by 6 h, drawn from.

    Args:
        folder: With client_rates.parquet and client_token_pdfs.parquet.
        clients: `category/model/client_id` to take; empty takes the busiest client of language.
        length_seconds: How much of the trace is wanted.
        rng: Draws gaps and lengths.
    """
    import polars as pl

    keys = ("category", "model", "client_id")
    rates = pl.read_parquet(folder / "client_rates.parquet").cast({"client_id": pl.Int64})
    densities = pl.scan_parquet(folder / "client_token_pdfs.parquet").cast({"client_id": pl.Int64})
    wanted = densities.filter(pl.col("field").is_in(["input_tokens", "output_tokens"]))
    whole = wanted.select(keys).unique().collect()  # the largest clients' densities are not published
    busiest = rates.join(whole, on=keys).group_by(keys).agg(pl.col("rate_rps").mean())
    busiest = busiest.sort("rate_rps", *keys, descending=[True, False, False, False])
    known = {"/".join(map(str, row[:3])): row[:3] for row in busiest.iter_rows()}
    chosen = list(clients) or list(known)[:1]
    if unknown := set(chosen) - set(known):
        raise SimulatorError(
            f"no ServeGen client {', '.join(sorted(unknown))}; the busiest are {', '.join(list(known)[:5])}"
        )
    at, given, made = [], [], []
    for client in chosen:
        this = dict(zip(keys, known[client], strict=True))
        times = _servegen_times(rates.filter(**this).sort("t_s"), length_seconds, rng)
        density = wanted.filter(**this).collect()
        at.append(times)
        given.append(_servegen_lengths(density, "input_tokens", times, rng))
        made.append(_servegen_lengths(density, "output_tokens", times, rng))
    order = np.argsort(np.concatenate(at), kind="stable")
    return _plain(np.concatenate(at)[order], np.concatenate(given)[order], np.concatenate(made)[order])


def _servegen_times(windows: Any, length_seconds: float, rng: np.random.Generator) -> Floats:
    """Arrivals of one client: in each window a renewal process of the window's rate and gap distribution."""
    times = []
    for start, rate, pattern, shape in windows.select("t_s", "rate_rps", "pattern", "p1").iter_rows():
        if start >= length_seconds:
            break
        expected = rate * SERVEGEN_WINDOW_SECONDS
        if expected <= 0:
            continue
        count = int(expected + 8 * math.sqrt(expected) + 16)
        if pattern == "Gamma" and shape:
            gaps = rng.standard_gamma(shape, count) / shape
        elif pattern == "Weibull" and shape:
            gaps = rng.weibull(shape, count) / math.gamma(1 + 1 / shape)
        else:
            gaps = unit_gaps(rng, "poisson", 1.0, count)
        inside = np.cumsum(gaps) / rate
        times.append(start + inside[inside < SERVEGEN_WINDOW_SECONDS])
    return np.concatenate(times) if times else np.zeros(0)


def _servegen_lengths(density: Any, field: str, times: Floats, rng: np.random.Generator) -> Ints:
    """Lengths of one client's requests, each from the density of its window (the nearest earlier one there is)."""
    rows = density.filter(density["field"] == field).sort("window_s", "bin")
    lengths = np.ones(times.size, np.int64)
    starts = np.array(sorted(set(rows["window_s"])))
    if starts.size == 0:
        raise SimulatorError(f"a ServeGen client has no density of {field}; name others in `trace.clients`")
    which = np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)
    luck = rng.random(times.size)
    for k, start in enumerate(starts):
        mine = which == k
        if not mine.any():
            continue
        window = rows.filter(rows["window_s"] == start)
        upto = np.cumsum(window["prob"].to_numpy().astype(np.float64))
        picked = np.searchsorted(upto, luck[mine] * upto[-1], side="right")
        lengths[mine] = window["bin"].to_numpy()[np.minimum(picked, upto.size - 1)]
    return np.maximum(lengths, 1)


def _plain(at: Any, given: Any, made: Any) -> TraceRequests:
    """A trace that says nothing about prefixes."""
    none = np.zeros(0, np.int64)
    return TraceRequests(np.asarray(at, np.float64), np.asarray(given, np.int64), np.asarray(made, np.int64),
                         np.zeros(len(at) + 1, np.int64), none)  # fmt: skip
