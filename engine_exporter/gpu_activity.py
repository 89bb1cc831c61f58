"""What the parts of a GPU were busy with between two looks: NVML's GPU performance monitoring (GPM), Hopper and later.

"Utilisation" says only that some kernel ran. Decode is bound by memory and prefill by the tensor pipes, so these shares
tell what a GPU was doing. GPM needs two samples; the first look gives nothing.
"""

from __future__ import annotations

from typing import Any, Final

PERCENT, MEBIBYTES = 0.01, float(2**20)
METRICS: Final = {
    "infer.gpu.graphics_active": ("NVML_GPM_METRIC_GRAPHICS_UTIL", PERCENT),
    "infer.gpu.sm_active": ("NVML_GPM_METRIC_SM_UTIL", PERCENT),
    "infer.gpu.sm_occupancy": ("NVML_GPM_METRIC_SM_OCCUPANCY", PERCENT),
    "infer.gpu.tensor_active": ("NVML_GPM_METRIC_ANY_TENSOR_UTIL", PERCENT),
    "infer.gpu.dram_active": ("NVML_GPM_METRIC_DRAM_BW_UTIL", PERCENT),
    "infer.gpu.pcie_transmit": ("NVML_GPM_METRIC_PCIE_TX_PER_SEC", MEBIBYTES),
    "infer.gpu.pcie_receive": ("NVML_GPM_METRIC_PCIE_RX_PER_SEC", MEBIBYTES),
    "infer.gpu.nvlink_transmit": ("NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC", MEBIBYTES),
    "infer.gpu.nvlink_receive": ("NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC", MEBIBYTES),
}
"""Canonical name -> (NVML's metric, factor to the canonical unit). Source: nvml.h, nvmlGpmMetricId_t."""


class GpuActivity:
    """Two samples of one GPU, of which the older is replaced at every look."""

    def __init__(self, nvml: Any, handle: Any, older: Any, newer: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._older, self._newer = older, newer
        self._has_older = False

    @classmethod
    def open(cls, nvml: Any, handle: Any) -> GpuActivity | None:
        """Return it for a GPU that supports GPM, else None."""
        try:
            if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                return None
            return cls(nvml, handle, nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc())
        except (nvml.NVMLError, AttributeError):
            return None

    def read(self) -> dict[str, float]:
        """Return the shares and rates since the last look, by canonical name; nothing at the first."""
        nvml = self._nvml
        try:
            nvml.nvmlGpmSampleGet(self._handle, self._newer)
        except nvml.NVMLError:
            self._has_older = False
            return {}
        values = self._between() if self._has_older else {}
        self._older, self._newer, self._has_older = self._newer, self._older, True
        return values

    def _between(self) -> dict[str, float]:
        nvml = self._nvml
        wanted = [(name, getattr(nvml, metric), factor) for name, (metric, factor) in METRICS.items()]
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(wanted)
        asked.sample1, asked.sample2 = self._older, self._newer
        for place, (_, metric, _) in enumerate(wanted):
            asked.metrics[place].metricId = metric
        try:
            nvml.nvmlGpmMetricsGet(asked)
        except nvml.NVMLError:
            return {}
        return {
            name: asked.metrics[place].value * factor
            for place, (name, _, factor) in enumerate(wanted)
            if asked.metrics[place].nvmlReturn == nvml.NVML_SUCCESS and asked.metrics[place].value >= 0
        }

    def close(self) -> None:
        """Free the samples."""
        for sample in (self._older, self._newer):
            self._nvml.nvmlGpmSampleFree(sample)
