"""A simulated fleet that goes on: rows are handed out when their time has come.

The world is simulated to a horizon at once, with incidents counted back from where it starts to be live, and rows are
released by their own time: a request when it has been received, a sample when it was taken. When the time asked for
passes the
horizon, a longer world is simulated from the same start, which holds the same rows before the horizon and more after
it.
So what `pull` gives depends on nothing but the configuration, the seed and the times: not on how often it is called.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from analytics.simulator.config import FleetConfig
from analytics.simulator.errors import SimulatorError
from analytics.simulator.fleet import simulate
from analytics.simulator.presets import load_preset

RELEASED_BY = {
    "requests": "received_at",
    "gpu_samples": "sampled_at",
    "metric_points": "observed_at",
    "events": "occurred_at",
    "replicas": "valid_from",
}
"""The column by which rows of a table are released; tables that are not here are given at the first pull."""


class FleetStream:
    """Rows of a simulated fleet as time goes by."""

    def __init__(
        self,
        preset_or_config: str | FleetConfig,
        seed: int,
        start: datetime,
        now: datetime,
        *,
        horizon: timedelta = timedelta(hours=2),
    ) -> None:
        """Simulate from `start` to `now` plus the horizon; incidents count back from `now`. All naive UTC.

        Raises:
            SimulatorError: the configuration can't be used, or `now` is not after `start`.
        """
        if now <= start:
            raise SimulatorError(f"a stream must start before now; it starts {start}, and now is {now}")
        given = preset_or_config
        self._config = given if isinstance(given, FleetConfig) else load_preset(given)
        self._seed, self._start, self._anchor, self._horizon = seed, start, now, horizon
        self._released: datetime | None = None
        self._simulate(now)

    def pull(self, now: datetime) -> dict[str, pa.Table]:
        """Rows by table that are due by `now` and were not given before; the first pull gives all history.

        Args:
            now: Naive UTC; going back gives nothing.
        """
        if self._released is not None and now <= self._released:
            return {name: table.slice(0, 0) for name, table in self._to_come.items()}
        if now > self.end:
            self._simulate(now)
        due = {}
        for name, table in self._to_come.items():
            if (column := RELEASED_BY.get(name)) is None:
                due[name], self._to_come[name] = table, table.slice(0, 0)
                continue
            ripe = pc.less_equal(table[column], pa.scalar(now, pa.timestamp("us")))
            due[name], self._to_come[name] = table.filter(ripe), table.filter(pc.invert(ripe))
        self._released = now
        return due

    def _simulate(self, now: datetime) -> None:
        """Simulate to a horizon after `now`, and keep what was not given yet."""
        end = now + self._horizon
        fleet = simulate(self._config, self._seed, self._start, end, anchor=self._anchor)
        self.end: datetime = fleet.end
        """The horizon."""
        self.truth: dict[str, pa.Table] = fleet.truth
        """The truth up to the horizon, what is to come included."""
        self._to_come = fleet.tables
        if self._released is not None:
            given = pa.scalar(self._released, pa.timestamp("us"))
            for name, table in self._to_come.items():
                column = RELEASED_BY.get(name)
                self._to_come[name] = table.filter(pc.greater(table[column], given)) if column else table.slice(0, 0)
