"""Errors of the stack package."""

from __future__ import annotations


class StackError(Exception):
    """The root of this package's errors; the message says what is wrong and how to mend it."""

    exit_code = 1


class ConfigurationError(StackError):
    """The configuration can't be used; the message lists every problem."""

    exit_code = 2
