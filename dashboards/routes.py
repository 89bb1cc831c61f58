"""The pages and their addresses; the only list of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import streamlit as st

BOARDS: dict[str, tuple[str, str, str]] = {
    "oncall": ("On-call", ":material/monitor_heart:", "Is it us, who hurts, since when, what changed"),
    "slos": ("SLOs", ":material/speed:", "How much error budget is left, and when it is empty"),
    "requests": ("Requests", ":material/account_tree:", "Why this request was slow: list, spread and trace"),
    "drift": ("Drift", ":material/trending_up:", "What shifted against each stream's own past"),
    "cost": ("Cost review", ":material/payments:", "Who spends what, why it moved, what was idle"),
    "health": ("Telemetry health", ":material/fact_check:", "Whether the numbers can be trusted"),
}
"""Address -> title, icon, the question that the page answers. The module is `boards/<address>_board.py`."""


def board(address: str) -> Callable[[], None]:
    """Import the page at an address."""
    show: Callable[[], None] = importlib.import_module(f"dashboards.boards.{address}_board").show
    return show


def pages() -> dict[str, Any]:
    """Make Streamlit's pages; the first is the root."""
    return {
        address: st.Page(
            board(address),
            title=title,
            icon=icon,
            url_path=address,
            default=address == next(iter(BOARDS)),
            help=question,
        )
        for address, (title, icon, question) in BOARDS.items()
    }


def go(address: str, **parameters: str) -> None:
    """Switch to a page in this session, with these query parameters."""
    st.switch_page(pages()[address], query_params=parameters)
