"""The GPUs of this host by NVML, one sample each. Where there is no NVML, the reason why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from engine_exporter.errors import ExporterError
from engine_exporter.gpu_activity import GpuActivity
from engine_exporter.gpu_sample import GpuSample, GpuSeries
from engine_exporter.xids import describe_xid

NVLINK_ERRORS: Final = {
    "replay": "NVML_NVLINK_ERROR_DL_REPLAY",
    "recovery": "NVML_NVLINK_ERROR_DL_RECOVERY",
    "crc_flit": "NVML_NVLINK_ERROR_DL_CRC_FLIT",
    "crc_data": "NVML_NVLINK_ERROR_DL_CRC_DATA",
}
GRAVITY: Final = {"info": 0, "unknown": 1, "app": 2, "fatal": 3}
EVENTS_MAX: Final = 1000
"""XIDs taken in one round at most: a GPU may log them without end."""


class NoGpusError(ExporterError):
    """There is no NVML here, or it sees no GPU."""


@dataclass(frozen=True, slots=True)
class _Gpu:
    handle: Any
    index: int
    uuid: str
    name: str | None
    activity: GpuActivity | None


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
        except nvml.NVMLError as error:
            raise NoGpusError(f"NVML does not work here: {error}") from error
        found = [self._open(index) for index in range(count)]
        self._gpus = [gpu for gpu in found if gpu is not None]
        if not self._gpus:
            raise NoGpusError("NVML sees no GPU")
        self._xids: dict[str, int] = {}
        self._events = self._watch()

    def _open(self, index: int) -> _Gpu | None:
        """Open one GPU; one that is lost does not hide the others."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError:
            return None
        name = self._ask(lambda: nvml.nvmlDeviceGetName(handle))
        activity = GpuActivity.open(nvml, handle)
        return _Gpu(handle, index, uuid, _text(name) if name is not None else None, activity)

    def _watch(self) -> Any:
        """Ask for XID events where the driver gives them."""
        nvml = self._nvml
        events = self._ask(nvml.nvmlEventSetCreate)
        if events is None:
            return None
        for gpu in self._gpus:
            self._ask(partial(nvml.nvmlDeviceRegisterEvents, gpu.handle, nvml.nvmlEventTypeXidCriticalError, events))
        return events

    def sample(self) -> list[GpuSample]:
        """Read every GPU once."""
        self._take_xids()
        return [self._read(gpu) for gpu in self._gpus]

    def _take_xids(self) -> None:
        """Take what has happened since the last look; of several XIDs of one GPU the gravest counts."""
        nvml = self._nvml
        if self._events is None:
            return
        for _ in range(EVENTS_MAX):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid, code = _text(nvml.nvmlDeviceGetUUID(event.device)), int(event.eventData)
            except nvml.NVMLError:  # a time-out: nothing more has happened
                return
            before = self._xids.get(uuid)
            if before is None or gravity(code) >= gravity(before):
                self._xids[uuid] = code

    def _read(self, gpu: _Gpu) -> GpuSample:
        values: dict[str, float] = {}
        for name, read in self._readers(gpu.handle).items():
            value = self._ask(read)
            if value is not None:
                values[name] = float(value)
        if gpu.activity is not None:
            values.update(gpu.activity.read())
        if (xid := self._xids.pop(gpu.uuid, None)) is not None:
            values["infer.gpu.xid"] = float(xid)
        return GpuSample(gpu.uuid, gpu.index, gpu.name, values, series=self._nvlink_errors(gpu.handle))

    def _readers(self, handle: Any) -> dict[str, Callable[[], float | None]]:
        """Canonical name -> how to read it, in the unit of `semconv`."""
        nvml = self._nvml
        return {
            "hw.power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "hw.energy": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,
            "hw.gpu.utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "hw.gpu.memory.usage": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "hw.gpu.memory.limit": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
            "hw.temperature": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "infer.gpu.sm_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6,
            "infer.gpu.memory_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * 1e6,
            "infer.gpu.clock_event_reasons": lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
            "infer.gpu.power_limit": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            "infer.gpu.memory_temperature": lambda: self._field(handle, nvml.NVML_FI_DEV_MEMORY_TEMP),
            "infer.gpu.ecc_corrected": lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_VOLATILE_ECC
            ),
            "infer.gpu.ecc_uncorrected": lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
            "infer.gpu.remapped_rows_corrected": lambda: nvml.nvmlDeviceGetRemappedRows(handle)[0],
            "infer.gpu.remapped_rows_uncorrected": lambda: nvml.nvmlDeviceGetRemappedRows(handle)[1],
            "infer.gpu.row_remap_failure": lambda: nvml.nvmlDeviceGetRemappedRows(handle)[3],
            "infer.gpu.pcie_replays": lambda: nvml.nvmlDeviceGetPcieReplayCounter(handle),
        }

    def _field(self, handle: Any, field_id: int) -> float | None:
        """Read one of the numbered fields."""
        (value,) = self._nvml.nvmlDeviceGetFieldValues(handle, [field_id])
        return float(value.value.uiVal) if value.nvmlReturn == self._nvml.NVML_SUCCESS else None

    def _nvlink_errors(self, handle: Any) -> tuple[GpuSeries, ...]:
        """Count the errors of all links that are up, by kind."""
        nvml = self._nvml
        links = [
            link
            for link in range(nvml.NVML_NVLINK_MAX_LINKS)
            if self._ask(partial(nvml.nvmlDeviceGetNvLinkState, handle, link)) == 1
        ]
        series = []
        for kind, constant in NVLINK_ERRORS.items():
            counter = getattr(nvml, constant)
            counts = [self._ask(partial(nvml.nvmlDeviceGetNvLinkErrorCounter, handle, link, counter)) for link in links]
            told = [count for count in counts if count is not None]
            if told:
                series.append(GpuSeries("infer.gpu.nvlink_errors", float(sum(told)), {"error": kind}))
        return tuple(series)

    def _ask(self, read: Callable[[], Any]) -> Any:
        """Return what NVML says; None where this GPU or driver can't, or we may not."""
        try:
            return read()
        except (self._nvml.NVMLError, AttributeError):  # AttributeError: an older nvidia-ml-py lacks the call
            return None

    def close(self) -> None:
        """Let NVML go."""
        for gpu in self._gpus:
            if gpu.activity is not None:
                gpu.activity.close()
        self._nvml.nvmlShutdown()


def gravity(code: int) -> int:
    """Order XIDs by what they mean for the GPU."""
    return GRAVITY[describe_xid(code).severity]


def _module() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise NoGpusError("nvidia-ml-py is not installed; pip install 'fleetmeter[exporter]'") from error
    return pynvml


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
