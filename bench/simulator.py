"""Simulated requests per minute of wall time on one core: the whole demo fleet to tables, and the engine model alone.

The compiled engine is warmed up first, and its cost is printed by itself: with an empty cache the first simulation
of an
installation waits for the compiler. Pinned to one core where the system allows it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta

from analytics.simulator.config import FleetConfig
from analytics.simulator.fleet import limits_of, run_engines, simulate
from analytics.simulator.incidents import Clock, controls
from analytics.simulator.presets import find_profile, load_preset
from analytics.simulator.workload import draw_workload

END = datetime(2026, 11, 20, 15)
COLD = """
import time
from datetime import datetime, timedelta
from analytics.simulator.fleet import simulate
end, begin, cpu = datetime(2026, 11, 20, 15), time.perf_counter(), time.process_time()
simulate("demo", 1, end - timedelta(hours=1), end)
wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
print(f"first simulation with an empty compiler cache: {wall:.1f} s wall, {cpu:.1f} s CPU")
"""


def main() -> int:
    """Print the best of a few runs."""
    parser = argparse.ArgumentParser(prog="bench simulator", description=__doc__)
    parser.add_argument("--days", type=float, default=14.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="also time the compiler, from an empty cache")
    given = parser.parse_args()
    if given.cold:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-c", COLD], check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    config = load_preset("demo")
    simulate(config, 1, END - timedelta(hours=1), END)
    report("whole fleet to tables", given.repeat, lambda: whole(config, given.days))
    report("engine model alone", given.repeat, lambda: engines(config, given.days))
    return 0


def whole(config: FleetConfig, days: float) -> tuple[int, float, float]:
    """Requests, wall seconds and CPU seconds of one simulation."""
    wall, cpu = time.perf_counter(), time.process_time()
    fleet = simulate(config, 1, END - timedelta(days=days), END)
    return fleet.tables["requests"].num_rows, time.perf_counter() - wall, time.process_time() - cpu


def engines(config: FleetConfig, days: float) -> tuple[int, float, float]:
    """The same, of the compiled engines, their requests drawn beforehand."""
    start = END - timedelta(days=days)
    clock = Clock(start, start, END, END)
    count, wall, cpu = 0, 0.0, 0.0
    for model in config.models:
        limits = limits_of(config, model, find_profile(model.profile))
        work = draw_workload(config, model, 1, clock, model.max_model_len)
        events = controls(config, model, clock)
        wall, cpu = wall - time.perf_counter(), cpu - time.process_time()
        run_engines(work, limits, model, events, clock)
        wall, cpu = wall + time.perf_counter(), cpu + time.process_time()
        count += work.turns.at.size
    return count, wall, cpu


def report(name: str, repeat: int, measure: object) -> None:
    """Print the best of `repeat` runs."""
    runs = [measure() for _ in range(repeat)]  # type: ignore[operator]
    count, wall, cpu = min(runs, key=lambda run: run[1])
    print(
        f"{name}: {count:,} requests in {wall:.2f} s wall ({cpu:.2f} s CPU), best of {repeat}: "
        f"{count / wall * 60 / 1e6:.1f} M requests/min of wall time, {count / cpu * 60 / 1e6:.1f} M/min of CPU time"
    )


if __name__ == "__main__":
    sys.exit(main())
