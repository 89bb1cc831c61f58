"""The plugin that vLLM loads by its entry point (group `vllm.stat_logger_plugins`): the engine's half.

vLLM calls `record` on its event loop after every engine step, and an exception in it ends the server. So it does the
least it can, keeps what finished, and swallows and counts whatever goes wrong.
"""

from __future__ import annotations

import logging
from typing import Any

from engine_exporter.engine_half import FACTS, FINISHED, EngineFacts, FinishedRows

try:
    from vllm.v1.metrics.loggers import StatLoggerBase
except ImportError:  # outside vLLM, e.g. in tests: the same class without its abstract base
    StatLoggerBase = object

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply


class FleetmeterStatLogger(StatLoggerBase):  # type: ignore[misc]
    """Keeps the statistics of finished requests for the middleware of the same process."""

    faults_count = 0
    """Errors of our own that were swallowed, in this process."""

    def __init__(
        self,
        vllm_config: Any = None,
        engine_index: int = 0,
        *,
        finished: FinishedRows = FINISHED,
        facts: EngineFacts = FACTS,
    ) -> None:
        """Take vLLM's two arguments; the others are for tests."""
        self._finished = finished
        parallel = getattr(vllm_config, "parallel_config", None)
        device = getattr(getattr(vllm_config, "device_config", None), "device_type", None)
        world = getattr(parallel, "world_size_across_dp", None) or getattr(parallel, "world_size", None)
        if isinstance(world, int) and device not in (None, "cpu"):
            facts.gpu_count = world

    def record(self, *arguments: Any, **named: Any) -> None:
        """Keep the finished requests of one engine step. Arguments by name or place, whatever the version has."""
        try:
            iteration = named["iteration_stats"] if "iteration_stats" in named else arguments[1]
            if iteration is not None:
                for stats in iteration.finished_requests:
                    self._finished.put(stats)
        except Exception:
            FleetmeterStatLogger.faults_count += 1
            if FleetmeterStatLogger.faults_count == 1:
                log.exception(
                    "fleetmeter could not read the engine's statistics; requests go on, rows lack the engine's half"
                )

    def log_engine_initialized(self) -> None:
        """Required by vLLM; nothing to say."""

    def log(self) -> None:
        """Called every few seconds; nothing to say."""

    def record_sleep_state(self, *arguments: Any, **named: Any) -> None:
        """Sleep is told by the engine's own metrics."""
