"""A double of `pynvml` for tests: GPUs that do what they are told, and fail as real ones do.

Give it to `gpus.Gpus(nvml)` in place of the module. Calls that a GPU has no value for raise `NVMLError`, like NVML.
"""

# ruff: noqa: D102 - the calls are those of pynvml

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final


class NVMLError(Exception):
    """As `pynvml.NVMLError`."""


@dataclass(slots=True)
class FakeGpu:
    """One GPU; NVML's own units. A call named in `unsupported` raises."""

    uuid: str = "GPU-00000000-0000-0000-0000-000000000001"
    name: str = "NVIDIA H100 80GB HBM3"
    power_milliwatts: int = 345_600
    power_limit_milliwatts: int = 700_000
    energy_millijoules: int = 5_000_000
    utilization_percent: int = 87
    memory_used_bytes: int = 2**33
    memory_total_bytes: int = 80 * 2**30
    temperature_celsius: int = 61
    memory_temperature_celsius: int = 66
    sm_clock_megahertz: int = 1980
    memory_clock_megahertz: int = 2619
    clock_event_reasons: int = 0x4
    ecc_corrected: int = 2
    ecc_uncorrected: int = 0
    remapped_rows: tuple[int, int, int, int] = (1, 0, 0, 0)
    pcie_replays: int = 0
    nvlink_errors: Mapping[int, int] = field(default_factory=lambda: {2: 3})
    """NVML's kind of error -> count, of each of two links."""
    gpm_percent: Mapping[int, float] | None = field(default_factory=dict)
    """GPM metric -> value as NVML tells it (percent, MiB/s); None: a GPU before Hopper."""
    unsupported: frozenset[str] = frozenset()
    lost: bool = False
    """Fallen off the bus: everything raises."""


