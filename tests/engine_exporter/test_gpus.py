"""GPUs, by NVML and by other exporters: canonical units, absent values, blanks, MIG, XIDs."""

from pathlib import Path

import pynvml
import pytest

from engine_exporter import semconv
from engine_exporter.gpu_activity import GpuActivity
from engine_exporter.gpu_pages import LatchedXids, samples_of
from engine_exporter.gpu_sample import GpuSample
from engine_exporter.gpus import Gpus, NoGpusError
from engine_exporter.normalise import normalise
from engine_exporter.nvml_double import FakeGpu, FakeNvml
from engine_exporter.page_text import read_page
from engine_exporter.xids import describe_xid

DATA = Path(__file__).parent / "data"
KNOWN = {one.name for one in (*semconv.GPU_METRICS, *semconv.GPU_SERIES)}


def opened(*gpus, **named):
    nvml = FakeNvml(*gpus, **named)
    return Gpus(nvml), nvml


def samples_from(name, order=1):
    lines, types = read_page((DATA / f"{name}.txt").read_text())
    lines = lines[::order]
    return {sample.uuid: sample for sample in samples_of(normalise(lines, types).gpu_lines)}


def check_sample(sample):
    """What holds of any GPU, fake or real."""
    assert set(sample.values) <= KNOWN
    for name, value in sample.values.items():
        assert value >= 0, name
    units = {one.name: one.unit for one in (*semconv.GPU_METRICS, *semconv.GPU_SERIES)}
    for name in sample.values:
        if units[name] == "1" and name not in ("infer.gpu.clock_event_reasons", "infer.gpu.xid", "infer.gpu.last_xid"):
            assert sample.values[name] <= 1.0, name
    assert sample.values["hw.gpu.memory.usage"] <= sample.values["hw.gpu.memory.limit"]
    assert 1 < sample.values["hw.power"] < 3000


def test_a_gpu_is_read_in_canonical_units():
    gpus, _ = opened(FakeGpu(uuid="GPU-1"))
    (sample,) = gpus.sample()
    gpus.close()
    assert (sample.uuid, sample.index, sample.name) == ("GPU-1", 0, "NVIDIA H100 80GB HBM3")
    assert sample.values == {
        "hw.power": 345.6, "hw.energy": 5000.0, "hw.gpu.utilization": 0.87, "hw.gpu.memory.usage": 2.0**33,
        "hw.gpu.memory.limit": 80 * 2.0**30, "hw.temperature": 61.0, "infer.gpu.sm_clock": 1.98e9,
        "infer.gpu.memory_clock": 2.619e9, "infer.gpu.clock_event_reasons": 4.0, "infer.gpu.power_limit": 700.0,
        "infer.gpu.memory_temperature": 66.0, "infer.gpu.ecc_corrected": 2.0, "infer.gpu.ecc_uncorrected": 0.0,
        "infer.gpu.remapped_rows_corrected": 1.0, "infer.gpu.remapped_rows_uncorrected": 0.0,
        "infer.gpu.row_remap_failure": 0.0, "infer.gpu.pcie_replays": 0.0,
    }  # fmt: skip
    check_sample(sample)


def test_what_a_gpu_does_not_give_is_absent_and_all_else_is_there():
    gpus, _ = opened(FakeGpu(unsupported=frozenset({"energy", "ecc", "nvlink", "fields", "gpm"})))
    (sample,) = gpus.sample()
    assert not {"hw.energy", "infer.gpu.ecc_corrected", "infer.gpu.memory_temperature"} & set(sample.values)
    assert sample.series == ()
    assert sample.values["hw.power"] == 345.6


def test_activity_needs_two_looks_and_is_a_share():
    shares = {1: 97.0, 2: 72.5, 3: 40.0, 5: 31.0, 10: 64.0, 20: 100.0}
    gpus, nvml = opened(FakeGpu(gpm_percent=shares))
    (first,), (second,) = gpus.sample(), gpus.sample()
    assert "infer.gpu.sm_active" not in first.values
    assert second.values["infer.gpu.sm_active"] == pytest.approx(0.725)
    assert second.values["infer.gpu.dram_active"] == pytest.approx(0.64)
    assert second.values["infer.gpu.pcie_transmit"] == 100 * 2**20
    assert "infer.gpu.pcie_receive" not in second.values
    check_sample(second)
    gpus.close()
    assert (nvml.samples_count, nvml.is_open) == (0, False)


def test_pynvml_takes_what_is_asked_of_gpm():
    """Without a driver the call fails, as NVML's own error: names, fields and their types are those of pynvml."""
    activity = GpuActivity(pynvml, None, pynvml.c_nvmlGpmSample_t(), pynvml.c_nvmlGpmSample_t())
    assert activity._between() == {}


def test_a_gpu_before_hopper_has_no_activity():
    gpus, _ = opened(FakeGpu(gpm_percent=None))
    assert all("infer.gpu.sm_active" not in sample.values for _ in range(2) for sample in gpus.sample())


