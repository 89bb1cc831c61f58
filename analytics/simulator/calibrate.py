"""Engine profiles against measured runs: replay their arrivals through the engine model, compare, fit the step times.

A run is one server's requests with their times (LLMServingSim's vLLM benchmark: `requests.jsonl` and
`timeseries.csv`). The
fit looks for the five seconds of `StepSeconds` by least squares on the logarithms of each request's TTFT and TPOT,
over some of
the requests; the others say whether it holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.simulator.engine import layout
from analytics.simulator.engine.run import run as run_engine
from analytics.simulator.errors import SimulatorError
from analytics.simulator.presets import Profile, StepSeconds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NEVER_SECONDS = 1e9


@dataclass(frozen=True)
class MeasuredRun:
    """One server's requests in order of arrival, and its gauges."""

    arrival: Floats
    """When the engine got each request. Unit: s after the first."""
    prompt: Ints
    """Unit: tokens."""
    output: Ints
    """Unit: tokens."""
    ttft: Floats
    """Arrival to first token. Unit: s."""
    tpot: Floats
    """Mean time per output token after the first. Unit: s."""
    last: Floats
    """When each request ended. Unit: s after the first arrival."""
    gauges: dict[str, Floats]
    """Time series: t (s after the first arrival, about), running, waiting, kv_cache_pct (0-100) and the throughputs."""


@dataclass(frozen=True)
class Replay:
    """The same requests through the engine model."""

    ttft: Floats
    tpot: Floats
    last: Floats
    telemetry: Any
    """`layout.BIN` of the one replica by second."""


def read_run(folder: Path) -> MeasuredRun:
    """Read one run of LLMServingSim's vLLM benchmark.

    Raises:
        SimulatorError: the files are not there or not of this form.
    """
    import polars as pl

    try:
        rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
        rows.sort(key=lambda row: row["queued_ts"])
        series = pl.read_csv(folder / "timeseries.csv").cast(pl.Float64)
        queued, first, last = (
            np.array([row[f"{name}_ts"] for row in rows]) for name in ("queued", "first_token", "last_token")
        )
        prompt, output = (np.array([row[f"{name}_toks"] for row in rows]) for name in ("input", "output"))
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise SimulatorError(f"{folder} is no run with requests.jsonl and timeseries.csv: {error}") from error
    return MeasuredRun(
        arrival=queued - queued[0], prompt=prompt, output=output, ttft=first - queued,
        tpot=(last - first) / np.maximum(output - 1, 1), last=last - queued[0],
        gauges={name: series[name].to_numpy() for name in series.columns},
    )  # fmt: skip


def replay(run: MeasuredRun, profile: Profile) -> Replay:
    """Send a run's requests, at their times, through one replica of the engine model; no prefix is shared."""
    count = run.arrival.size
    limits = np.zeros(1, layout.LIMITS)
    for name, value in {
        **profile.seconds.model_dump(), "max_seqs": profile.max_num_seqs, "max_tokens": profile.max_num_batched_tokens,
        "blocks": profile.kv_blocks, "block_size": profile.block_size, "max_queue": count + 1,
        "reserve_prompt": profile.reserve_prompt, "width": 1.0,
    }.items():  # fmt: skip
        limits[name] = value
    jobs, chain = np.zeros(count, layout.JOB), np.zeros(count, layout.LINK)
    jobs["arrival"], jobs["prompt"], jobs["output"], jobs["patience"] = (
        run.arrival,
        run.prompt,
        run.output,
        NEVER_SECONDS,
    )
    jobs["chain_from"], jobs["chain_to"] = np.arange(count), np.arange(count) + 1
    chain["segment"] = np.arange(count)
    end = float(run.last.max()) * 4 + 3600
    world = layout.new_world(limits, jobs, chain, count, 1, int(end) + 2, 4 * count + 4096, np.array([end, np.inf]))
    run_engine(world, np.zeros(0, layout.EVENT), end)
    tpot = (jobs["last"] - jobs["first"]) / np.maximum(run.output - 1, 1)
    return Replay(jobs["first"] - run.arrival, tpot, jobs["last"], world.tel[0].view(np.recarray))


@dataclass(frozen=True)
class Agreement:
    """One statistic, measured and simulated."""

    name: str
    """e.g. `ttft_mean_seconds`."""
    measured: float
    simulated: float

    @property
    def error_ratio(self) -> float:
        """Simulated over measured, less 1."""
        return self.simulated / self.measured - 1.0


def compare(run: MeasuredRun, replayed: Replay, which: Bools | None = None) -> list[Agreement]:
    """Mean and 95th percentile of TTFT and TPOT over some of the requests; default is all."""
    chosen = np.ones(run.arrival.size, np.bool_) if which is None else which
    return [
        Agreement(f"{name}_{label}_seconds", float(statistic(measured[chosen])), float(statistic(simulated[chosen])))
        for name, measured, simulated in (("ttft", run.ttft, replayed.ttft), ("tpot", run.tpot, replayed.tpot))
        for label, statistic in (("mean", np.mean), ("p95", lambda values: np.percentile(values, 95)))
    ]


