"""Errors of the alerts package: what is wrong, how to mend it, and the exit code."""

from __future__ import annotations


class AlertsError(Exception):
    """The root of this package's errors: usage or configuration."""

    exit_code = 2


class RuleFileError(AlertsError):
    """A rules file is missing, is not YAML or says something that does not fit; every problem is told."""


class ReceiverError(AlertsError):
    """A receiver can't be built from its configuration: no secret, a secret that does not fit, a wrong key."""


class ScenarioFileError(AlertsError):
    """A scenario file is not what the runner reads."""


class StateBusyError(AlertsError):
    """Another evaluator works on the same state; two would page twice."""

    exit_code = 3


class AlertsUnreachableError(AlertsError):
    """No alerts API answers; trying again may help."""

    exit_code = 3


class ClockError(AlertsError):
    """A time was asked for that lies before what is already evaluated."""
