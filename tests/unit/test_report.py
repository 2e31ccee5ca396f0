# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil report`: which run is told of, where it began, and what stands in the mail."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from hil.cli import main
from hil.errors import HilError
from hil.report.sightings import BAD, BOTH, GOOD, UNTOLD, Story, chosen, sightings, story

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))
CELL = "v4l2-vivid-video0/anonymous/capture/steady"
KNOWN = {"id": "a-known-one", "reference": "0123456789ab (5.12)", "because": "it forgot"}


def add(
    root: Path, kernel: str, verdict: str, *, known: bool = False, accept: bool = True, **meta: Any
) -> str:
    """A run with two cells; its name."""
    count = len(list(root.iterdir())) if root.exists() else 0
    name = f"2026110{count}-000000-virtual-x86-{kernel}"
    record = FAKE["small"]()[0]
    record.update(
        cell=CELL, kernel=kernel, verdict=verdict, reason=f"seen as {verdict}",
        known=KNOWN if known else None, expected={"accept": accept, "errnos": []},
    )  # fmt: skip
    other = {**record, "cell": "v4l2-vivid-video1/anonymous/output/steady", "verdict": "ok"}
    run = {
        **FAKE["meta"](2), "run": name, "kernel": kernel, "kernel_spec": f"debian:{kernel}",
        "started": f"2026-11-0{count}T00:00:00Z", **meta,
    }  # fmt: skip
    FAKE["write"](root / name, [record, other], run)
    return name


def told(root: Path, kernel: str = "") -> Story:
    found = sightings(root, "video0/anonymous")
    return story(found, chosen(found, None, kernel))


def states(of: Story) -> dict[str, str]:
    return {str(kernel.release): kernel.state for kernel in of.kernels}


def test_a_regression_between_two_kernels(tmp_path: Path) -> None:
    for kernel, verdict in (("6.12.9", "leak"), ("6.1.10", "ok"), ("7.3", "ok"), ("6.18", "leak")):
        add(tmp_path, kernel, verdict)
    found = told(tmp_path)
    # By release, not by the order of the runs nor as text.
    assert states(found) == {"6.1.10": GOOD, "6.12.9": BAD, "6.18": BAD, "7.3": GOOD}
    assert found.last_good and found.first_bad and found.fixed
    assert str(found.last_good.release) == "6.1.10"
    assert str(found.first_bad.release) == "6.12.9"
    assert str(found.fixed.release) == "7.3"
    assert found.regression


def test_bad_on_the_oldest_kernel_is_no_regression(tmp_path: Path) -> None:
    add(tmp_path, "5.10.1", "leak")
    add(tmp_path, "6.1.1", "ok")
    found = told(tmp_path)
    assert found.last_good is None
    assert not found.regression


def test_what_tells_nothing_is_passed_over(tmp_path: Path) -> None:
    for kernel, verdict in (
        ("5.10", "ok"), ("6.1", "not-applicable"), ("6.6", "harness-error"), ("6.12", "leak"),
        ("6.16", "no-rule"),
    ):  # fmt: skip
        add(tmp_path, kernel, verdict)
    found = told(tmp_path)
    assert [state for state in states(found).values()].count(UNTOLD) == 3
    assert found.regression
    assert found.last_good and str(found.last_good.release) == "5.10"


def test_a_cell_that_is_both_is_no_regression(tmp_path: Path) -> None:
    for kernel, verdict in (("6.1", "ok"), ("6.12", "leak"), ("6.12", "ok")):
        add(tmp_path, kernel, verdict)
    found = told(tmp_path, "6.12")
    assert states(found) == {"6.1": GOOD, "6.12": BOTH}
    assert not found.regression


def test_another_expectation_is_no_regression(tmp_path: Path) -> None:
    add(tmp_path, "6.1", "ok", accept=False)
    add(tmp_path, "6.12", "wrongly-refused")
    assert not told(tmp_path).regression


@pytest.mark.parametrize("meta", [{"own_modules": ["vivid.ko"]}, {"board": "another"}])
def test_other_boards_and_own_modules_are_other_stories(
    tmp_path: Path, meta: dict[str, Any]
) -> None:
    add(tmp_path, "6.1", "ok", **meta)
    add(tmp_path, "6.12", "leak")
    assert states(told(tmp_path)) == {"6.12": BAD}


def test_which_run_is_told_of(tmp_path: Path) -> None:
    add(tmp_path, "6.1", "stayed", known=True)
    first = add(tmp_path, "6.12.3", "leak")
    second = add(tmp_path, "6.12.4", "leak")
    add(tmp_path, "7.3", "ok")
    found = sightings(tmp_path, CELL)
    assert chosen(found, None, "").folder.name == second
    assert chosen(found, None, "6.12.3").folder.name == first
    assert chosen(found, None, "7.3").record["verdict"] == "ok"
    with pytest.raises(HilError, match=r"on kernel 6\.1\.2"):
        chosen(found, None, "6.1.2")


