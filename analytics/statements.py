"""The SQL files beside this module: read once, run through the client, answered as a polars frame.

Every query is a file `queries/<subject>_<measure>_<grain>.sql` whose first line states the grain and whose parameters
are `$name`. A parameter may arrive as JSON text over HTTP, so each file casts its own (`$start::TIMESTAMP`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

FOLDER = Path(__file__).parent / "queries"


@cache
def statement(name: str) -> str:
    """Return the text of `queries/<name>.sql`."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def ask(client: Client, name: str, **parameters: Any) -> pl.DataFrame:
    """Run one SQL file; the parameters must be exactly those that it names.

    Returns:
        One row per grain of the file, columns as its last SELECT names them.

    Raises:
        PermanentError: the statement failed.
        RetryableError: the collector is unreachable or busy.
    """
    import polars as pl

    frame = pl.from_arrow(client.query(statement(name), parameters))
    assert isinstance(frame, pl.DataFrame)
    return frame
