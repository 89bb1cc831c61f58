"""Records this host's GPUs, idle and under a matrix load, as the sidecar sends them: for sample_data/ (needs a GPU).

Writes one JSON line about the whole, then one a sample: its phase, when it was, and the values of each GPU. The load is
half-precision matrix products by PyTorch, or by `--load COMMAND`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine_exporter.gpus import Gpus, NoGpusError

LOAD = """
import torch
size = 8192
a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
b = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
while True:
    for _ in range(50):
        c = a @ b
    torch.cuda.synchronize()
"""


def arguments() -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(prog="python -m bench record_gpu", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path, default=Path("sample_data/gpu_recording/recording.jsonl.gz"))
    parser.add_argument("--interval-seconds", type=float, default=0.5)
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--load-seconds", type=float, default=60)
    parser.add_argument("--load", default=f"{sys.executable} -c {shlex.quote(LOAD)}", help="what keeps the GPU busy")
    return parser.parse_args()


def samples(gpus: Gpus, phase: str, seconds: float, interval_seconds: float, began: float) -> Iterator[dict[str, Any]]:
    """Yield a line every interval, for so long. A GPU is told by its number, not by its UUID."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for sample in gpus.sample():
            yield {
                "offset_seconds": round(time.monotonic() - began, 3),
                "phase": phase,
                "gpu": sample.index,
                "values": sample.values,
                "series": [[one.name, dict(one.labels), one.value] for one in sample.series],
            }
        time.sleep(interval_seconds)


def main() -> int:
    """Record; 0 also where there is nothing to record."""
    options = arguments()
    try:
        gpus = Gpus()
    except NoGpusError as error:
        print(f"record_gpu: nothing to record: {error}", file=sys.stderr)
        return 0
    began = time.monotonic()
    first = {
        "kind": "gpu_recording",
        "version": 1,
        "gpus": [sample.name for sample in gpus.sample()],
        "interval_seconds": options.interval_seconds,
        "load": "bf16 matrix products of 8192 x 8192" if LOAD.strip()[:12] in options.load else options.load,
    }
    lines = [first, *samples(gpus, "idle", options.idle_seconds, options.interval_seconds, began)]
    load = subprocess.Popen(shlex.split(options.load))
    try:
        lines += samples(gpus, "load", options.load_seconds, options.interval_seconds, began)
        if load.poll() is not None:
            print(f"record_gpu: the load ended with {load.returncode}: nothing was written", file=sys.stderr)
            return 1
    finally:
        load.terminate()
        load.wait()
    lines += samples(gpus, "after", options.idle_seconds / 3, options.interval_seconds, began)
    gpus.close()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(options.output, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    for phase in ("idle", "load"):
        power = [line["values"].get("hw.power") for line in lines if line.get("phase") == phase]
        told = [one for one in power if one is not None]
        print(f"{phase:<6}{len(power)} samples, power {min(told, default=0):.0f} to {max(told, default=0):.0f} W")
    print(f"written: {options.output}")
    return 0
