"""Errors of the collector. In the pipeline there are exactly two kinds: permanent and retryable."""

from __future__ import annotations


class CollectorError(Exception):
    """The root of this package's errors; the message says what is wrong and how to mend it."""

    exit_code = 2


class PermanentError(CollectorError):
    """Bad data or a bad request: counted, kept in the dead-letter folder where it is data, never retried."""


class TooLargeError(PermanentError):
    """A body over the limit; smaller batches get through."""


class RetryableError(CollectorError):
    """Backpressure or an outage: trying again later may help."""

    exit_code = 3


class StoreFailedError(RetryableError):
    """The database can't go on in this process; a restart replays the spool."""
