"""A real browser on the boards: open a page, wait until it stands still, and note everything that went wrong."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 90_000
PAGES = {"oncall": "", "slos": "slos", "requests": "requests", "drift": "drift", "cost": "cost", "health": "health"}

# What Streamlit 1.67 itself complains of, on any app, and nothing else. Each is seen again when Streamlit changes.
KNOWN = (
    # On a page's own address the client first looks for the server below that address, and then finds it at the root.
    re.compile(r"HTTP 404 \S+/(slos|requests|drift|cost|health)/_stcore/(health|host-config)$"),
    # st.metric's sparkline is drawn once before its data has come.
    re.compile(r'warning: WARN Infinite extent for field "[xy]": \[Infinity, -Infinity\]$'),
)
ECHO_OF_404 = "error: Failed to load resource: the server responded with a status of 404 (Not Found)"


@dataclass
class Watched:
    """A page and every complaint it made."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def unknown(self) -> list[str]:
        """Complaints that are not Streamlit's own; a 404 that is known explains one line of the console."""
        left = [one for one in self.complaints if not any(known.search(one) for known in KNOWN)]
        explained = len([one for one in self.complaints if KNOWN[0].search(one)])
        for _ in range(explained):
            if ECHO_OF_404 in left:
                left.remove(ECHO_OF_404)
        return left

    def settle(self) -> None:
        """Wait until the script has run and nothing is a placeholder any more."""
        app = '[data-testid="stApp"][data-test-script-state="notRunning"]'
        self.page.wait_for_selector(app, timeout=PATIENCE_MS)
        self.page.wait_for_function(
            "() => !document.querySelector('[data-testid=\"stSkeleton\"]')"
            " && !document.querySelector('[data-stale=\"true\"]')",
            timeout=PATIENCE_MS,
        )
        self.page.wait_for_selector(app, timeout=PATIENCE_MS)
        self.page.evaluate("() => document.fonts.ready")
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def open(self, url: str) -> None:
        """Open an address and wait until the page stands still."""
        self.page.goto(url)
        self.page.wait_for_selector('[data-testid="stMain"] h3', timeout=PATIENCE_MS)
        self.settle()

    def tiles(self) -> dict[str, str]:
        """The numbers of the page by their labels."""
        found = {}
        for tile in self.page.query_selector_all('[data-testid="stMetric"]'):
            label = tile.query_selector('[data-testid="stMetricLabel"]')
            value = tile.query_selector('[data-testid="stMetricValue"]')
            found[label.inner_text().strip().split("\n")[-1]] = value.inner_text().strip()
        return found

    def text(self) -> str:
        """Everything that can be read outside tables and charts."""
        return self.page.inner_text('[data-testid="stMain"]')

    def fit(self, *, highest: int = 2400) -> None:
        """Make the window as high as the page, so that nothing needs to be scrolled to be seen."""
        size = self.page.viewport_size
        wanted = self.page.evaluate("() => document.querySelector('[data-testid=\"stMain\"]').scrollHeight")
        self.page.set_viewport_size({"width": size["width"], "height": min(max(wanted, size["height"]), highest)})
        self.settle()


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's chromium, headless."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


@contextmanager
def watched(running: Browser, theme: str, *, width: int = 1440, height: int = 900) -> Iterator[Watched]:
    """A fresh browser profile in a light or dark system, that notes what the console and the network say."""
    context = running.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    found = Watched(page)
    page.on("console", lambda message: note_console(found, message))
    page.on("pageerror", lambda error: found.complaints.append(f"exception: {error}"))
    page.on("requestfailed", lambda request: note_failed(found, request))
    page.on("response", lambda answer: note_answer(found, answer))
    try:
        yield found
    finally:
        context.close()


def note_console(found: Watched, message) -> None:
    if message.type in ("error", "warning"):
        found.complaints.append(f"{message.type}: {message.text}")


def note_failed(found: Watched, request) -> None:
    if request.failure != "net::ERR_ABORTED":  # the browser itself drops what a page no longer needs
        found.complaints.append(f"failed: {request.url} {request.failure}")


def note_answer(found: Watched, answer) -> None:
    if answer.status >= 400:
        found.complaints.append(f"HTTP {answer.status} {answer.url}")
