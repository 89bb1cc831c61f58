"""Which requests are sent in detail: decided when a request has ended, by how it ended.

Money does not depend on it: the span of every request is sent, with all that fills a column of `requests`. What is
sampled is the rest: its phases as spans of their own, and a few verbose attributes.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

_TRACE_BITS = 64
_WINDOW = 512
_EVERY = 64


class Reason(StrEnum):
    """Why a request is sent in detail."""

    ERROR = "error"
    SLO_BREACH = "slo_breach"
    TOP_COST = "top_cost"
    BASE_RATE = "base_rate"


class TopShare:
    """Whether a value is among the largest share of the last 512, looked at anew every 64."""

    __slots__ = ("_ratio", "_seen", "_threshold", "_values")

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._values: deque[float] = deque(maxlen=_WINDOW)
        self._threshold = float("inf")
        self._seen = 0

    def holds(self, value: float) -> bool:
        """Take one value into account; none is among the largest before there are 64."""
        self._values.append(value)
        self._seen += 1
        if self._seen % _EVERY == 0:
            ordered = sorted(self._values, reverse=True)
            self._threshold = ordered[min(int(len(ordered) * self._ratio), len(ordered) - 1)]
        return value > self._threshold


class DetailSampler:
    """Decides for one request after the other."""

    def __init__(self, base_ratio: float, top_cost_ratio: float) -> None:
        """Take the shares.

        Args:
            base_ratio: of ordinary requests. By trace id, so that all spans of a trace agree.
            top_cost_ratio: the most expensive ones.
        """
        self._below = int(base_ratio * 2**_TRACE_BITS)
        self._top_ratio = top_cost_ratio
        self._tops: dict[str, TopShare] = {}

    def reason(self, failed: bool, breached: bool, cost: tuple[str, float] | None, trace_id: int) -> Reason | None:
        """Say why a request is sent in detail; None: it is not.

        Args:
            failed: its outcome is an error or a dead engine.
            breached: a latency is above its threshold.
            cost: in which unit, and how much; only costs of one unit are compared.
            trace_id: the low 64 bits are taken as random, as W3C Trace Context level 2 says.
        """
        top = False
        if cost is not None and self._top_ratio:
            unit, value = cost
            share = self._tops.get(unit)
            if share is None:
                share = self._tops[unit] = TopShare(self._top_ratio)
            top = share.holds(value)
        if failed:
            return Reason.ERROR
        if breached:
            return Reason.SLO_BREACH
        if top:
            return Reason.TOP_COST
        return Reason.BASE_RATE if trace_id & (2**_TRACE_BITS - 1) < self._below else None


def cost_of(
    prefill_seconds: float | None, decode_seconds: float | None, input_tokens: int | None, cached_tokens: int | None,
    output_tokens: int | None,
) -> tuple[str, float] | None:  # fmt: skip
    """How much a request cost, to compare it with others: its share of engine steps, else its tokens.

    Without shares a generated token counts four times a prefilled one: the usual order of list prices. It decides
    what is sampled, never what anybody pays.
    """
    if prefill_seconds is not None or decode_seconds is not None:
        return "seconds", (prefill_seconds or 0.0) + (decode_seconds or 0.0)
    if input_tokens is None and output_tokens is None:
        return None
    return "tokens", max((input_tokens or 0) - (cached_tokens or 0), 0) + 4.0 * (output_tokens or 0)
