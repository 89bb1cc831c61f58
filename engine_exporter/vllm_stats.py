"""The plugin that vLLM loads by its entry point (group `vllm.stat_logger_plugins`): the engine's half.

vLLM calls `record` on its event loop after every engine step, and an exception in it ends the server. So it does the
least it can, keeps what finished, and swallows and counts whatever goes wrong.
"""

from __future__ import annotations

import atexit
import logging
from typing import Any

from engine_exporter.engine_half import FACTS, FINISHED, EngineFacts, FinishedRows
from engine_exporter.step_board import SLOTS, StepBoard, board_path
from engine_exporter.step_settling import StepShare
from engine_exporter.vllm_step_stats import EngineLimits
from engine_exporter.vllm_steps import EngineSteps

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
        """Take vLLM's two arguments; the others are for tests. Never raises: the server would not start."""
        self._finished = finished
        self._steps: EngineSteps | None = None
        try:
            limits = limits_of(vllm_config)
            self._steps = EngineSteps(limits, board=_board(vllm_config, limits.processes, engine_index))
            facts.steps[engine_index] = self._steps
        except Exception:  # noqa: BLE001 - an exception would keep the server from starting
            self._fault("the engine's limits; rows lack their share of its steps")
        try:
            facts.gpu_count = gpu_count_of(vllm_config) or facts.gpu_count
        except Exception:  # noqa: BLE001 - an exception would keep the server from starting
            self._fault("how many GPUs the engine has")

    def record(self, *arguments: Any, **named: Any) -> None:
        """Keep the finished requests of one engine step. Arguments by name or place, whatever the version has."""
        iteration = None
        try:
            iteration = named["iteration_stats"] if "iteration_stats" in named else arguments[1]
            scheduler = named["scheduler_stats"] if "scheduler_stats" in named else arguments[0]
            if self._steps is not None:
                self._steps.record(scheduler, iteration)
        except Exception:  # noqa: BLE001 - an exception would end the server
            self._fault("the engine's steps; rows lack their share of them")
        try:
            if iteration is not None:
                for stats in iteration.finished_requests:
                    self._finished.put(stats, self._share(stats))
        except Exception:  # noqa: BLE001 - an exception would end the server
            self._fault("the engine's statistics; rows lack the engine's half")

    def _share(self, stats: Any) -> StepShare | None:
        try:
            return None if self._steps is None else self._steps.share(stats)
        except Exception:  # noqa: BLE001 - the row is worth more than its share
            self._fault("a request's share of the steps")
            return None

    def _fault(self, what: str) -> None:
        """Count an error of our own, from inside its `except`. The first is logged with its traceback."""
        FleetmeterStatLogger.faults_count += 1
        if FleetmeterStatLogger.faults_count == 1:
            log.exception("fleetmeter could not read %s; requests go on", what)

    def log_engine_initialized(self) -> None:
        """Required by vLLM; nothing to say."""

    def log(self) -> None:
        """Called every few seconds; nothing to say."""

    def record_sleep_state(self, *arguments: Any, **named: Any) -> None:
        """Sleep is told by the engine's own metrics."""


def gpu_count_of(vllm_config: Any) -> int | None:
    """GPUs of the engines that this server runs, as vLLM's configuration says; None without any, or where unknown.

    With data parallelism behind a load balancer of one's own (`--data-parallel-external-lb`,
    `--data-parallel-hybrid-lb`) every server still knows of all ranks, but runs one, or those of its node.
    """
    device = getattr(getattr(vllm_config, "device_config", None), "device_type", None)
    parallel = getattr(vllm_config, "parallel_config", None)
    world = _count(getattr(parallel, "world_size", None))
    if device in (None, "cpu") or not world:
        return None
    if getattr(parallel, "data_parallel_external_lb", False) is True:
        return world
    if getattr(parallel, "data_parallel_hybrid_lb", False) is True:
        return world * (_count(getattr(parallel, "data_parallel_size_local", None)) or 1)
    return _count(getattr(parallel, "world_size_across_dp", None)) or world


def limits_of(vllm_config: Any) -> EngineLimits:
    """What vLLM's configuration says about a step; what a version lacks is left at its default."""
    scheduler = getattr(vllm_config, "scheduler_config", None)
    parallel = getattr(vllm_config, "parallel_config", None)
    chunked = getattr(scheduler, "enable_chunked_prefill", getattr(scheduler, "chunked_prefill_enabled", True))
    budget = getattr(scheduler, "max_num_batched_tokens", None)
    processes = getattr(parallel, "_api_process_count", 1)
    return EngineLimits(
        batch_tokens=budget if chunked and isinstance(budget, int) else None,
        chunk_tokens=_count(getattr(scheduler, "long_prefill_token_threshold", 0)),
        asynchronous=getattr(scheduler, "async_scheduling", False) is True,
        processes=max(_count(processes), 1),
    )


def _board(vllm_config: Any, processes: int, engine_index: int) -> StepBoard | None:
    """Open what several API processes tell each other; without it each takes the others to be like itself."""
    rank = getattr(getattr(vllm_config, "parallel_config", None), "_api_process_rank", None)
    if processes < 2 or not isinstance(rank, int) or not 0 <= rank < min(processes, SLOTS):
        return None
    try:
        board = StepBoard(board_path(engine_index), rank)
    except (OSError, ValueError, AttributeError) as error:
        log.warning("fleetmeter: the API processes can't tell each other about steps (%s); shares are rougher", error)
        return None
    board.limit(processes)
    atexit.register(board.close)
    return board


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
