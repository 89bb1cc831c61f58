"""`fleetmeter import FORMAT FILE`: one subcommand a format, each with the options that it needs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collector.errors import PermanentError
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from collector.importers.formats import TraceFormat
    from collector.importers.records import RecordFile


class FormatGroup(click.Group):
    """The formats; an unknown one is told with the nearest known."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the format's command."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(
                f"unknown format {args[0]!r}.{hint} Formats: {', '.join(sorted(self.commands))}.", ctx
            )
        return super().resolve_command(ctx, args)


def landing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its FILE, the database and the form of the summary."""
    for option in (
        click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        data_options,
        click.argument("file", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def stamp_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what to stamp onto rows that lack it, and `--strict`."""
    for option in (
        click.option("--strict", is_flag=True, help="Land nothing if any row can't be read."),
        click.option("--model", help="The model, for rows that name none."),
        click.option("--app", help="The application, for rows that name none."),
        click.option("--team", help="The team that is charged, for rows that name none."),
    ):
        command = option(command)
    return command


def start_option(meaning: str) -> Callable[..., Any]:
    """Give a command `--start`."""
    return click.option(
        "--start", metavar="ISO", callback=read_start, help=f"{meaning} ISO 8601, UTC if it has no offset."
    )


def read_start(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Read an anchor in time."""
    from collector.importers.values import naive

    try:
        return None if value is None else naive(datetime.fromisoformat(value))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not an ISO 8601 time, e.g. 2025-01-06T00:00:00", ctx, parameter
        ) from None


def read_clients(ctx: click.Context, parameter: click.Parameter, value: str | None) -> frozenset[int] | None:
    """Read client ids such as `0,3,10-19`."""
    if value is None:
        return None
    clients: set[int] = set()
    for word in value.split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{word!r} is no client id; write e.g. 0,3,10-19", ctx, parameter)
        clients.update(range(int(first), int(last or first) + 1))
    return frozenset(clients)


def read_span(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Read a span of time such as `1d6h`, or plain seconds, in seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", value.strip())
    if not match or not any(match.groups()):
        raise click.BadParameter(f"{value!r} is no span of time; write e.g. 1d6h, 90m or 600", ctx, parameter)
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


@click.group("import", cls=FormatGroup)
def import_() -> None:
    """Load public traces or your own request logs into `requests`.

    Rows land with what the trace has; the rest is null. A row's id comes from the rows of the file up to it, unpacked:
    importing a file twice lands nothing the second time, nor does its packed copy, and of a file to which rows were
    added only those land. Behind a row that was changed or removed all rows are new. Rows that can't be read, or whose
    time is before 2000 or more than a day ahead, are kept out, counted and told with their numbers, and the exit code
    is then 1. The summary is data on stdout; everything else is on stderr.
    """


@import_.command()
@landing_options
@stamp_options
def azure(file: Path, strict: bool, **landing: Any) -> int:
    """Azure LLM inference traces: TIMESTAMP, ContextTokens, GeneratedTokens."""
    from collector.importers import formats

    return load(file, lambda _: formats.azure(), strict, **landing)


@import_.command()
@landing_options
@stamp_options
@start_option("When the trace begins.  [default: 2024-01-01T00:00:00, a Monday]")
def mooncake(file: Path, strict: bool, start: datetime | None, **landing: Any) -> int:
    """Mooncake traces: timestamp (ms), input_length, output_length, hash_ids.

    The ids of the prompt's blocks stay in attributes as mooncake.hash_ids, runs of ids written first-last.
    """
    from collector.importers import formats

    return load(file, lambda _: formats.mooncake(start or formats.DEFAULT_START), strict, **landing)


@import_.command()
@landing_options
@stamp_options
@start_option("When every run begins.  [default: 2024-01-01T00:00:00, a Monday]")
def vtc(file: Path, strict: bool, start: datetime | None, **landing: Any) -> int:
    """VTC's multi-tenant benchmark: tenant, prompt_len, output_len, req_time_s, ttft_s, e2e_s, path.

    The tenant is team and adapter, the run's path is the deployment: the file holds many runs and each of them begins
    at --start. Requests with a latency of -1 were turned away; they land as rejected.
    """
    from collector.importers import formats

    return load(file, lambda _: formats.vtc(start or formats.DEFAULT_START), strict, **landing)


@import_.command()
@landing_options
@stamp_options
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=SOURCE[:UNIT]", help="Fill a column; repeat it.")
@click.option("--keep", multiple=True, metavar="SOURCE", help="Keep a column of the file as an attribute; repeat it.")
@start_option("What numeric times count from.  [default: 1970-01-01]")
def generic(
    file: Path, strict: bool, mapping: tuple[str, ...], keep: tuple[str, ...], start: datetime | None, **landing: Any
) -> int:
    """Your own request log as CSV, JSON lines or Parquet, plain or gzip or zstd.

    Columns named as those of `requests` (docs/schema.md) are taken as they are, others by --map, e.g.

    \b
        --map started_at=arrival:ms --map ttft_seconds=first_token_ms:ms
        --map input_tokens=prompt_len --map team=tenant

    UNIT is s, ms, us or ns. Times are ISO 8601 texts, or numbers with a UNIT. Columns that are not mapped are left
    out, since logs may hold prompts; --keep names harmless ones. A missing outcome is ok.
    """
    from collector.importers import generic as log

    def choose(records: RecordFile) -> TraceFormat:
        return log.generic(log.parse_mapping(mapping, records.columns), keep, start)

    return load(file, choose, strict, **landing)


@import_.command()
@landing_options
@click.option(
    "--pdfs",
    type=click.Path(path_type=Path),
    help="Token distributions.  [default: client_token_pdfs.parquet beside FILE]",
)
@click.option("--model", help="A model of the category; none is needed where it has one only.")
@click.option("--app", help="The application to write into every row.")
@click.option("--category", default="language", show_default=True, help="language, reason or multimodal.")
@click.option("--clients", metavar="IDS", callback=read_clients, help="Clients, e.g. 0,3,10-19.  [default: all]")
@click.option(
    "--from", "begin", metavar="TIME", callback=read_span, help="Begin there in the data's time, e.g. 1d6h or 600 (s)."
)
@click.option("--to", "end", metavar="TIME", callback=read_span, help="End there, exclusive.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Or: take so many days from --from on.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiply every rate; burstiness stays.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same rows."
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Stop after so many, in order of time.",
)
@start_option("When the data's time begins.  [default: 2024-01-01T00:00:00, a Monday]")
def servegen(
    file: Path,
    pdfs: Path | None,
    begin: float | None,
    end: float | None,
    days: float | None,
    max_rows: int,
    **options: Any,
) -> int:
    """ServeGen: requests SAMPLED from client_rates.parquet and client_token_pdfs.parquet.

    The dataset has no requests: it has, per client and 10 minutes, a rate and a fitted interval distribution, and per
    client and 6 hours distributions of token counts. Drawn are arrivals (Gamma or Weibull renewals with the published
    shape and rate) and, independently of each other, input and output tokens. Where a client has no distribution,
    tokens are null. The team is client-ID, and every row is marked estimated. A slice of clients or of time gives the
    same requests as the whole would.
    """
    from collector.importers.sampling import sample_servegen

    if end is not None and days is not None:
        raise click.UsageError("--to and --days exclude each other")
    if days is not None:
        end = (begin or 0.0) + days * 86_400
    return sample_servegen(file, pdfs, begin or 0.0, end if end is not None else float("inf"), max_rows, **options)


def load(
    file: Path,
    choose: Callable[[RecordFile], TraceFormat],
    strict: bool,
    db: Path | None,
    url: str | None,
    team: str | None,
    app: str | None,
    model: str | None,
    output: str,
) -> int:
    """Import one file and say what became of its rows; 1 if some could not be read."""
    from collector.importers.loading import Report, Stamp, check_columns, check_rows, land_rows, read_rows
    from collector.importers.records import RecordFile
    from collector.importers.reporting import progress_bar, tell, tell_faults

    records = RecordFile(file)
    form = choose(records)
    check_columns(records, form)
    stamp = Stamp(team, app, model)
    if strict:
        trial = Report(form.name, file.name)
        try:
            check_rows(read_rows(records, form, stamp, trial), trial)
        finally:
            tell_faults(trial)
    report = Report(form.name, file.name)
    client = open_data(db, url, write=True)
    try:
        with progress_bar(records.length, f"importing {file.name}") as bar:
            land_rows(
                client, read_rows(records, form, stamp, report, lambda offset: bar.update(offset - bar.pos)), report
            )
    finally:
        client.close()
    if not report.rows_read:
        raise PermanentError(f"{file} has columns and no rows: there is nothing to import")
    return tell(report, output)
