"""Draw every picture of the documentation anew: the pages of ``rigwise serve`` in Chromium, and the figures of the commands.

    python tools/screenshots.py [NAME ...]      pictures into docs/pictures/; only those whose name begins so
    python tools/screenshots.py --measure       what a browser says of each page: load, first paint, bytes, layout shift

The browser is /usr/bin/chromium, or what CHROMIUM names. What was measured is read from the usual store.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent))

from page_measures import FIGURES, SHIFT
from refresh_readme import draw
from rigwise.web.planning import STAGES

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/pictures"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MOST_BYTES = 150_000
#: Pictures have flat colours, and words whose edges need some more.
COLOURS = 256
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGES = {
    "plan": "/",
    "serving": "/?model=llama-3.1-8b&task=serve&rate=20/s&prompt=2k&output-tokens=300&ttft=500ms&tpot=40ms",
    "jobs": f"/?{urlencode({'job': STAGES})}",
    "compare": "/compare",
    "predict": "/predict",
    "catalogue": "/catalogue",
    "device": "/catalogue/h100-sxm5-80gb",
    "machine": "/machine",
    "measured": "/measured",
}
#: How much of a page is shown: on a phone what one scrolls to first as well.
SHOWN_PX = {"desktop": 900, "phone": 1500}
#: Those that are shown dark as well.
DARK = ("plan", "predict")
PLOTS = {
    "roofline": "predict resnet50 --device rtx-4090 --batch 64",
    "memory": "predict resnet50 --device rtx-4090 --batch 64 --explain memory",
    "scaling": "predict gpt2 --device rtx-3090 --batch 64 --count 1,2,4,8 --explain scaling",
    "serving": "predict llama-3.1-8b --device l40s --explain serving --batch 1,8,32 --context 512,4096",
    "compare": "compare resnet50 --device t4,l4,rtx-4090,a100-sxm4-80gb --batch 64",
    "buying": "plan resnet50 --samples 1e9 --explain buying --max-price-age 500d",
    "spot": "plan resnet50 --samples 128e6 --spot --explain spot",
    "graph": "show resnet50 --device rtx-4090 --batch 64",
    "staged": "plan examples/prototype-then-scale.toml",
    "fleet": "plan examples/serve-llama.toml",
    "application": "plan examples/camera-detectors/app.toml",
    "machine": "inspect",
    "bench": "bench --quick --no-store",
    "judged": "judge tests/data/measured",
}


@contextmanager
def served() -> Iterator[str]:
    """The address of a server of one's own."""
    command = [sys.executable, "-m", "rigwise", "serve", "--port", "0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip().rstrip("/") if process.stdout else ""
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def browsed() -> Iterator[Any]:
    """A browser that asks nobody but the server."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


def shown(address: str, browser: Any, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    """Every page at both sizes, light, and some dark: its name and the picture."""
    for name, path in PAGES.items():
        for size, viewport in SIZES.items():
            for scheme in ("light", "dark") if name in DARK else ("light",):
                called = f"serve-{name}-{size}-{scheme}"
                if not is_wanted(called, wanted):
                    continue
                context = browser.new_context(viewport=viewport, color_scheme=scheme)
                page = context.new_page()
                page.goto(address + path, wait_until="networkidle")
                tall = min(SHOWN_PX[size], page.evaluate("document.documentElement.scrollHeight"))
                yield called, page.screenshot(full_page=True, clip={"x": 0, "y": 0, **viewport, "height": tall})
                context.close()


def is_wanted(name: str, wanted: list[str]) -> bool:
    """Whether a name begins with one of the words; all do where there are none."""
    return not wanted or any(name.startswith(word) for word in wanted)


def write(name: str, content: bytes) -> None:
    """Write a picture with few colours.

    Raises:
        SystemExit: It is too large all the same.
    """
    from PIL import Image

    path = FOLDER / f"{name}.png"
    Image.open(BytesIO(content)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    print(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size / 1e3:.0f} kB", file=sys.stderr)


def plotted(command: str) -> bytes:
    """The figure of a command as a PNG."""
    path = FOLDER / "drawing.png"
    try:
        words = [sys.executable, "-m", "rigwise", *command.split(), "--quiet", "--plot", str(path)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def measured(address: str, browser: Any, count: int = 7) -> None:
    """Print what the browser says of each page: median, least and most of ``count`` loads, each without a cache."""
    print("page       size     load ms           first paint ms    bytes    requests  shift")
    for name, path in PAGES.items():
        for size, viewport in SIZES.items():
            found = []
            for _ in range(count):
                context = browser.new_context(viewport=viewport)
                page = context.new_page()
                page.goto(address + path, wait_until="load")
                page.wait_for_function("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
                shift = page.evaluate(SHIFT)
                found.append(page.evaluate(FIGURES) | {"shift": shift})
                context.close()
            times = [
                f"{statistics.median(values):4.0f} ({min(values):.0f} to {max(values):.0f})"
                for values in ([one[key] for one in found] for key in ("load_ms", "paint_ms"))
            ]
            last = found[-1]
            row = f"{times[0]:<17} {times[1]:<17} {last['bytes']:>7,}  {last['requests']:>8}"
            print(f"{name:<10} {size:<8} {row}  {max(one['shift'] for one in found):.3f}")


def main() -> int:
    """Write the pictures, or measure the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only pictures whose name begins so: serve-plan, plot")
    parser.add_argument("--measure", action="store_true", help="write nothing")
    options = parser.parse_args()
    if options.measure:
        with served() as address, browsed() as browser:
            measured(address, browser)
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    if is_wanted("plan", options.names):
        draw(FOLDER)
    for name, command in PLOTS.items():
        if is_wanted(f"plot-{name}", options.names):
            write(f"plot-{name}", plotted(command))
    if not options.names or any(word.startswith("serve") for word in options.names):
        with served() as address, browsed() as browser:
            for name, content in shown(address, browser, options.names):
                write(name, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
