# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads TOML into dataclasses and says in plain words what is wrong with it.

One dataclass is the schema: field names are the keys, type hints the types, defaults the defaults.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hil.errors import HilError

T = TypeVar("T")


def load(path: Path) -> dict[str, Any]:
    """The TOML file's top table; HilError when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HilError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}",
            "Give the path of a readable TOML file.",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise HilError(f"{path}: not valid TOML: {error}", "Mend the line named above.") from error


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a ``cls`` (a dataclass) of ``table``; ``where`` names the place in error messages."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in fields:
            raise unknown_key(key, [n.replace("_", "-") for n in fields], where)
        values[name] = _convert(hints[name], value, f"{where}: {key}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise HilError(
                f"{where}: the key {name.replace('_', '-')!r} is missing",
                f"Add it; its type is {_name(hints[name])}.",
            )
    return cls(**values)


def unknown_key(key: str, known: list[str], where: str) -> HilError:
    """The error for a key that no schema has; names the nearest one that exists."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return HilError(f"{where}: unknown key {key!r}", f"{hint}Known keys: {', '.join(known)}.")


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
        return _convert(hint, value, where)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _wrong(hint, value, where)
        inner = typing.get_args(hint)[0]
        items = [_convert(inner, v, f"{where}[{i}]") for i, v in enumerate(value)]
        return items if origin is list else tuple(items)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(hint, value, where)
        inner = typing.get_args(hint)[1]
        return {k: _convert(inner, v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise _wrong(hint, value, where)
        return build(typing.cast(type, hint), value, where)
    if hint is Any:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _wrong(hint, value, where)
    return value


def _wrong(hint: Any, value: Any, where: str) -> HilError:
    return HilError(
        f"{where}: found {value!r} ({type(value).__name__}), expected {_name(hint)}",
        "Change the value to that type.",
    )


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def size(text: str, where: str) -> int:
    """Bytes of "512K", "64M", "2G"; HilError for anything else."""
    units = {"K": 10, "M": 20, "G": 30}
    try:
        value = int(text[:-1]) << units[text[-1].upper()]
    except (KeyError, ValueError, IndexError):
        value = 0
    if value <= 0:
        raise HilError(
            f"{where}: found {text!r}, expected a size such as 64M or 2G",
            "Write a whole number followed by K, M or G.",
        )
    return value
