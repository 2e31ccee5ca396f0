# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading tables that people amend: every error names the row, the key and what was expected."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hil.errors import HilError
from hil.system.release import Span

Row = Mapping[str, Any]
PARSED = ".json"


def load(path: Path) -> dict[str, Any]:
    """The file's content; HilError when it can't be read or is no TOML.

    In a guest's image it stands beside the file as JSON (hil/lab/rootfs.py): under TCG the tables
    take a third of a second as TOML.
    """
    try:
        if (parsed := path.with_suffix(PARSED)).exists():
            found: dict[str, Any] = json.loads(parsed.read_bytes())
            return found
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HilError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HilError(f"{path}: {error}", "see docs/rules/README.md for the format") from error


def fail(path: Path, row: str, what: str, hint: str = "") -> HilError:
    return HilError(
        f"{path.name}: {row}: {what}", hint or "see docs/rules/README.md for the format"
    )


def check_keys(
    path: Path, where: str, row: Row, needed: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """HilError for a missing key, and for an unknown one with the nearest known key."""
    for key in row:
        if key not in needed and key not in optional:
            import difflib

            near = difflib.get_close_matches(key, [*needed, *optional], 1, 0.65)
            hint = f"did you mean {near[0]!r}?" if near else ""
            known = ", ".join([*needed, *optional])
            raise fail(path, where, f"unknown key {key!r}", hint or f"known keys: {known}")
    for key in needed:
        if key not in row:
            raise fail(path, where, f"the key {key!r} is missing")


def strings(path: Path, where: str, row: Row, key: str) -> tuple[str, ...]:
    """A list of strings; absent is empty."""
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise fail(path, where, f"{key!r} is {value!r}, expected a list of strings")
    return tuple(value)


def text(path: Path, where: str, row: Row, key: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise fail(path, where, f"{key!r} is {value!r}, expected a string")
    return value


def choice(path: Path, where: str, row: Row, key: str, allowed: Sequence[str]) -> str:
    value = row.get(key, allowed[0])
    if value not in allowed:
        raise fail(path, where, f"{key!r} is {value!r}, expected one of: {', '.join(allowed)}")
    return str(value)


def span(path: Path, where: str, row: Row) -> Span:
    """The row's kernel range from its keys since and until."""
    since = strings(path, where, row, "since")
    until = strings(path, where, row, "until")
    try:
        return Span(since, until)
    except ValueError as error:
        raise fail(path, where, f"bad kernel range: {error}") from error


def matches(pattern: str, name: str) -> bool:
    """Shell-like match with ``*`` only; fnmatch compiles a regular expression for each pattern."""
    if "*" not in pattern:
        return pattern == name
    first, *rest = pattern.split("*")
    if not name.startswith(first):
        return False
    place = len(first)
    last = rest.pop()
    for part in rest:
        found = name.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return len(name) - place >= len(last) and name.endswith(last)
