# SPDX-License-Identifier: GPL-2.0-or-later
"""TOML into dataclasses, and plain words for what does not fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hil import tables
from hil.errors import HilError


@dataclass(frozen=True)
class Part:
    size: str
    node: int = 0


@dataclass(frozen=True)
class Whole:
    name: str
    quick: bool = False
    place: Path | None = None
    parts: tuple[Part, ...] = ()
    command_line: str = ""
    options: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)


def test_everything_that_a_table_may_hold() -> None:
    found = tables.build(
        Whole,
        {
            "name": "x", "quick": True, "place": "/tmp", "parts": [{"size": "1G", "node": 2}],
            "command-line": "quiet", "options": {"vivid": "n_devs=2"}, "words": ["a"],
        },
        "f",
    )  # fmt: skip
    assert found == Whole(
        "x", True, Path("/tmp"), (Part("1G", 2),), "quiet", {"vivid": "n_devs=2"}, ["a"]
    )


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"name": "x", "comand-line": ""}, "f: unknown key 'comand-line'", "'command-line'?"),
        ({"name": "x", "zzz": 1}, "f: unknown key 'zzz'", "Known keys: name,"),
        ({}, "f: the key 'name' is missing", "str"),
        ({"name": 3}, "f: name: found 3 (int), expected str", ""),
        ({"name": "x", "quick": "yes"}, "f: quick: found 'yes' (str), expected bool", ""),
        ({"name": "x", "parts": {}}, "f: parts: found {} (dict)", ""),
        ({"name": "x", "parts": ["1G"]}, "f: parts[0]: found '1G' (str), expected Part", ""),
        (
            {"name": "x", "parts": [{"size": "1G", "nod": 1}]},
            "f: parts[0]: unknown key 'nod'",
            "Did you mean 'node'?",
        ),
        ({"name": "x", "parts": [{"size": "1", "node": True}]}, "node: found True (bool)", ""),
        ({"name": "x", "options": {"a": 1}}, "f: options.a: found 1 (int), expected str", ""),
        ({"name": "x", "words": "a"}, "f: words: found 'a' (str)", ""),
    ],
)
def test_what_does_not_fit_is_named(table: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(HilError) as caught:
        tables.build(Whole, table, "f")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken, odd, folder = tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "c.toml"
    broken.write_text("name = \n")
    odd.write_bytes(b'name = "\xff"\n')
    folder.mkdir()
    for path, words in (
        (broken, "line 1"), (odd, "utf-8"), (folder, "Is a directory"),
        (tmp_path / "none.toml", "No such file"),
    ):  # fmt: skip
        with pytest.raises(HilError, match=words) as caught:
            tables.load(path)
        assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("text", "size"), [("64M", 64 << 20), ("2G", 2 << 30), ("4K", 4096), ("1g", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert tables.size(text, "f") == size


@pytest.mark.parametrize("text", ["", "64", "M", "1.5G", "64MB", "-1M", "0G", "six G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(HilError, match="f: found") as caught:
        tables.size(text, "f")
    assert "64M" in caught.value.message
