"""Take the pictures of the boards: python tests/ui/screenshots.py --url http://127.0.0.1:8501 [--out docs/pictures]."""

import argparse
from pathlib import Path

from PIL import Image

from tests.ui.watching import PAGES, Watched, browser, watched

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where `fleetmeter dash` or `fleetmeter demo` serves the boards")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures", help="folder of the pictures")
    parser.add_argument("--range", default="3h", help="range of the On-call and the Requests page")
    parser.add_argument("--only", choices=sorted(PAGES), action="append", help="a page; repeat it")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with browser() as running:
        for name in options.only or PAGES:
            for theme in ("light", "dark"):
                with watched(running, theme) as seen:
                    take(seen, options.url.rstrip("/"), name, options.range, options.out / f"{name}_{theme}.png")


def take(seen: Watched, url: str, name: str, range_name: str, file: Path) -> None:
    seen.open(f"{url}/{PAGES[name]}" + (f"?range={range_name}" if name in ("oncall", "requests") else ""))
    if name == "requests":
        open_worst_trace(seen)
    seen.fit()
    seen.page.wait_for_timeout(800)  # the last chart's canvas is painted after the script has ended
    seen.page.screenshot(path=file)
    Image.open(file).convert("RGB").save(file, optimize=True)
    print(f"{file}  {seen.page.viewport_size['width']}x{seen.page.viewport_size['height']}")
    for complaint in seen.unknown():
        print(f"  complaint: {complaint}")


def open_worst_trace(seen: Watched) -> None:
    seen.fit()
    box = seen.page.locator(".st-key-request-list canvas").first.bounding_box()
    seen.page.mouse.click(box["x"] + 15, box["y"] + 45)
    seen.page.wait_for_url("**trace=**")
    seen.page.get_by_text("What the span carried").wait_for()
    seen.settle()


if __name__ == "__main__":
    main()