def mail(root: Path, *more: str) -> str:
    assert main(["report", CELL, "--out", str(root), "--output", str(root / "mail"), *more]) == 0
    return (root / "mail").read_text()


def test_the_mail_of_a_regression(tmp_path: Path) -> None:
    add(tmp_path, "6.1.10", "ok")
    add(tmp_path, "6.12.9", "leak")
    text = mail(tmp_path)
    assert text.startswith("Subject: [REGRESSION] vivid: anonymous/capture: leak on 6.12.9\n")
    assert "\nTo: linux-media@vger.kernel.org\n" in text
    assert "regressions@lists.linux.dev" in text
    assert "\n#regzbot introduced: v6.1.10..v6.12.9\n" in text
    assert "\n#regzbot title: vivid: anonymous/capture: leak\n" in text
    assert "Last good 6.1.10, first bad 6.12.9." in text
    for part in (
        "mm/gup.c:check_vma_flags", "8ac268436e6d", "private anonymous memory", "/dev/video0",
        "allocator vmalloc", "113 live", "#include", "gcc -Wall",
    ):  # fmt: skip
        assert part in text
    letter = text.partition("8<----------")[0]
    long = [line for line in letter.splitlines() if len(line) > 72]
    assert all(line.startswith(("  hil ", "To: ", "Cc: ")) for line in long), long


def test_no_line_for_regzbot_where_nothing_regressed(tmp_path: Path) -> None:
    add(tmp_path, "5.10.1", "leak")
    add(tmp_path, "6.1.1", "ok")
    text = mail(tmp_path)
    assert "#regzbot" not in text and "REGRESSION" not in text and "regressions@" not in text
    assert "Bad on the oldest kernel" in text
    assert "Good again from 6.1.1 on" in text


def test_a_known_regression_is_not_called_new(tmp_path: Path) -> None:
    add(tmp_path, "6.1", "ok")
    add(tmp_path, "6.12", "stayed", known=True)
    text = mail(tmp_path)
    assert "Known as a-known-one: it forgot (0123456789ab (5.12))." in text
    assert "[REGRESSION]" not in text and "regressions@" not in text
    assert "send these lines only" in " ".join(text.split())


def test_kernel_log_and_stack_are_not_broken(tmp_path: Path) -> None:
    name = add(tmp_path, "6.12", "hang")
    journal = tmp_path / name / "journal.jsonl"
    record, *rest = map(json.loads, journal.read_text().splitlines())
    line = "WARNING: CPU: 1 PID: 812 at mm/gup.c:77 " + "x" * 100
    record["evidence"]["log"] = [line, *(f"line {n}" for n in range(200))]
    record["evidence"]["child"]["stack"] = FAKE["STACK"]
    FAKE["write"](
        tmp_path / name, [record, *rest], json.loads((journal.parent / "run.json").read_text())
    )
    text = mail(tmp_path)
    assert f"\n  {line}\n" in text
    assert "lines are left out" in text
    assert "vb2_vmalloc_get_userptr+0x8c" in text


def test_the_program_apart(tmp_path: Path) -> None:
    add(tmp_path, "6.12", "leak")
    text = mail(tmp_path, "--reproducer", str(tmp_path / "again.c"))
    source = (tmp_path / "again.c").read_text()
    assert source.startswith("// SPDX-License-Identifier")
    assert source.rstrip() in text


def test_no_program_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(tmp_path, "6.12", "corrupt")
    text = " ".join(mail(tmp_path, "--run", "2026").split())
    assert "Reproducer" in text
    add(tmp_path, "6.16", "not-held")
    text = " ".join(mail(tmp_path, "--kernel", "6.16").split())
    assert "None that stands alone: what was not held" in text
    wanted = ["--reproducer", str(tmp_path / "again.c"), "--kernel", "6.16"]
    assert main(["report", CELL, "--out", str(tmp_path), *wanted]) == 2
    assert "there is no reproducer" in capsys.readouterr().err
    assert not (tmp_path / "again.c").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-cell"], "no cell 'no-such-cell'"),
        (["anonymous"], "fits 2 cells"),
        ([CELL, "--kernel", "9.9"], "no run of this cell on kernel 9.9"),
        ([CELL, "--run", "1999"], "no run '1999'"),
    ],
)
def test_what_a_person_can_mend(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add(tmp_path, "6.12", "leak")
    assert main(["report", *arguments, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", CELL, "--out", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
