"""Errors of the dashboards: each message says what is wrong and how to mend it."""

from __future__ import annotations


class DashboardsError(Exception):
    """The root of this package's errors; exit code 2 is usage or configuration."""

    exit_code = 2


class PortInUse(DashboardsError):
    """Another process listens on the port."""


class BadLink(DashboardsError):
    """A link's query parameters don't say a window of time."""
