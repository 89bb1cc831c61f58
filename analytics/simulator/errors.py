"""Errors of the simulator."""

from __future__ import annotations

from analytics.errors import AnalyticsError


class SimulatorError(AnalyticsError):
    """A preset, profile or trace that can't be used; the message says what is wrong and how to mend it."""


class ReceiverError(SimulatorError):
    """A server that can't be reached or stays busy: trying again later may help."""

    exit_code = 3
