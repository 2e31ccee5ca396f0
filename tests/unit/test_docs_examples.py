# SPDX-License-Identifier: GPL-2.0-or-later
"""CONTRIBUTING and docs/: the examples work."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest
from docs_parts import CONTRIBUTING, ROOT, blocks

from hil.cells import Direction
from hil.memory import base
from hil.memory.bench import Bench
from hil.pinners.base import Survey
from hil.report.marks import ACCEPTED
from hil.rules import known, table
from hil.system.release import parse

# Examples that are run


def _load(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> types.ModuleType:
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(text, f"CONTRIBUTING.md: {name}", "exec"), vars(module))
    return module


def _example(marker: str, language: str = "python") -> str:
    (found,) = [text for text in blocks(CONTRIBUTING, language) if marker in text]
    assert language != "python" or found.startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    return found


def test_the_example_memory_class_makes_a_proven_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.all_classes()
    monkeypatch.setattr(base, "_classes", dict(before))
    monkeypatch.setattr(base, "FAMILIES", (*base.FAMILIES, "locked"))
    _load(monkeypatch, "hil.memory.locked", _example("@memory_class"))
    (name,) = set(base.all_classes()) - set(before)
    made = base.all_classes()[name]
    assert (name, made.family) == ("anonymous-locked", "locked")
    buffer = made.make(Bench(), 5000, Direction.CAPTURE)
    assert buffer.length >= 5000
    assert buffer.proof["Locked"] == buffer.length
    buffer.close()


def test_the_example_rule_fits_into_the_table(tmp_path: Path) -> None:
    file = tmp_path / "vb2-vmalloc.toml"
    own = (ROOT / "hil/rules/vb2-vmalloc.toml").read_text()
    file.write_text(f"{own}\n{_example('[[rule]]', 'toml')}")
    found = table.read(file)
    names = ["anonymous", "anonymous-locked"]
    assert table.check(found, names, [parse("5.10.200"), parse("6.12.1"), parse("7.3")]) == []
    (row,) = [row for row in found.rows if row.names("anonymous-locked")]
    assert row.expect == "accept" and row.source


def test_the_example_defect_is_one_of_the_projects(tmp_path: Path) -> None:
    text = _example("[[known]]", "toml")
    file = tmp_path / "known.toml"
    file.write_text(text)
    (entry,) = known.read(file)
    own = [e for e in known.all_known() if e.id == entry.id]
    assert [e._replace(span=entry.span) for e in own] == [entry]
    assert text in (ROOT / "hil/rules/known.toml").read_text() + "\n"


def test_the_example_pinner_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _load(monkeypatch, "hil.pinners.xdp_example", _example("class XdpPinner"))
    found: Survey = module.survey(())
    assert module.survey(("vivid",)) == Survey([], [])
    if not found.pinners:
        pytest.skip(f"no AF_XDP here: {found.nodes[0].reason}")
    (pinner,) = found.pinners
    with pinner.open(Direction.CAPTURE) as session:
        address = base.place(session.length)
        good = base.buffer_of(address, session.length)
        assert session.pin(good).errno == 0
    with pinner.open(Direction.CAPTURE) as session:
        unmapped = base.Buffer(base.reserve(session.length), session.length)
        assert os.strerror(session.pin(unmapped).errno) == "Bad address"
    good.close()


def test_the_picture_is_a_picture_of_a_run_and_fetches_nothing() -> None:
    picture = (ROOT / "docs/img/matrix.svg").read_text()
    assert picture.startswith("<svg")
    assert "@font-face" not in picture and "url(http" not in picture
    assert "Linux&#160;" in picture and ACCEPTED.sign in picture


def test_the_licence_is_the_one_that_files_name() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in text and "Version 2, June 1991" in text