def fit(run: MeasuredRun, profile: Profile, which: Bools) -> StepSeconds:
    """The step times under which the chosen requests come out as measured.

    Args:
        run: The run; all its requests are replayed.
        profile: Limits, and where the search begins.
        which: The requests that are looked at.
    """
    from scipy.optimize import least_squares

    names = ["step", "sequence", "context", "prefill", "attention"]
    begin = np.log([max(getattr(profile.seconds, name), 1e-12) for name in names])

    def residuals(logs: Floats) -> Floats:
        seconds = StepSeconds(**dict(zip(names, np.exp(logs).tolist(), strict=True)))
        there = replay(run, profile.model_copy(update={"seconds": seconds}))
        ttft = np.log((there.ttft[which] + 0.05) / (run.ttft[which] + 0.05))
        return np.concatenate([ttft, 3.0 * np.log(there.tpot[which] / run.tpot[which])])

    # the outcome is a step function of the parameters, seen from too near: no finer differences
    found = least_squares(residuals, begin, diff_step=0.002, loss="soft_l1", f_scale=0.1, max_nfev=60)
    return StepSeconds(**dict(zip(names, np.exp(found.x).tolist(), strict=True)))


@dataclass(frozen=True)
class MeasuredBatches:
    """Static batches of equal prompts (Splitwise's profile), medians over repetitions; one element a configuration."""

    prompt: Ints
    """Tokens of each prompt."""
    batch: Ints
    """Prompts that begin together."""
    output: Ints
    """Tokens generated by each."""
    ttft: Floats
    """Unit: s."""
    tpot: Floats
    """Unit: s."""


def read_batches(file: Path, model: str, hardware: str, tensor_parallel: int) -> MeasuredBatches:
    """Read one server's configurations from Splitwise's `perf_model.csv`.

    At tensor parallel 2 the batch of 64 is left out: measured, it takes less than a fifth of the batch of 32.

    Raises:
        SimulatorError: no such file, or no such server in it.
    """
    import polars as pl

    try:
        frame = pl.read_csv(file)
        frame = frame.filter(model=model, hardware=hardware, tensor_parallel=tensor_parallel)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SimulatorError(f"{file} is no Splitwise profile: {error}") from error
    if frame.is_empty():
        raise SimulatorError(f"{file} has no {model} on {hardware} with tensor parallel {tensor_parallel}")
    if tensor_parallel == 2:
        frame = frame.filter(pl.col("batch_size") < 64)
    keys = ("prompt_size", "batch_size", "token_size")
    frame = frame.group_by(keys).agg(pl.col("prompt_time", "token_time").median()).sort(keys)
    prompt, batch, output = (frame[key].to_numpy() for key in keys)
    return MeasuredBatches(
        prompt, batch, output, frame["prompt_time"].to_numpy() / 1e3, frame["token_time"].to_numpy() / 1e3
    )


def fit_batches(measured: MeasuredBatches, which: Bools) -> StepSeconds:
    """The step times of some configurations, by non-negative least squares; hidden tokens from a grid.

    Errors are weighed by 1/time**0.8: between relative, which forgets long prompts, and absolute, which forgets
    short ones.
    """
    from scipy.optimize import nnls

    prompt, batch, output = (
        np.asarray(a[which], np.float64) for a in (measured.prompt, measured.batch, measured.output)
    )
    ttft, tpot = measured.ttft[which], measured.tpot[which]
    zero, one = np.zeros_like(prompt), np.ones_like(prompt)
    times = np.concatenate([ttft, tpot])
    weights = np.concatenate([ttft**-0.8, ttft.mean() ** 0.2 / tpot])
    best, least = None, np.inf
    for hidden in (0.0, 128.0, 256.0, 384.0, 512.0, 768.0, 1024.0):
        prefill = np.stack(
            [one, one, np.maximum(batch * prompt - hidden, 0), batch * prompt**2 / 2, zero, zero], axis=1
        )
        decode = np.stack([one, zero, zero, zero, batch, batch * (prompt + output / 2)], axis=1)
        found, loss = nnls(np.concatenate([prefill, decode]) * weights[:, None], times * weights)
        if loss < least:
            best, least = (hidden, *found.tolist()), loss
    assert best is not None
    hidden, step, prefill_step, each, attention, sequence, context = best
    return StepSeconds(
        step=step, sequence=sequence, context=context, prefill=max(each, 1e-12), attention=attention,
        prefill_step=prefill_step, hidden_tokens=hidden,
    )  # fmt: skip


def replay_batches(measured: MeasuredBatches, profile: Profile) -> tuple[Floats, Floats]:
    """TTFT and TPOT of each configuration through the engine model, prefilled in one step as they were measured."""
    ttft, tpot = np.zeros(measured.prompt.size), np.zeros(measured.prompt.size)
    blocks = int((measured.batch * (measured.prompt + measured.output)).max()) // profile.block_size + 1024
    roomy = profile.model_copy(update={"max_num_batched_tokens": 1 << 30, "kv_blocks": blocks})
    for k, (prompt, batch, output) in enumerate(zip(measured.prompt, measured.batch, measured.output, strict=True)):
        alike = np.ones(batch, np.int64)
        run = MeasuredRun(
            arrival=np.zeros(batch), prompt=alike * prompt, output=alike * output, ttft=np.zeros(batch),
            tpot=np.zeros(batch), last=np.zeros(batch), gauges={},
        )  # fmt: skip
        there = replay(run, roomy)
        ttft[k], tpot[k] = there.ttft.mean(), there.tpot.mean()
    return ttft, tpot
