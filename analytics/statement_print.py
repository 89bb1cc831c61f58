"""Prints a page of HTML as PDF with a browser that is already there (docs/adr: no PDF library is a dependency)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from analytics.errors import AnalyticsError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
LONGEST_SECONDS = 60


def find_browser(named: str | None = None) -> str:
    """Return the browser to print with.

    Raises:
        AnalyticsError: there is none.
    """
    for name in (named,) if named else BROWSERS:
        if name and (found := shutil.which(name)):
            return found
    raise AnalyticsError(
        f"no browser to print a PDF with: {named or ', '.join(BROWSERS)} not found; install chromium, name one with "
        "--browser, or take --format html and print it from any browser"
    )


def print_pdf(page: str, browser: str) -> bytes:
    """Print a page; scripts do not run and nothing is fetched.

    Raises:
        AnalyticsError: the browser failed.
    """
    with tempfile.TemporaryDirectory(prefix="fleetmeter-") as folder:
        source, target = Path(folder, "statement.html"), Path(folder, "statement.pdf")
        source.write_text(page, encoding="utf-8")
        words = [
            browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", "--disable-extensions",
            "--disable-background-networking", "--no-first-run", f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={target}", source.as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            words.insert(1, "--no-sandbox")
        try:
            ran = subprocess.run(words, capture_output=True, timeout=LONGEST_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AnalyticsError(f"{browser} could not print: {error}") from error
        if ran.returncode or not target.is_file():
            told = ran.stderr.decode(errors="replace").strip().splitlines()
            raise AnalyticsError(f"{browser} could not print: {told[-1] if told else f'exit {ran.returncode}'}")
        return target.read_bytes()
