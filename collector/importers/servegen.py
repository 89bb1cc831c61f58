"""ServeGen: request rows sampled from published arrival rates and length distributions of production clients.

The dataset holds no requests. For every client and window of 600 s it has a rate, an interval distribution (Gamma or
Weibull) and its shape; for every client and window of 6 h it has distributions of token counts. Rows are drawn from
them: arrivals as a stationary renewal process (see `arrivals`), lengths independently of each other and of the
arrivals. A client's window is drawn from a seed of its own, so a slice of time or of clients gives the same requests as
the whole.

Source: https://github.com/alibaba/ServeGen (Apache-2.0); Xiang et al., arXiv:2505.09999.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.errors import PermanentError
from collector.importers.arrivals import draw_arrivals
from collector.importers.formats import DEFAULT_START
from collector.importers.lengths import LengthTables
from collector.importers.records import RecordFile
from collector.importers.rows import derive_ids
from collector.importers.values import after
from engine_exporter.semconv import Outcome

if TYPE_CHECKING:
    import numpy as np

WINDOW_SECONDS = 600
RATE_COLUMNS = ("category", "model", "client_id", "t_s", "rate_rps", "pattern", "p1")
PDF_COLUMNS = ("category", "model", "client_id", "window_s", "field", "bin", "prob")


@dataclass(frozen=True, slots=True)
class Choice:
    """What to sample."""

    category: str = "language"
    """language, reason or multimodal."""
    model: str | None = None
    """A model of the category; none is needed where it has one only."""
    clients: frozenset[int] | None = None
    """Ids of clients; None for all."""
    from_seconds: float = 0.0
    """Where in the dataset's time to begin."""
    to_seconds: float = float("inf")
    """Where to end, exclusive."""
    scale_ratio: float = 1.0
    """Multiplies every rate; the shapes stay."""
    seed: int = 0
    start: datetime = DEFAULT_START
    """The time that the dataset's second 0 falls on, naive UTC."""


@dataclass(frozen=True, slots=True)
class Window:
    """One client in one window of 600 s."""

    client: int
    at_seconds: int
    rate_per_second: float
    pattern: str
    shape: float


