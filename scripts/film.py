"""The README's moving picture: the page that opens, filmed in a browser while it trains. Nothing is drawn by hand.

    python scripts/film.py docs/forgetting.webp [--seed 0] [--dark]

Needs playwright and a Chromium. The page stands still while a picture is taken, so a slow machine films the same.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path, fetch, serving, wait_for

SIZE = {"width": 1366, "height": 768}
STRIDE = 4  # steps between two pictures
FRAME_MS, END_MS = 160, 2600
MOST_BYTES = 3_000_000
STEPS = "[...document.querySelectorAll('.nl-number-step dd')].map((one) => Number(one.textContent))"
DRAWN = "document.querySelector('.nl')?.parentElement.nllab?.panels.every(({ stage }) => stage.reel.last?.step >= %d)"


def film(seed: int, scheme: str) -> list[Image.Image]:
    """A picture of the page every STRIDE steps, from its first frame to the end of the plan."""
    frames = []
    with serving() as address, sync_playwright() as playwright:
        wait_for(lambda: fetch(address), "The dashboard")
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
        page.set_default_timeout(180_000)
        page.goto(f"{address}/?seed={seed}&networks=2&speed=unlimited" if seed else f"{address}/?speed=unlimited")
        page.wait_for_function(DRAWN % 0)
        page.wait_for_timeout(1000)
        step, finished = 0, False
        while not finished:
            frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            for _ in range(STRIDE):
                step += 1
                page.keyboard.press("n")
                page.wait_for_function(f"{STEPS}.every((at) => at >= {step})")
                finished = page.locator(".nl-panel[data-finished=true]").count() == 2
                if finished:
                    break
            page.wait_for_function(DRAWN % step)
            page.wait_for_timeout(150)  # pulses and flips are half way
        page.wait_for_timeout(1500)
        frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dark", action="store_true")
    asked = parser.parse_args()
    frames = film(asked.seed, "dark" if asked.dark else "light")
    times = [FRAME_MS] * (len(frames) - 1) + [END_MS]
    for quality in (70, 55, 40, 25):
        frames[0].save(
            asked.path, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=quality, method=4
        )
        if asked.path.stat().st_size < MOST_BYTES:
            print(f"{asked.path}: {len(frames)} pictures, {asked.path.stat().st_size / 1e6:.2f} MB, quality {quality}")
            return
    raise SystemExit(f"{asked.path} is larger than {MOST_BYTES / 1e6:g} MB; raise STRIDE.")


if __name__ == "__main__":
    main()
