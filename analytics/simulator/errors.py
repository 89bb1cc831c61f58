"""Errors of the simulator."""

from __future__ import annotations


class SimulatorError(Exception):
    """A preset, profile or trace that can't be used; the message says what is wrong and how to mend it."""

    exit_code = 2
