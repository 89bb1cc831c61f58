"""Prometheus text to rows. Pure."""

from __future__ import annotations
from typing import Any
from collector.decoded import Decoded


def decode_scrape(body: bytes, meta: dict[str, Any]) -> Decoded:
    raise NotImplementedError
