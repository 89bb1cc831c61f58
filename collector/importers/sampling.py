"""Runs the sampling of ServeGen for the command: bounds it, lands it and tells what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from collector.importers.formats import DEFAULT_START
from collector.importers.loading import Report, land_rows
from collector.importers.reporting import progress_bar, tell
from collector.importers.servegen import Choice, ServeGen
from collector.options import open_data

PDFS_FILE = "client_token_pdfs.parquet"


def sample_servegen(
    file: Path,
    pdfs: Path | None,
    begin_seconds: float,
    end_seconds: float,
    max_rows: int,
    *,
    category: str,
    model: str | None,
    clients: frozenset[int] | None,
    scale: float,
    seed: int,
    start: datetime | None,
    app: str | None,
    db: Path | None,
    url: str | None,
    output: str,
) -> int:
    """Sample rows and land them; 0."""
    choice = Choice(category, model, clients, begin_seconds, end_seconds, scale, seed, start or DEFAULT_START)
    data = ServeGen(file, pdfs or file.parent / PDFS_FILE, choice)
    report = Report("servegen", file.name)
    begin, end = data.seconds()
    client = open_data(db, url, write=True)
    try:
        with progress_bar(end - begin, f"sampling {data.model}") as bar:
            limited = Limited(data, report, max_rows, lambda at: bar.update(int(at - begin - bar.pos)))
            land_rows(client, ({**row, "app": app} for row in limited), report)
    finally:
        client.close()
    for note in limited.notes():
        click.echo(note, err=True)
    return tell(report, output)


class Limited:
    """The sampled rows, up to a number, counted as they pass."""

    def __init__(self, data: ServeGen, report: Report, max_rows: int, progress: Callable[[float], None]) -> None:
        self.data, self.report, self.max_rows, self.progress = data, report, max_rows, progress
        self.cut = False
        self.without_tokens = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Pass rows on until there are enough."""
        for at_seconds, rows in self.data.rows():
            for row in rows:
                if self.report.rows_read == self.max_rows:
                    self.cut = True
                    return
                self.report.rows_read += 1
                self.report.admit(row)
                self.without_tokens += "input_tokens" not in row
                yield row
            self.progress(at_seconds)

    def notes(self) -> Iterator[str]:
        """Say what a reader of the figures should know."""
        if self.cut:
            yield (
                f"stopped after {self.max_rows:,} rows, at {self.report.last_started_at}: --max-rows raises the limit, "
                "--scale thins the load, --clients takes fewer clients"
            )
        if self.without_tokens:
            yield f"{self.without_tokens:,} rows have no token counts: the data has no distribution of their clients"
