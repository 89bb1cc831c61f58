"""The parts that pages are made of: a bordered panel that can fail alone, tiles, tables, notices."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards.charts.axes import Option
from dashboards.palette import Palette, palette
from dashboards.status import Status

if TYPE_CHECKING:
    import polars as pl

LOG = logging.getLogger(__name__)
ROW_HEIGHT = 30


def theme() -> Palette:
    """The colours of the theme that the browser shows."""
    return palette(st.context.theme.type)


def escape(text: str) -> str:
    """Keep Streamlit's Markdown from reading dollars, brackets and colons in data as directives."""
    for sign in "\\$[]*_:<":
        text = text.replace(sign, f"\\{sign}")
    return text


class Panel:
    """A bordered part of a page with a title. What fails in it is told in it; the rest of the page stands.

    Errors of the product say how to mend them and are shown as they are; anything else is a defect: it is logged with
    its traceback, and the panel says so.
    """

    def __init__(self, title: str | None = None, *, border: bool = True, help: str | None = None) -> None:
        self._container = st.container(border=border, gap="small", height="stretch" if border else "content")
        self._title, self._help = title, help

    def __enter__(self) -> Panel:
        self._container.__enter__()
        if self._title:
            st.markdown(f"**{self._title}**", help=self._help)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            show_error(error, f"panel {self._title!r}")
        self._container.__exit__(None, None, None)
        return isinstance(error, Exception)


def show_error(error: Exception, where: str) -> None:
    """Tell an error on the page: the product's own as it is, any other as a defect that is in the log."""
    if getattr(error, "exit_code", None) is not None:
        st.warning(escape(str(error)), icon=":material/link_off:" if error.exit_code == 3 else ":material/error:")  # type: ignore[attr-defined]
        return
    LOG.error("%s failed", where, exc_info=error)
    st.error(
        f"This part of the page failed ({type(error).__name__}). The rest is not affected; the log of "
        "`fleetmeter dash` has the traceback.",
        icon=":material/bug_report:",
    )


@dataclass(frozen=True)
class Tile:
    """One number of the top row."""

    label: str
    value: str
    status: Status
    change: str | int | None = None
    """Against the window before: `+12%`, 0, or None where there is nothing to compare with."""
    note: str | None = None
    series: Sequence[float | None] = ()
    help: str | None = None
    bars: bool = False


def tiles(row: Sequence[Tile]) -> None:
    """Show a row of tiles; their colour is their status, never the sign of their change."""
    for column, tile in zip(st.columns(len(row), gap="small"), row, strict=True):
        values = [float(value) for value in tile.series if value is not None]
        column.metric(
            tile.label,
            escape(tile.value),
            delta=tile.change,
            delta_color=tile.status.colour,
            delta_description=tile.note,
            icon=tile.status.icon,
            border=True,
            height="stretch",
            chart_data=values if len(values) > 1 else None,
            chart_type="bar" if tile.bars else "area",
            help=tile.help,
        )


def chart(option: Option, height: int, *, key: str, alt: str) -> None:
    """Show a chart."""
    st.echarts_chart(option, height=height, key=key, alt=alt)


def table(
    frame: pl.DataFrame,
    columns: Mapping[str, Any],
    *,
    key: str,
    alt: str,
    most_rows: int = 12,
    **options: Any,
) -> Any:
    """Show a table with the columns that are configured, in that order; more than `most_rows` scroll."""
    rows = min(max(frame.height, 1), most_rows)
    return st.dataframe(
        frame.select([name for name in columns if name in frame.columns]).to_arrow(),
        column_config=dict(columns),
        hide_index=True,
        row_height=ROW_HEIGHT,
        placeholder="—",
        height=(rows + 1) * ROW_HEIGHT + 2,
        key=key,
        alt=alt,
        **options,
    )


def quiet(text: str) -> None:
    """A line where there is nothing to show, and why."""
    st.markdown(f":gray[{text}]")
