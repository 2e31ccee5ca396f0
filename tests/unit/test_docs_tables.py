# SPDX-License-Identifier: GPL-2.0-or-later
"""README and docs/: tables and numbers that say what the code says."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from docs_parts import ROOT, TEXTS, blocks, flat, section, tables

from fixtures import hw
from hil.cells import Direction
from hil.commands.arguments import EXITS
from hil.lab import board, kvm, limits
from hil.memory.bench import KINDS
from hil.report.marks import ACCEPTED, FIXED, REFUSED, SKIPPED, WORDS
from hil.rules import table
from hil.runs import act, diff, outcome, trial
from hil.runs.suite import make_record
from hil.system.release import parse
from hil.verdicts import MEANING, Verdict

# Tables that say what the code says


def test_verdicts_in_the_readme_mean_what_the_code_says() -> None:
    (rows,) = tables(TEXTS["README.md"], "verdict")
    assert {row[0]: row[1] for row in rows} == {str(v): text for v, text in MEANING.items()}


def test_every_verdict_is_explained() -> None:
    explained = next(tables(TEXTS["docs/verdicts.md"], "verdict", "what was seen"))
    assert [row[0] for row in explained] == [str(verdict) for verdict in Verdict]
    (words,) = tables(TEXTS["docs/verdicts.md"], "word", "verdict")
    assert {row[1]: row[0] for row in words} == {str(v): word for v, word in WORDS.items()}


def test_kinds_of_differences_are_what_the_code_says() -> None:
    (rows,) = tables(TEXTS["docs/history.md"], "kind", "what it means")
    assert {row[0]: row[1] for row in rows} == {
        str(kind): text for kind, text in diff.MEANING.items() if kind is not diff.Kind.SAME
    }


def test_signs_of_the_matrix_are_the_ones_shown() -> None:
    text = section(TEXTS["docs/verdicts.md"], "In the matrix")
    for mark in (ACCEPTED, REFUSED, SKIPPED, FIXED):
        assert f"`{mark.sign}`" in text


def test_outcomes_are_what_the_code_makes_of_verdicts() -> None:
    (rows,) = tables(TEXTS["docs/verdicts.md"], "verdict", "known row", "outcome")
    told = {(row[0], row[1][:3]): (row[2], int(row[4])) for row in rows}
    for verdict in Verdict:
        for marked in (None, {"id": "x", "reference": "y"}):
            record = {"cell": "a/b/capture/c", "verdict": str(verdict), "known": marked}
            which = "yes" if marked else "no"
            name = str(verdict) if any(key[0] == verdict for key in told) else "any other"
            answer = told.get((name, which)) or told[(name, "–")]
            assert outcome.outcome_of(record) == answer[0]
            assert outcome.exit_code([record], {}) == answer[1]


@pytest.mark.parametrize("page", ["README.md", "docs/bisecter.md"])
def test_exit_codes_are_the_command_lines(page: str) -> None:
    text = " ".join(TEXTS[page].replace("|", " ").split())
    promised = dict(re.findall(r"(\d+) ([^;]+)", " ".join(EXITS.split()).partition(": ")[2]))
    assert set(promised) == {"0", "1", "2", "3"}
    for status, meaning in promised.items():
        assert re.search(rf"\b{status} {re.escape(meaning)}", text), (status, meaning)


_TITLES: dict[str, type] = {
    "Board": board.Board,
    "machine": board.Machine,
    "machine.nodes": board.Node,
    "machine.dimms": board.Dimm,
    "machine.pmem": board.Pmem,
    "machine.silicon": board.Silicon,
    "guest": board.Guest,
    "guest.webcams": board.Webcam,
    "guest.ramdisks": board.RamDisk,
    "suite": board.Suite,
}


def _kind(hint: Any) -> str:
    """A type hint in the words of docs/boards.md."""
    arguments = [a for a in typing.get_args(hint) if a not in (type(None), ...)]
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return _kind(arguments[0])
    if origin is tuple:
        return {str: "array of strings"}.get(arguments[0], "array of tables")
    if origin is dict:
        return "table of strings"
    return {str: "string", int: "integer", bool: "boolean"}.get(hint, "table")


@pytest.mark.parametrize("title", _TITLES)
def test_board_keys_types_and_defaults_are_those_of_the_schema(title: str) -> None:
    kind = _TITLES[title]
    hints = typing.get_type_hints(kind)
    expected = {}
    for field in dataclasses.fields(kind):
        if field.name == "text":  # not a key of the file: the file itself
            continue
        if field.default_factory is not dataclasses.MISSING:
            default = "empty"
        elif field.default is dataclasses.MISSING:
            default = "required"
        elif field.default is None:
            default = "none"
        elif field.default == ():
            default = "empty"
        else:
            default = json.dumps(field.default)
        expected[field.name.replace("_", "-")] = (_kind(hints[field.name]), default)
    (rows,) = tables(section(TEXTS["docs/boards.md"], title), "key", "type", "default")
    assert {row[0]: (row[1], row[2]) for row in rows} == expected
    assert all(row[3] for row in rows)


def test_the_example_board_can_be_loaded(tmp_path: Path) -> None:
    (text,) = blocks(TEXTS["docs/boards.md"], "toml")
    file = tmp_path / "lab.toml"
    file.write_text(text)
    loaded = board.load(str(file))
    assert (loaded.kind, loaded.suite.require) == ("local", ("v4l2",))
    assert set(loaded.scratch) == {"ext4", "xfs"}


def test_kinds_of_scratch_and_file_systems_are_all_told() -> None:
    text = TEXTS["docs/boards.md"]
    assert [kind for kind in (*KINDS, *board.FILESYSTEMS) if f"`{kind}`" not in text] == []


def test_numbers_that_are_told_are_the_codes() -> None:
    keeper = flat("docs/lab-keeper.md")
    assert f"beyond {limits.DEFAULTS['snapshots'].removesuffix('G')} GiB" in keeper
    machine = board.load("virtual-x86").machine
    assert machine is not None
    sizes = [n.size for n in machine.nodes] + [d.size for d in machine.dimms]
    total = sum(int(s[:-1]) * {"G": 1024, "M": 1}[s[-1]] for s in sizes) / 1024
    assert f"A guest has {total:g} GiB of RAM" in keeper
    vb2 = table.read(ROOT / "hil/rules/vb2-vmalloc.toml")
    assert f"kernels {vb2.first.series} to {vb2.last.series}" in flat("README.md")
    assert f"`pins.after.live` above 0, {act.GRACE:g} s after" in flat("docs/verdicts.md")
    assert f"answers within {kvm.LIMIT:g} s" in keeper
    assert f"a guest of {len(kvm.GUEST)} bytes" in keeper
    assert "refresh-hours = 24" in (ROOT / "lab-config/archive.toml").read_text()
    assert '("hil guard: could not restore")' in keeper
    assert '"<4>hil guard: could not restore ' in (ROOT / "hil/system/guard.py").read_text()


# Fields of the journal


def _fields(name: str, title: str) -> set[str]:
    (rows,) = tables(section(TEXTS[name], title), "field")
    return {field for row in rows for field in row[0].split(", ")}


def _evidence() -> dict[str, Any]:
    evidence = trial._merge("done", {}, {})
    evidence |= {"log": [], "taint": {"before": 0, "after": 0}, "child": {}}
    return evidence


def test_fields_of_a_record_are_all_told() -> None:
    cell = hw.Cell("p", "anonymous", Direction.CAPTURE, "steady")
    record = make_record(cell, "vivid", "vb2-vmalloc", parse("6.12"), _evidence(), seconds=0.0)
    assert _fields("docs/journal.md", "A record of journal.jsonl") == set(record)


def test_fields_of_evidence_are_all_told() -> None:
    assert _fields("docs/journal.md", "evidence") == set(_evidence())
    (rows,) = tables(section(TEXTS["docs/journal.md"], "evidence"), "field")
    stages = next(row[2] for row in rows if row[0] == "stage")
    assert ", ".join(trial.STAGES) in stages


def test_fields_of_run_json_are_all_told() -> None:
    """Every key that is written by name into run.json, wherever that is."""
    told = _fields("docs/journal.md", "run.json")
    sources = "".join(
        (ROOT / name).read_text() for name in ("hil/lab/kernel_run.py", "hil/runs/suite.py")
    )
    for field in told:
        assert f'"{field}":' in sources or re.search(rf"\b{field}=", sources), field
    facts = re.search(r"def _facts\(.*?\n    return (\{.*?\n    \})", sources, re.S)
    describe = re.search(r"def describe\(.*?return (\{.*?\n        \})", sources, re.S)
    assert facts and describe
    keys = set(re.findall(r'^        "(\w+)":', facts.group(1), re.M))
    keys |= set(re.findall(r'^            "(\w+)":', describe.group(1), re.M))
    assert keys and keys <= told
