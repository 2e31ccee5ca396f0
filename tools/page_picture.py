#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes the documentation's picture of `hil matrix --html`: ``tools/page_picture.py PAGE CELL``.

The page is opened in headless Chromium, as tests/unit/test_browser.py does it; the cell's square in
the first column is clicked, so that its evidence is beside the matrix.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
PACKAGES = "chromium chromium-driver"
_PATIENCE = 30.0


@contextmanager
def browser(width: int = 1440, height: int = 900) -> Iterator[Chrome]:
    """Headless Chromium without a network and without a profile; gone at the end."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for word in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", "--force-device-scale-factor=1", "--proxy-server=127.0.0.1:9",
        f"--window-size={width},{height}",
    ):  # fmt: skip
        options.add_argument(word)
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    try:
        driver.set_page_load_timeout(_PATIENCE * 4)
        yield driver
    finally:
        driver.quit()


def until(driver: Chrome, holds: Callable[[], bool]) -> None:
    """Wait until something holds; selenium's TimeoutException when it does not come to."""
    WebDriverWait(driver, _PATIENCE).until(lambda _: holds())


def evidence(driver: Chrome) -> str:
    """The panel's text once it is there."""
    panel = driver.find_element(By.ID, "cell")
    until(driver, panel.is_displayed)
    return str(panel.text)


def found(driver: Chrome, words: Sequence[str]) -> WebElement | None:
    """The first square whose title has all ``words``, scrolled to."""
    top, step = 0, 300
    while True:
        driver.execute_script("document.getElementById('scroll').scrollTop = arguments[0]", top)
        driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
        for square in driver.find_elements(By.CSS_SELECTOR, "#rows button"):
            if all(word in str(square.get_attribute("title")) for word in words):
                return square
        top += step
        if top > driver.execute_script("return document.getElementById('scroll').scrollHeight"):
            return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", metavar="PAGE", type=Path, help="what hil matrix --html wrote")
    parser.add_argument("cell", metavar="CELL", help="words of the id of the cell to be shown")
    parser.add_argument("--words", metavar="TEXT", default="", help="text to filter rows by")
    parser.add_argument("--to", metavar="FILE", default="docs/img/across.png", help="the picture")
    parser.add_argument("--size", metavar="WxH", default="1500x940", help="of the window")
    options = parser.parse_args(argv)
    width, height = map(int, options.size.split("x"))
    with browser(width, height) as driver:
        driver.get(options.page.absolute().as_uri())
        driver.find_element(By.ID, "changing").click()
        driver.find_element(By.ID, "text").send_keys(options.words)
        square = found(driver, options.cell.split())
        if square is None:
            print(f"no square has {options.cell!r}", file=sys.stderr)
            return 2
        square.click()
        evidence(driver)
        driver.execute_script(
            "document.querySelector('#rows .open').scrollIntoView({block: 'end'})"
        )
        driver.execute_script("scrollBy(0, 90)")
        driver.save_screenshot(options.to)
    print(f"{options.to}: {Path(options.to).stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