def test_xids_are_told_once_and_of_several_the_gravest():
    first, second = FakeGpu(uuid="GPU-1"), FakeGpu(uuid="GPU-2")
    gpus, nvml = opened(first, second)
    nvml.events += [(first, 31), (first, 79), (first, 45), (second, 13)]
    assert [sample.values.get("infer.gpu.xid") for sample in gpus.sample()] == [79.0, 13.0]
    assert [sample.values.get("infer.gpu.xid") for sample in gpus.sample()] == [None, None]


def test_a_gpu_that_is_lost_hides_no_other():
    gone, here = FakeGpu(uuid="GPU-1", lost=True), FakeGpu(uuid="GPU-2")
    gpus, _ = opened(gone, here)
    assert [sample.uuid for sample in gpus.sample()] == ["GPU-2"]
    here.lost = True
    (sample,) = gpus.sample()
    assert sample.values == {}


@pytest.mark.parametrize(
    ("gpus", "broken", "says"), [((FakeGpu(),), "Driver Not Loaded", "Driver Not Loaded"), ((), "", "no GPU")]
)
def test_without_gpus_the_reason_is_said(gpus, broken, says):
    with pytest.raises(NoGpusError, match=says):
        Gpus(FakeNvml(*gpus, broken=broken))


def test_dcgms_page_gives_one_sample_a_gpu_without_its_blanks():
    found = samples_from("dcgm")
    one, other = found["GPU-aaaa"], found["GPU-bbbb"]
    assert one.values["hw.energy"] == 123_456_789.0
    assert one.values["hw.gpu.memory.usage"] == 76000 * 2**20
    assert one.values["hw.gpu.memory.limit"] == (76000 + 5000 + 559) * 2**20
    assert one.values["hw.gpu.utilization"] == 0.98
    assert one.values["infer.gpu.tensor_active"] == 0.31
    assert one.labels == {"host.name": "node-7", "infer.replica": "llama-0"}
    assert one.name == "NVIDIA H100 80GB HBM3"
    assert not {"hw.energy", "infer.gpu.memory_temperature", "infer.gpu.dram_active"} & set(other.values)
    for sample in found.values():
        check_sample(sample)


def test_the_power_of_a_gpu_in_slices_counts_once_and_its_slices_add_up():
    (sample,) = samples_from("dcgm_mig").values()
    assert sample.values["hw.power"] == 400.0
    assert sample.values["hw.energy"] == 5000.0
    assert sample.values["hw.gpu.memory.usage"] == 40000 * 2**20
    assert sample.values["infer.gpu.graphics_active"] == pytest.approx((3 * 1.0 + 4 * 0.5) / 7)
    slices = {one.labels[semconv.MIG_ID]: one.value for one in sample.series if one.name.endswith("graphics_active")}
    assert slices == {"1": 1.0, "2": 0.5}
    assert semconv.REPLICA not in sample.labels, "two pods share it"
    check_sample(sample)


@pytest.mark.parametrize("order", [1, -1])
def test_amds_page_takes_power_from_the_first_partition_and_knows_its_units(order):
    (sample,) = samples_from("amd", order).values()
    assert (sample.uuid, sample.name) == ("SN-1", "Instinct MI300X")
    assert sample.values["hw.power"] == 748.0
    assert sample.values["hw.energy"] == 1.4e6
    assert sample.values["hw.gpu.memory.usage"] == 150_000 * 2**20
    assert sample.values["infer.gpu.sm_clock"] == 2.1e9
    assert sample.values["infer.gpu.tensor_active"] == 0.375
    check_sample(sample)


def test_a_latched_xid_is_news_only_when_it_changes():
    watch = LatchedXids()
    told = []
    for code in (79, 79, 0, 31, 31, 79):
        sample = watch.take(GpuSample("GPU-1", 0, None, {"infer.gpu.last_xid": float(code)}))
        told.append(sample.values.get("infer.gpu.xid"))
    assert told == [None, None, None, 31.0, None, 79.0]


@pytest.mark.parametrize(
    ("code", "severity", "says"),
    [
        (79, "fatal", "XID 79: GPU has fallen off the bus; restart the machine"),
        (31, "app", "XID 31: page fault in GPU memory; restart the server that was using it"),
        (63, "info", "XID 63: a memory row was remapped; nothing to do by itself"),
        (4242, "unknown", "XID 4242: not in NVIDIA's catalogue as of 2026"),
    ],
)
def test_an_xid_is_told_in_words(code, severity, says):
    xid = describe_xid(code)
    assert (xid.severity, xid.title) == (severity, says)


@pytest.mark.gpu
def test_a_real_gpu_is_read():
    gpus = Gpus()
    gpus.sample()
    for sample in gpus.sample():
        assert sample.uuid.startswith("GPU-")
        check_sample(sample)
    gpus.close()


def test_the_double_has_every_call_and_constant_of_the_real_one():
    named = {name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML", "c_nvml"))}
    for name in named:
        assert hasattr(pynvml, name), name
        real, fake = getattr(pynvml, name), getattr(FakeNvml, name)
        if isinstance(fake, int):
            assert real == fake, name
