# SPDX-License-Identifier: GPL-2.0-or-later
"""The house has floors: imports go down only, no room is too large, every file has its licence."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = (
    {"errors", "cells", "verdicts", "tables"},
    {"uapi", "system"},
    {"evidence", "memory", "pinners", "conditions"},
    {"rules", "judge", "unfinished", "attribution"},
    {"runs"},
    {"report", "lab", "silicon", "bisect", "faults"},
    {"cli", "commands"},
)
MODULES = sorted((ROOT / "hil").rglob("*.py"))
LONGEST = 400


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, but for type checking."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "hil").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for module in imports(path):
        parts = module.split(".")
        assert parts[0] not in ("pytest", "_pytest", "fixtures"), f"{path} knows of {module}"
        if parts[0] == "hil" and len(parts) > 1:
            assert floor(parts[1]) <= floor(room), f"{path} imports {module} from above"


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.sh", "*.toml", "*.c", "Makefile"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).exists()]


def test_every_file_names_its_licence() -> None:
    missing = [str(p) for p in tracked() if "SPDX-License-Identifier" not in p.read_text()[:400]]
    assert not missing


def test_no_module_is_too_long() -> None:
    rooms = [*MODULES, *(ROOT / "fixtures").glob("*.py")]
    long = {str(p): n for p in rooms if (n := len(p.read_text().splitlines())) > LONGEST}
    assert not long, "would a reader be better served by two rooms?"
