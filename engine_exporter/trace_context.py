"""W3C trace context: read the caller's, write ours. Pure.

A request is measured whether its caller sampled it or not: cost must not be switched off from outside.
Source: W3C Trace Context Level 2, sections 3.2 and 3.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine_exporter.semconv import TRACESTATE_KEY

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.DOTALL)
_MEMBERS_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Parent:
    """The span of the caller."""

    trace_id: int
    """128 bits, not 0."""
    span_id: int
    """64 bits, not 0."""
    sampled: bool
    """Whether the caller records its part of the trace."""


def parse_traceparent(value: bytes) -> Parent | None:
    """Read a `traceparent`; None where it is malformed, in which case the request starts its own trace."""
    match = _TRACEPARENT.match(value.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, tail = match.groups()
    if version == b"ff" or (version == b"00" and tail):
        return None
    parent = Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))
    return parent if parent.trace_id and parent.span_id else None


def traceparent(trace_id: int, span_id: int) -> bytes:
    """Write a sampled `traceparent`, so that the engine's own span is recorded and becomes our child."""
    return b"00-%032x-%016x-01" % (trace_id, span_id)


def tracestate(caller: bytes, span_id: int) -> bytes:
    """Put our member in front of the caller's list: it marks the request as measured."""
    own = f"{TRACESTATE_KEY}={span_id:016x}".encode()
    if not caller:
        return own
    prefix = f"{TRACESTATE_KEY}=".encode()
    members = [member.strip() for member in caller.split(b",")]
    kept = [member for member in members if member and not member.startswith(prefix)]
    return b",".join([own, *kept[: _MEMBERS_LIMIT - 1]])