class FakeNvml:
    """The calls of `pynvml` that fleetmeter makes."""

    NVMLError: Final = NVMLError
    NVML_SUCCESS = 0
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_FI_DEV_MEMORY_TEMP = 82
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC = 0
    NVML_NVLINK_MAX_LINKS = 36
    NVML_NVLINK_ERROR_DL_REPLAY, NVML_NVLINK_ERROR_DL_RECOVERY = 0, 1
    NVML_NVLINK_ERROR_DL_CRC_FLIT, NVML_NVLINK_ERROR_DL_CRC_DATA = 2, 3
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_GRAPHICS_UTIL, NVML_GPM_METRIC_SM_UTIL, NVML_GPM_METRIC_SM_OCCUPANCY = 1, 2, 3
    NVML_GPM_METRIC_ANY_TENSOR_UTIL, NVML_GPM_METRIC_DRAM_BW_UTIL = 5, 10
    NVML_GPM_METRIC_PCIE_TX_PER_SEC, NVML_GPM_METRIC_PCIE_RX_PER_SEC = 20, 21
    NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC = 60, 61
    nvmlEventTypeXidCriticalError = 8

    def __init__(self, *gpus: FakeGpu, broken: str = "") -> None:
        """Make it.

        Args:
            gpus: the host's GPUs.
            broken: what `nvmlInit` raises; empty: it works.
        """
        self.gpus = list(gpus)
        self.broken = broken
        self.events: list[tuple[FakeGpu, int]] = []
        """(GPU, XID) that have not been taken yet."""
        self.is_open = False
        self.samples_count = 0
        """GPM samples that were allocated and not freed."""

    def _of(self, gpu: FakeGpu, call: str, value: Any) -> Any:
        if gpu.lost:
            raise NVMLError("GPU is lost")
        if call in gpu.unsupported:
            raise NVMLError("Not Supported")
        return value

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError(self.broken)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        gpu: FakeGpu = self._of(self.gpus[index], "handle", self.gpus[index])
        return gpu

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> bytes:
        return gpu.uuid.encode()

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return str(self._of(gpu, "name", gpu.name))

    def nvmlEventSetCreate(self) -> str:
        return "events"

    def nvmlDeviceRegisterEvents(self, gpu: FakeGpu, _kind: int, _events: str) -> None:
        self._of(gpu, "events", None)

    def nvmlEventSetWait_v2(self, _events: str, _timeout: int) -> SimpleNamespace:
        if not self.events:
            raise NVMLError("Timeout")
        gpu, xid = self.events.pop(0)
        return SimpleNamespace(device=gpu, eventData=xid)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        return int(self._of(gpu, "power", gpu.power_milliwatts))

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:
        return int(self._of(gpu, "power_limit", gpu.power_limit_milliwatts))

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        return int(self._of(gpu, "energy", gpu.energy_millijoules))

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._of(gpu, "utilization", gpu.utilization_percent))

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(used=self._of(gpu, "memory", gpu.memory_used_bytes), total=gpu.memory_total_bytes)

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, _sensor: int) -> int:
        return int(self._of(gpu, "temperature", gpu.temperature_celsius))

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        clock = gpu.sm_clock_megahertz if kind == self.NVML_CLOCK_SM else gpu.memory_clock_megahertz
        return int(self._of(gpu, "clock", clock))

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> int:
        return int(self._of(gpu, "clock_event_reasons", gpu.clock_event_reasons))

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, fields: list[int]) -> list[SimpleNamespace]:
        value = self._of(gpu, "fields", gpu.memory_temperature_celsius)
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=value)) for _ in fields]

    def nvmlDeviceGetTotalEccErrors(self, gpu: FakeGpu, kind: int, _counter: int) -> int:
        corrected = kind == self.NVML_MEMORY_ERROR_TYPE_CORRECTED
        return int(self._of(gpu, "ecc", gpu.ecc_corrected if corrected else gpu.ecc_uncorrected))

    def nvmlDeviceGetRemappedRows(self, gpu: FakeGpu) -> tuple[int, int, int, int]:
        rows: tuple[int, int, int, int] = self._of(gpu, "remapped_rows", gpu.remapped_rows)
        return rows

    def nvmlDeviceGetPcieReplayCounter(self, gpu: FakeGpu) -> int:
        return int(self._of(gpu, "pcie_replays", gpu.pcie_replays))

    def nvmlDeviceGetNvLinkState(self, gpu: FakeGpu, link: int) -> int:
        return int(self._of(gpu, "nvlink", 1 if link < 2 else 0))

    def nvmlDeviceGetNvLinkErrorCounter(self, gpu: FakeGpu, _link: int, kind: int) -> int:
        return int(self._of(gpu, "nvlink", gpu.nvlink_errors.get(kind, 0)))

    def nvmlGpmQueryDeviceSupport(self, gpu: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(isSupportedDevice=int(self._of(gpu, "gpm", gpu.gpm_percent is not None)))

    def nvmlGpmSampleAlloc(self) -> SimpleNamespace:
        self.samples_count += 1
        return SimpleNamespace(gpu=None)

    def nvmlGpmSampleFree(self, _sample: SimpleNamespace) -> None:
        self.samples_count -= 1

    def nvmlGpmSampleGet(self, gpu: FakeGpu, sample: SimpleNamespace) -> SimpleNamespace:
        sample.gpu = self._of(gpu, "gpm_sample", gpu)
        return sample

    def c_nvmlGpmMetricsGet_t(self) -> SimpleNamespace:
        metrics = [SimpleNamespace(metricId=0, nvmlReturn=1, value=0.0) for _ in range(20)]
        return SimpleNamespace(version=0, numMetrics=0, sample1=None, sample2=None, metrics=metrics)

    def nvmlGpmMetricsGet(self, asked: SimpleNamespace) -> SimpleNamespace:
        for one in asked.metrics[: asked.numMetrics]:
            value = asked.sample2.gpu.gpm_percent.get(one.metricId)
            one.nvmlReturn, one.value = (0, value) if value is not None else (3, 0.0)
        return asked
