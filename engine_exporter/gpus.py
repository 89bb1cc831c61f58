"""The GPUs of this host by NVML, one sample each. Where there is no NVML, the reason why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine_exporter.errors import ExporterError


class NoGpusError(ExporterError):
    """There is no NVML here, or it sees no GPU."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU now. A value that the GPU does not give is None."""

    uuid: str
    index: int
    name: str | None
    values: dict[str, float] = field(default_factory=dict)
    """Canonical metric name -> value, in the unit of `semconv.GPU_METRICS`."""


class Gpus:
    """NVML, open. XIDs are taken from its events, so only those since it was opened are seen."""

    def __init__(self, nvml: Any = None) -> None:
        """Open it.

        Args:
            nvml: the module `pynvml`; for tests, a double of it.

        Raises:
            NoGpusError: no library, no driver or no GPU.
        """
        nvml = self._nvml = _module() if nvml is None else nvml
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except nvml.NVMLError as error:
            raise NoGpusError(f"NVML does not work here: {error}") from error
        if not self._handles:
            raise NoGpusError("NVML sees no GPU")
        self._uuids = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in self._handles]
        self._xids: dict[str, int] = {}
        self._events = self._watch()

    def _watch(self) -> Any:
        """Ask for XID events where the driver gives them."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            for handle in self._handles:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
            return events
        except nvml.NVMLError:
            return None

    def sample(self) -> list[GpuSample]:
        """Read every GPU once."""
        self._take_xids()
        return [self._read(index, handle) for index, handle in enumerate(self._handles)]

    def _take_xids(self) -> None:
        nvml = self._nvml
        if self._events is None:
            return
        while True:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError:  # a time-out: nothing more has happened
                return
            self._xids[_text(nvml.nvmlDeviceGetUUID(event.device))] = int(event.eventData)

    def _read(self, index: int, handle: Any) -> GpuSample:
        nvml = self._nvml
        readers: dict[str, Callable[[], float]] = {
            "hw.power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "hw.energy": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,
            "hw.gpu.utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "hw.gpu.memory.usage": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "hw.gpu.memory.limit": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
            "hw.temperature": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "infer.gpu.sm_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6,
            "infer.gpu.clock_event_reasons": lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        }
        values: dict[str, float] = {}
        for name, read in readers.items():
            try:
                values[name] = float(read())
            except nvml.NVMLError:  # not supported by this GPU, or not allowed here: the value stays absent
                continue
        if (xid := self._xids.pop(self._uuids[index], None)) is not None:
            values["infer.gpu.xid"] = float(xid)
        return GpuSample(self._uuids[index], index, self._name(handle), values)

    def _name(self, handle: Any) -> str | None:
        try:
            return _text(self._nvml.nvmlDeviceGetName(handle))
        except self._nvml.NVMLError:
            return None

    def close(self) -> None:
        """Let NVML go."""
        self._nvml.nvmlShutdown()


def _module() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise NoGpusError("nvidia-ml-py is not installed; pip install 'fleetmeter[exporter]'") from error
    return pynvml


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