class ServeGen:
    """The two files of the dataset, and a choice of what to sample from them."""

    def __init__(self, rates: Path, pdfs: Path, choice: Choice) -> None:
        """Open both files.

        Raises:
            PermanentError: a file is missing, empty or another kind; or the choice is not in the data.
        """
        self.files = (open_columns(rates, RATE_COLUMNS), open_columns(pdfs, PDF_COLUMNS))
        self.choice = choice
        self.model = choose_model(rates, choice)
        self.windows = self._windows()
        self.lengths = LengthTables(pdfs, choice.category, self.model)

    def seconds(self) -> tuple[int, int]:
        """Say from where to where in the dataset's time the windows reach."""
        return self.windows[0].at_seconds, self.windows[-1].at_seconds + WINDOW_SECONDS

    def rows(self) -> Iterator[tuple[float, list[dict[str, Any]]]]:
        """Sample window by window.

        Yields:
            The second of the dataset's time at which a window ends, and its rows in order of arrival.
        """
        choice = self.choice
        parts = [*(file.digest() for file in self.files), choice.category, self.model, choice.seed, choice.scale_ratio]
        origin = "servegen\n" + "\n".join(map(str, parts))
        rows: list[dict[str, Any]] = []
        for index, window in enumerate(self.windows):
            rows += self._sample(window, origin)
            if index + 1 == len(self.windows) or self.windows[index + 1].at_seconds != window.at_seconds:
                rows.sort(key=lambda row: row["started_at"])
                yield window.at_seconds + WINDOW_SECONDS, rows
                rows = []

    def _windows(self) -> list[Window]:
        from pyarrow import parquet

        choice = self.choice
        table = parquet.read_table(
            self.files[0].path,
            columns=list(RATE_COLUMNS),
            filters=[("category", "=", choice.category), ("model", "=", self.model), ("rate_rps", ">", 0)],
        ).sort_by([("t_s", "ascending"), ("client_id", "ascending")])
        known = set(table["client_id"].to_pylist())
        unknown = (choice.clients or frozenset()) - known
        if unknown:
            raise PermanentError(
                f"{self.model} has no client {', '.join(map(str, sorted(unknown)))}; its clients are "
                f"{min(known)} to {max(known)}"
            )
        names = ("client_id", "t_s", "rate_rps", "pattern", "p1")
        windows = [
            Window(*values)
            for values in zip(*(table[name].to_pylist() for name in names), strict=True)
            if (choice.clients is None or values[0] in choice.clients)
            and values[1] + WINDOW_SECONDS > choice.from_seconds
            and values[1] < choice.to_seconds
        ]
        if not windows:
            last = max(table["t_s"].to_pylist(), default=0) + WINDOW_SECONDS
            raise PermanentError(f"nobody asks anything in that time; the data of {self.model} ends at {last} s")
        return windows

    def _sample(self, window: Window, origin: str) -> Iterator[dict[str, Any]]:
        import numpy as np

        choice = self.choice
        key = hashlib.blake2b(f"{choice.category}/{self.model}".encode(), digest_size=8).digest()
        random = np.random.default_rng([choice.seed, int.from_bytes(key), window.client, window.at_seconds])
        rate = window.rate_per_second * choice.scale_ratio
        offsets = draw_arrivals(random, window.pattern, window.shape, rate, WINDOW_SECONDS)
        tokens = self._draw_tokens(random, window, len(offsets))
        for index, offset in enumerate(offsets.tolist()):
            at = window.at_seconds + offset
            if not choice.from_seconds <= at < choice.to_seconds:
                continue
            trace_id, span_id = derive_ids(origin, f"{window.client}/{window.at_seconds}/{index}")
            yield {
                "trace_id": trace_id,
                "span_id": span_id,
                "started_at": after(choice.start, at),
                "team": f"client-{window.client}",
                "model": self.model,
                "outcome": Outcome.OK.value,
                "source": "import_servegen",
                "estimated": True,
                **{column: values[index] for column, values in tokens.items()},
            }

    def _draw_tokens(self, random: np.random.Generator, window: Window, rows: int) -> dict[str, list[int]]:
        drawn = {
            field: values
            for field in ("input_tokens", "output_tokens", "text_tokens", "image_count")
            if (values := self.lengths.draw(random, window.client, window.at_seconds, field, rows)) is not None
        }
        if "text_tokens" in drawn and "image_count" in drawn:
            images = drawn.pop("image_count")
            of_images = self.lengths.draw_sums(random, window.client, window.at_seconds, "image_tokens", images)
            drawn["input_tokens"] = drawn.pop("text_tokens") + of_images
        return {field: values.tolist() for field, values in drawn.items() if field in ("input_tokens", "output_tokens")}


def open_columns(path: Path, columns: tuple[str, ...]) -> RecordFile:
    """Open a Parquet file that must have these columns."""
    file = RecordFile(path)
    if missing := [name for name in columns if name not in file.columns]:
        raise PermanentError(
            f"{path} is not ServeGen's: it lacks {', '.join(missing)}; found: {', '.join(file.columns)}"
        )
    if file.kind != "parquet":
        raise PermanentError(f"{path} is not Parquet; ServeGen's client_rates.parquet is needed")
    return file


def choose_model(rates: Path, choice: Choice) -> str:
    """Find the model to sample, or say which there are."""
    from pyarrow import parquet

    pairs = parquet.read_table(rates, columns=["category", "model"]).group_by(["category", "model"]).aggregate([])
    known: dict[str, list[str]] = {}
    for pair in pairs.to_pylist():
        known.setdefault(pair["category"], []).append(pair["model"])
    if choice.category not in known:
        raise PermanentError(f"no category {choice.category}; there are: {', '.join(sorted(known))}")
    models = sorted(known[choice.category])
    if choice.model is None and len(models) == 1:
        return models[0]
    if choice.model not in models:
        said = "say which model" if choice.model is None else f"{choice.category} has no model {choice.model}"
        raise PermanentError(f"{said} with --model; there are: {', '.join(models)}")
    return choice.model
