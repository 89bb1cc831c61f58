"""`python -m collector.warm_up`: compiles the decoders into their cache, so that the first start need not.

Compiling takes some 50 s of CPU, once; a collector that starts without it is there at once, decodes with the protobuf
library, and is ready when the compiled decoders are.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from collector import point_decoding, trace_decoding


def traces() -> None:
    """Compile the decoder of traces."""
    trace_decoding.compiled_walker()


def points() -> None:
    """Compile the decoders of metrics."""
    point_decoding.warm_up()


if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for compiled in [pool.submit(one) for one in (traces, points)]:
            compiled.result()
