# SPDX-License-Identifier: GPL-2.0-or-later
"""The index follows the run folders, whatever befalls its file, and tells of cells and kernels."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs_parts import KNOWN, A, B, C, D, record, run, three

from hil.cli import main
from hil.errors import HilError
from hil.runs import index
from hil.runs.history import History
from hil.runs.index import NAME, Index


def told(root: Path, cell: str = A) -> list[tuple[str, str]]:
    with History(root) as history:
        return [(seen.run.kernel, seen.verdict) for seen in history.of(cell)]


def test_a_cell_by_kernels_as_they_were_released(tmp_path: Path) -> None:
    three(tmp_path)
    assert told(tmp_path) == [("5.10.200", "stayed"), ("6.9.3", "ok"), ("6.10", "ok")]
    with History(tmp_path) as history:
        first = history.of(A)[0]
    assert (first.outcome, first.known, first.answer) == ("known", KNOWN["id"], "accepted")


def test_what_is_new_changed_or_gone_is_noticed(tmp_path: Path) -> None:
    three(tmp_path)
    assert len(told(tmp_path)) == 3
    run(tmp_path, "later", "7.3", [record(A, "hang")])
    assert told(tmp_path)[-1] == ("7.3", "hang")
    with (tmp_path / "later" / "journal.jsonl").open("a") as file:
        file.write(json.dumps(record(A, "leak")) + "\n")
    assert told(tmp_path)[-1] == ("7.3", "leak")
    shutil.rmtree(tmp_path / "r-510")
    assert [kernel for kernel, _ in told(tmp_path)] == ["6.9.3", "6.10", "7.3"]
    with History(tmp_path) as history:
        assert D in history.cells()  # r-69 has it too
    shutil.rmtree(tmp_path / "r-69")
    with History(tmp_path) as history:
        assert D not in history.cells()


def test_nothing_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three(tmp_path)
    told(tmp_path)
    monkeypatch.setattr(index, "briefs", lambda cells: pytest.fail("read again"))
    assert len(told(tmp_path)) == 3


@pytest.mark.parametrize("junk", [b"", b"no database", b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_or_foreign_file_gives_way(tmp_path: Path, junk: bytes) -> None:
    three(tmp_path)
    (tmp_path / NAME).write_bytes(junk)
    assert len(told(tmp_path)) == 3
    assert len(told(tmp_path)) == 3
    if junk:  # it is somebody's
        assert (tmp_path / f"{NAME}.foreign").read_bytes() == junk


def test_another_programs_database_is_put_aside(tmp_path: Path) -> None:
    three(tmp_path)
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("CREATE TABLE runs (precious TEXT)")
    said: list[str] = []
    with History(tmp_path, said.append) as history:
        assert len(history.runs()) == 3
    assert "no index of this suite" in said[0]
    with sqlite3.connect(tmp_path / f"{NAME}.foreign") as database:
        assert database.execute("SELECT * FROM runs").fetchall() == []


def test_damage_within_is_mended(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run(root, "many", "6.1", [record(f"p/m{n}/capture/steady") for n in range(2000)])
    told(root)
    data = bytearray((root / NAME).read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    (root / NAME).write_bytes(data)
    said: list[str] = []
    with History(root, said.append) as history:
        assert len(history.cells()) == 2000
        assert len(history.of("p/m7/capture/steady")) == 1
    assert any("damaged" in text for text in said)
    assert not (root / f"{NAME}.foreign").exists()


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    three(tmp_path)
    told(tmp_path)
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("PRAGMA user_version = 99")
        database.execute("CREATE TABLE more (x)")
        database.execute("DROP TABLE results")
    assert len(told(tmp_path)) == 3


def test_a_table_that_is_missing_is_damage(tmp_path: Path) -> None:
    three(tmp_path)
    told(tmp_path)
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("DROP TABLE results")
    assert len(told(tmp_path)) == 3


def test_without_a_place_to_write_the_index_is_in_memory(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / NAME).mkdir()
    said: list[str] = []
    with Index(tmp_path, said.append) as made:
        assert made.in_memory
        assert len(made.ask("SELECT * FROM runs")) == 3
    assert "made in memory" in said[0]


def test_a_file_that_can_be_read_but_not_written_is_taken_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(tmp_path)
    told(tmp_path)
    run(tmp_path, "later", "7.3", [record(A)])
    connect = sqlite3.connect

    def read_only(name: Any, **more: Any) -> sqlite3.Connection:
        if name == tmp_path / NAME:
            more["uri"], name = True, f"{name.as_uri()}?mode=ro"
        return connect(name, **more)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    read: list[str] = []
    add = index._add
    monkeypatch.setattr(index, "_add", lambda d, f, s: (read.append(f.name), add(d, f, s)))
    with Index(tmp_path) as made:
        assert made.in_memory
        assert len(made.ask("SELECT * FROM runs")) == 4
    assert read == ["later"]


def test_several_at_once_do_not_trip_one_another(tmp_path: Path) -> None:
    for number in range(4):
        cells = [record(f"p/m{n}/capture/steady") for n in range(300)]
        run(tmp_path, f"run-{number}", f"6.{number}", cells)
    code = "import sys; from hil.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["history", "p/m7/capture/steady", "--json", "--out", str(tmp_path)]
    racing = [
        subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in racing:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert len(json.loads(out)["runs"]) == 4


def test_a_run_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / "r-69" / "run.json").write_text("{")
    assert [kernel for kernel, _ in told(tmp_path)] == ["5.10.200", "6.10"]


def test_no_runs_no_history(tmp_path: Path) -> None:
    with pytest.raises(HilError, match="holds no run"):
        History(tmp_path)
    assert not list(tmp_path.iterdir())


# Which run is meant


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("r-510", "r-510"),
        ("r-5", "r-510"),
        ("5.10", "r-510"),
        ("debian:5.10", "r-510"),
        ("5.10.200", "r-510"),
        ("debian:5.10.200", "r-510"),
        ("6.10", "r-610"),
    ],
)
def test_a_run_by_name_or_kernel(tmp_path: Path, text: str, name: str) -> None:
    three(tmp_path)
    with History(tmp_path) as history:
        assert history.find(text).name == name


@pytest.mark.parametrize("text", ["6.8", "5.10.201", "debian:6.8", "dir:/tmp/linux"])
def test_a_kernel_that_never_ran(tmp_path: Path, text: str) -> None:
    three(tmp_path)
    with History(tmp_path) as history, pytest.raises(HilError, match="no complete run") as error:
        history.find(text)
    assert "5.10.200" in error.value.hint


def test_of_a_kernel_the_newest_complete_run_of_stock_drivers(tmp_path: Path) -> None:
    run(tmp_path, "a", "6.1.5", [record(A)])
    run(tmp_path, "b", "6.1.9", [record(A)])
    run(tmp_path, "c", "6.1.9", [record(A)], {"status": "interrupted"})
    run(tmp_path, "d", "6.1.9", [record(A)], {"own_modules": ["vivid: /tmp/vivid.ko"]})
    with History(tmp_path) as history:
        assert history.find("6.1").name == "b"
        assert history.find("6.1.5").name == "a"
        assert history.find("d").modules == "vivid: /tmp/vivid.ko"


def test_two_kernels_are_compared_on_one_board(tmp_path: Path) -> None:
    run(tmp_path, "a", "6.1", [record(A)])
    run(tmp_path, "b", "6.12", [record(A)])
    run(tmp_path, "c", "6.12", [record(A)], {"board": "virtual-gaudi"})
    with History(tmp_path) as history:
        names = [found.name for found in history.find_two("6.1", "6.12")]
        assert names == ["a", "b"]
        assert [found.name for found in history.find_two("a", "c")] == ["a", "c"]
        with pytest.raises(HilError, match="both mean a"):
            history.find_two("6.1", "6.1.0")
        with pytest.raises(HilError, match="on a board of c"):
            history.find_two("c", "6.1")


def test_two_runs_of_one_kernel_are_the_two_newest(tmp_path: Path) -> None:
    for name in "abc":
        run(tmp_path, name, "6.1", [record(A)])
    with History(tmp_path) as history:
        assert [found.name for found in history.find_two("6.1", "6.1")] == ["c", "b"]


def test_of_each_series_a_run_of_the_same_cells_as_the_newest(tmp_path: Path) -> None:
    nightly, one = ({"selection": {"keywords": k, "marks": "hw"}} for k in ("", "thp"))
    run(tmp_path, "a", "6.1.5", [record(A)], nightly)
    run(tmp_path, "b", "6.1.9", [record(A)], nightly)
    run(tmp_path, "c", "6.1.9", [record(A)], one)
    run(tmp_path, "d", "6.12.3", [record(A)], nightly)
    with History(tmp_path) as history:
        assert [found.name for found in history.series()] == ["b", "d"]


# Commands


def say(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    assert main([str(word) for word in words]) == status
    return capsys.readouterr().out


def test_hil_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path)
    text = say(capsys, "history", "anonymous", "--out", tmp_path)
    lines = [line.split() for line in text.splitlines()]
    assert lines[2][0] == "5.10.200"
    assert lines[2][4:] == ["stay", "stayed", "accepted", KNOWN["id"], "r-510"]
    assert "5.10.200 stayed (accepted), 6.9.3 ok (accepted)" in text
    found = json.loads(say(capsys, "history", A, "--json", "--out", tmp_path))
    assert [entry["verdict"] for entry in found["runs"]] == ["stayed", "ok", "ok"]
    assert "3 runs, 4 cells" in say(capsys, "history", "rebuild", "--out", tmp_path)
    assert main(["history", "steady", "--out", str(tmp_path)]) == 2
    assert "fits 4 cells" in capsys.readouterr().err


def flaky_runs(root: Path) -> None:
    for name, verdict in zip("abcde", ("ok", "moved", "ok", "ok", "ok"), strict=True):
        run(root, name, "6.1.5", [record(A, verdict), record(B)])
    run(root, "f", "6.12", [record(A), record(B)])


def test_hil_flaky(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flaky_runs(tmp_path)
    text = say(capsys, "flaky", "--out", tmp_path)
    assert "6.1.5 on virtual-x86" in text
    assert "ok 4/5, moved 1/5" in text
    assert A in text
    assert B not in text
    (found,) = json.loads(say(capsys, "flaky", "--json", "--out", tmp_path))
    assert (found["verdicts"], found["runs"]) == ({"ok": 4, "moved": 1}, {"ok": "e", "moved": "b"})
    for name in "b":
        shutil.rmtree(tmp_path / name)
    assert "No cell" in say(capsys, "flaky", "--out", tmp_path)


def test_other_modules_are_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "a", "6.1", [record(A)])
    run(tmp_path, "b", "6.1", [record(A, "moved")], {"own_modules": ["vivid: /tmp/vivid.ko"]})
    assert "No cell" in say(capsys, "flaky", "--out", tmp_path)


def test_hil_diff_ends_with_1_for_what_is_newly_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(tmp_path)
    text = say(capsys, "diff", "6.9", "6.10", "--out", tmp_path, status=1)
    assert text.index("new: 1") < text.index("other verdict: 1") < text.index("only in the first")
    assert "1 new, 1 other verdict, 1 only in the first, 1 the same: new bad cells" in text
    text = say(capsys, "diff", "6.10", "6.9", "--out", tmp_path)
    assert "fixed: 1" in text
    assert "was: thp came to leak" in text
    found = json.loads(say(capsys, "diff", "6.9", "6.10", "--json", "--out", tmp_path, status=1))
    assert found["counts"]["new"] == 1
    (new,) = [entry for entry in found["differences"] if entry["kind"] == "new"]
    assert (new["cell"], new["second"]["verdict"]) == (B, "leak")
    assert main(["diff", "6.9", "6.11", "--out", str(tmp_path)]) == 2


def test_what_comes_and_goes_on_one_kernel_is_flaky_not_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flaky_runs(tmp_path)
    text = say(capsys, "diff", "f", "b", "--out", tmp_path, status=1)  # 6.12 never moved it
    assert "6.1.5: ok 4/5, moved 1/5" in text
    text = say(capsys, "diff", "b", "f", "--out", tmp_path)
    assert "fixed: 1" in text  # no other run of 6.12 or 6.1.5 tells against it
    run(tmp_path, "g", "6.12", [record(A, "moved")])
    text = say(capsys, "diff", "f", "b", "--out", tmp_path)
    assert "flaky: 1" in text
    assert "6.12: moved 1/2, ok 1/2" in text


def test_two_runs_alone_tell_of_no_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "a", "6.1", [record(A), record(C)])
    run(tmp_path, "b", "6.1", [record(A, "crash"), record(C, zone="Movable")])
    text = say(capsys, "diff", "a", "b", "--out", tmp_path, status=1)
    assert "new: 1" in text
    assert "zones: not Movable → Movable" in text


def test_hil_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path / "runs")
    page = tmp_path / "a.html"
    text = say(capsys, "matrix", "--out", tmp_path / "runs", "--html", page)
    assert "3 runs side by side" in text
    assert "LEAK" in text
    assert page.read_text("utf-8").rstrip().endswith("</html>")
    text = say(capsys, "matrix", "5.10", "r-69", "--out", tmp_path / "runs")
    assert "6.10" not in text
    assert main(["matrix", "--board", "none", "--out", str(tmp_path / "runs")]) == 2
