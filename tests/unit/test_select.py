# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil run -k` and `-m` choose exactly the cells that pytest itself would."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from _pytest.mark import deselect_by_keyword, deselect_by_mark

from hil.errors import HilError
from hil.lab.selection import select

pytest_plugins = ["pytester"]

CELLS = [
    f"v4l2-vivid-{node}/{memory}/{direction}/steady"
    for node in ("video0", "video0-prepare", "vbi1")
    for memory in ("memfd", "hugetlb-2m-memfd", "anonymous", "ext4-shared-pmd")
    for direction in ("capture", "output")
]
SLOW = [cell for cell in CELLS if "vbi1" in cell]
GUEST = SimpleNamespace(cells=CELLS, slow=frozenset(SLOW), destructive=frozenset())
SUITE = f"""
import pytest
@pytest.mark.hw
@pytest.mark.parametrize("which", [
    pytest.param(cell, id=cell, marks=pytest.mark.slow if cell in {SLOW!r} else ())
    for cell in {CELLS!r}
])
def test_pinning(which): pass
"""


@pytest.fixture
def items(pytester: pytest.Pytester) -> list[pytest.Item]:
    folder = pytester.mkdir("tests") / "hw"
    folder.mkdir()
    (folder / "test_pinning.py").write_text(SUITE)
    pytester.makeini("[pytest]\nmarkers =\n hw\n slow")
    return pytester.inline_genitems("tests")[0]


def pytests_choice(items: list[pytest.Item], keywords: str = "", marks: str = "") -> list[str]:
    left, config = list(items), items[0].config
    config.option.keyword, config.option.markexpr = keywords, marks
    deselect_by_keyword(left, config)
    deselect_by_mark(left, config)
    return [item.callspec.params["which"] for item in left]  # type: ignore[attr-defined]


def test_keywords_as_in_pytest(items: list[pytest.Item]) -> None:
    for words, some in (
        ("not not memfd and not (anonymous or (ext4 and vbi1))", True),
        ("capture and video0 or output and vbi1", True),
        ("not(memfd)or(anonymous)", True),
        ("andy or memfd", True),
        ("memfd", True),
        ("MemFD and not hugetlb", True),
        ("video0/ and (/memfd/ or pmd)", True),
        ("video0-prepare", True),
        ("2m-memfd or vbi1/anonymous/output", True),
        ("slow", True),
        ("not slow and capture", True),
        ("hw and test_pinning.py", True),
        ("tests", True),
        ("test_pinning[v4l2-vivid-vbi1", True),
        ("not test", False),
        ("nothing-such", False),
        ("", True),
        ("  ", True),
    ):
        expected = pytests_choice(items, keywords=words)
        assert select(GUEST, words, "") == expected, words  # type: ignore[arg-type]
        assert bool(expected) == some, words


def test_marks_as_in_pytest(items: list[pytest.Item]) -> None:
    for words, count in (
        ("hw", 24), ("slow", 8), ("hw and not slow", 16), ("lab", 0), ("SLOW", 0), ("", 24),
    ):  # fmt: skip
        expected = pytests_choice(items, marks=words)
        assert select(GUEST, "", words) == expected, words  # type: ignore[arg-type]
        assert len(expected) == count, words


@pytest.mark.parametrize(
    "words", ["memfd and", "(", ")", "(a", "a)", "a b", "not", "or", "==", "a & b", "a(x=1)", "()"]
)
def test_what_is_no_expression_is_named(words: str) -> None:
    for keywords, marks, option in ((words, "", "-k"), ("", words, "-m")):
        with pytest.raises(HilError, match="expression") as caught:
            select(GUEST, keywords, marks)  # type: ignore[arg-type]
        assert caught.value.message.startswith(f"{option} {words!r}")
        assert caught.value.hint
