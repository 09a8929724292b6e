"""The README's pictures: the page that opens, filmed in a browser while it trains, and three stills. None is drawn by
hand.

    python scripts/film.py docs [--seed 0] [--dark] [--only forgetting write futures plane]

Needs playwright and a Chromium. The page stands still while a picture is taken, so a slow machine films the same.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path, fetch, serving, wait_for

SIZE = {"width": 1366, "height": 768}
STRIDE = 4  # steps between two pictures
FRAME_MS, END_MS = 160, 2600
MOST_BYTES = 3_000_000
PATIENCE_MS = 180_000
STEPS = "[...document.querySelectorAll('.nl-number-step dd')].map((one) => Number(one.textContent))"
DRAWN = "document.querySelector('.nl')?.parentElement.nllab?.panels.every(({ stage }) => stage.reel.last?.step >= %d)"
ENDED = "document.querySelectorAll('.nl-panel[data-finished=true]').length === 2"


def picture(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def film(page: Page) -> list[Image.Image]:
    """A picture of the page every STRIDE steps, from its first frame to the end of the plan."""
    frames = []
    step, finished = 0, False
    while not finished:
        frames.append(picture(page))
        for _ in range(STRIDE):
            step += 1
            page.keyboard.press("n")
            page.wait_for_function(f"{STEPS}.every((at) => at >= {step})")
            finished = page.evaluate(ENDED)
            if finished:
                break
        page.wait_for_function(DRAWN % step)
        page.wait_for_timeout(150)  # pulses and flips are half way
    page.wait_for_timeout(1500)
    return [*frames, picture(page)]


def write(page: Page) -> Image.Image:
    """One write of each network while B is being learned, at the phase in which the memory holds its part back."""
    page.locator(".st-key-play button:visible").first.click()
    page.wait_for_function(f"{STEPS}.every((at) => at >= 71)")
    page.locator(".st-key-play button:visible").first.click()
    page.locator(".st-key-open_write button:visible").first.click()
    page.locator(".nl-phasebar").get_by_role("button", name="Held back", exact=True).click()
    page.wait_for_timeout(1500)
    return picture(page)


def futures(page: Page) -> Image.Image:
    """What had become of A and B, by the moment at which the deep optimizer is switched on."""
    page.locator(".st-key-futures summary").click()
    page.locator(".st-key-futures_train button:visible").first.click()
    fan = page.locator(".nl-fan")
    page.wait_for_function("Number(document.querySelector('.nl-fan-canvas')?.getAttribute('aria-valuemax')) >= 15")
    page.get_by_text("futures are at their end").wait_for(state="detached")
    page.locator(".nl-fan-canvas").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    return Image.open(io.BytesIO(fan.screenshot())).convert("RGB")


def plane(page: Page) -> Image.Image:
    """Two decision surfaces at the end of the plan."""
    page.locator(".st-key-play button:visible").first.click()
    page.wait_for_function(ENDED)
    page.wait_for_timeout(1500)
    return picture(page)


STILLS: dict[str, tuple[str, Callable[[Page], Image.Image]]] = {
    "write": ("speed=15", write),
    "futures": ("", futures),
    "plane": ("stream=plane-ab&speed=unlimited", plane),
}


def save_film(frames: list[Image.Image], path: Path) -> str:
    times = [FRAME_MS] * (len(frames) - 1) + [END_MS]
    for quality in (70, 55, 40, 25):
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=quality, method=4)
        if path.stat().st_size < MOST_BYTES:
            return f"{path}: {len(frames)} pictures, {path.stat().st_size / 1e6:.2f} MB, quality {quality}"
    raise SystemExit(f"{path} is larger than {MOST_BYTES / 1e6:g} MB; raise STRIDE.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dark", action="store_true")
    names = ["forgetting", *STILLS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    asked = parser.parse_args()
    with serving() as address, sync_playwright() as playwright:
        wait_for(lambda: fetch(address), "The dashboard")
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        for name in asked.only:
            query, take = STILLS.get(name, ("speed=unlimited", None))
            page = browser.new_context(viewport=SIZE, color_scheme="dark" if asked.dark else "light").new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"{address}/?{query}{f'&seed={asked.seed}' if asked.seed else ''}")
            page.wait_for_function(DRAWN % 0)
            page.wait_for_timeout(1000)
            if take:
                path = asked.folder / f"{name}.png"
                take(page).save(path, optimize=True)
                print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
            else:
                print(save_film(film(page), asked.folder / f"{name}.webp"), flush=True)
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main()
