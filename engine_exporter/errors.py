"""Errors of the exporter. Inside an engine none of them is ever raised into it; commands let them out."""

from __future__ import annotations


class ExporterError(Exception):
    """The root of this package's errors; the message says what is wrong and how to mend it."""

    exit_code = 2


class UnreachableError(ExporterError):
    """An engine or a collector does not answer: trying again later may help."""

    exit_code = 3
