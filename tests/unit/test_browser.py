# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages in headless Chromium: squares are clicked, filters set, and the evidence is read."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs_parts import A, B, D, record, run, three

from hil.report import html
from hil.report.across import write_across

By: Any = pytest.importorskip("selenium.webdriver.common.by").By
Keys: Any = pytest.importorskip("selenium.webdriver.common.keys").Keys
PICTURE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "page_picture.py"))
MISSING = [str(PICTURE[name]) for name in ("CHROMIUM", "DRIVER") if not PICTURE[name].exists()]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser for all tests here.  CI must have one; elsewhere its lack is a reason to skip."""
    if MISSING:
        reason = f"no {' and no '.join(MISSING)}: make setup installs {PICTURE['PACKAGES']}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with PICTURE["browser"](1400, 900) as made:
        yield made


@pytest.fixture
def across(driver: Any, tmp_path: Path) -> Any:
    """The browser, with three kernels side by side in it."""
    folders = three(tmp_path / "runs")
    write_across(folders, tmp_path / "across.html")
    driver.get((tmp_path / "across.html").as_uri())
    yield driver
    errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors


def square(driver: Any, cell: str, kernel: str) -> Any:
    title = f"{cell} on {kernel}:"
    return driver.find_element(By.CSS_SELECTOR, f"#rows button[title^='{title}']")


def rows(driver: Any) -> list[str]:
    """The memory classes of the rows that are drawn."""
    every = "return [...document.querySelectorAll('#rows th')].map((one) => one.textContent)"
    return list(driver.execute_script(every))


def chosen(driver: Any, field: str, text: str) -> None:
    driver.find_element(By.CSS_SELECTOR, f"#{field} option[value='{text}']").click()


def test_a_square_shows_the_evidence_of_its_kernel(across: Any) -> None:
    square(across, A, "5.10.200").click()
    text = PICTURE["evidence"](across)
    for part in ("stayed, known on 5.10.200", "no FOLL_LONGTERM", "0/Movable 4", "VIDIOC_QBUF"):
        assert part in text
    assert across.execute_script("return location.hash").endswith(f":{A}")
    # The same cell on another kernel, from the panel.
    across.find_element(By.CSS_SELECTOR, "#cell .strip button:last-child").click()
    PICTURE["until"](across, lambda: "ok on 6.10" in PICTURE["evidence"](across))
    assert "0/Normal 4" in PICTURE["evidence"](across)


def test_the_evidence_is_reached_by_keys_alone(across: Any) -> None:
    across.find_element(By.CSS_SELECTOR, "#rows button[tabindex='0']").send_keys(Keys.ARROW_RIGHT)
    across.switch_to.active_element.send_keys(Keys.ENTER)
    assert "on 6.9.3" in PICTURE["evidence"](across)
    across.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not across.find_element(By.ID, "cell").is_displayed()
    assert across.switch_to.active_element.get_attribute("title").startswith(f"{A} on 6.9.3")


def test_a_link_of_the_lists_leads_to_the_evidence(across: Any) -> None:
    link = across.find_element(By.CSS_SELECTOR, f"main section a[href$=':{B}']")
    link.click()
    assert "leak on 6.10" in PICTURE["evidence"](across)


def test_filters_leave_rows_that_fit(across: Any) -> None:
    assert rows(across) == ["anonymous", "thp", "memfd", "ksm"]
    chosen(across, "verdict", "leak")
    assert rows(across) == ["thp"]
    chosen(across, "verdict", "!known")
    assert rows(across) == ["anonymous"]
    across.find_element(By.CSS_SELECTOR, "#filters button[type=reset]").click()
    PICTURE["until"](across, lambda: len(rows(across)) == 4)
    chosen(across, "memory", "ksm")
    assert rows(across) == ["ksm"]
    chosen(across, "memory", "family anonymous")
    assert rows(across) == ["anonymous"]
    chosen(across, "memory", "")
    across.find_element(By.ID, "text").send_keys("leak thp")
    assert rows(across) == ["thp"]
    assert across.find_element(By.ID, "shown").text == "1 of 4 rows"


def test_rows_that_change(across: Any) -> None:
    across.find_element(By.ID, "changing").click()
    assert rows(across) == ["anonymous", "thp", "memfd"]
    changed = across.find_elements(By.CSS_SELECTOR, "#rows td.changed button")
    assert square(across, B, "6.10") in changed
    assert square(across, B, "6.9.3") not in changed
    assert D.split("/")[1] not in rows(across)


def test_a_link_to_a_cell_opens_it(driver: Any, tmp_path: Path) -> None:
    write_across(three(tmp_path / "runs"), tmp_path / "across.html")
    driver.get(f"{(tmp_path / 'across.html').as_uri()}#r-610:{B}")
    assert "leak on 6.10" in PICTURE["evidence"](driver)


def test_many_rows_are_drawn_as_they_come_into_sight(driver: Any, tmp_path: Path) -> None:
    cells = [record(f"p/m{number:04}/capture/steady") for number in range(3000)]
    write_across([run(tmp_path, "many", "6.1", cells)], tmp_path / "many.html")
    driver.get((tmp_path / "many.html").as_uri())
    assert len(rows(driver)) < 200
    driver.execute_script("document.getElementById('scroll').scrollTop = 1e9")
    PICTURE["until"](driver, lambda: "m2999" in rows(driver))
    assert len(rows(driver)) < 200
    square(driver, "p/m2999/capture/steady", "6.1").click()
    assert "m2999 came to ok" in PICTURE["evidence"](driver)
    # Printed, all of them are there.
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(rows(driver)) == 3000
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(rows(driver)) < 200


def test_the_page_of_one_run(driver: Any, tmp_path: Path) -> None:
    (_, folder, _) = three(tmp_path)
    html.write(folder)
    driver.get(folder.html.as_uri())
    (found,) = driver.find_elements(By.CSS_SELECTOR, f"#matrix button[title^='{A}']")
    found.click()
    text = PICTURE["evidence"](driver)
    for part in ("stayed, known", "no FOLL_LONGTERM", "0/Movable 4"):
        assert part in text
    driver.find_element(By.ID, "text").send_keys("thp")
    assert driver.find_element(By.ID, "shown").text == "1 of 4 cells"
