"""Errors of the analytics package: each message says what is wrong and how to mend it."""

from __future__ import annotations


class AnalyticsError(Exception):
    """The root of this package's errors; the exit code is that of a wrong usage or configuration."""

    exit_code = 2


class DefinitionError(AnalyticsError):
    """A data file (SLOs, burn windows) says something that can't hold."""


class UnreadableError(DefinitionError):
    """A data file is missing or no YAML."""


class CurrencyError(AnalyticsError):
    """A bill mixes currencies, which can't be added."""
