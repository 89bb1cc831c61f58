"""The alerts of a page: counts for the header, a table with the ways on."""

from __future__ import annotations

from dashboards import panels
from dashboards.page import View


def firing(view: View):
    return []


def badges(view: View) -> list[str]:
    return []


def strip(view: View) -> None:
    panels.quiet("alerts to come")
