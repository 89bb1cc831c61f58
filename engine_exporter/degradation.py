"""What this version of vLLM does not let us know. Decided from the shape of what is there, not from a version number.

| vLLM | what lacks |
|---|---|
| 0.11, 0.12 | no stat-logger plugins: engine times of streams from the live state only, none of most whole answers |
| 0.13 to 0.21 | finished requests carry no id: the same, read from the live state |
| before 0.31 | preemptions of a request |

Source: the fields of `FinishedRequestStats` and `RequestStateStats` in the released packages 0.11.2 to 0.33.0, vLLM
pull request 39710 (the id), 0.13.0 (`vllm.stat_logger_plugins`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_STATS_MODULE = "vllm.v1.metrics.stats"


class Feature(StrEnum):
    """What the exporter knows where the engine's version allows it."""

    ENGINE_TIMES = "engine_times"
    """Queue, prefill, decode and finish reason of every request, from the plugin."""
    REQUEST_JOIN = "request_join"
    """The plugin's rows say which request they are of."""
    CACHED_TOKENS = "cached_tokens"
    """The plugin's rows say how many prompt tokens were cached."""
    PREEMPTIONS = "preemptions"
    """The plugin's rows say how often a request was preempted."""
    LIVE_STATES = "live_states"
    """Tokens that were spent on clients that left."""
    USAGE = "usage"
    """The front end's own usage of a request, for reasoning tokens and where all else lacks."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What was found in this process; None where it can't be told."""

    plugin: bool | None = None
    """A stat logger of ours was made."""
    finished_fields: frozenset[str] | None = None
    """The fields of `FinishedRequestStats`."""
    live_states: bool | None = None
    """The front end shows its running requests."""
    usage: bool | None = None
    """The front end left a usage for its middlewares."""


_NEEDED = {
    Feature.REQUEST_JOIN: "request_id",
    Feature.CACHED_TOKENS: "num_cached_tokens",
    Feature.PREEMPTIONS: "num_preemptions",
}


def degraded(shape: Shape) -> tuple[str, ...]:
    """The features that lack, by name, sorted."""
    lacking: set[Feature] = set()
    if shape.plugin is False:
        lacking.add(Feature.ENGINE_TIMES)
    elif shape.finished_fields is not None:
        lacking |= {feature for feature, name in _NEEDED.items() if name not in shape.finished_fields}
        if Feature.REQUEST_JOIN in lacking:
            lacking.add(Feature.ENGINE_TIMES)
    if shape.live_states is False:
        lacking.add(Feature.LIVE_STATES)
    if shape.usage is False:
        lacking.add(Feature.USAGE)
    return tuple(sorted(lacking))


def finished_fields(modules: Any = None) -> frozenset[str] | None:
    """The fields of vLLM's `FinishedRequestStats`; None outside vLLM. Imports nothing."""
    stats = (sys.modules if modules is None else modules).get(_STATS_MODULE)
    fields = getattr(getattr(stats, "FinishedRequestStats", None), "__dataclass_fields__", None)
    return frozenset(fields) if fields is not None else None
