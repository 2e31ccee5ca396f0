# SPDX-License-Identifier: GPL-2.0-or-later
"""How much the cache may hold: built-in limits, and those of the user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hil import tables
from hil.errors import HilError
from hil.lab import cache

DEFAULTS = {"snapshots": "8G"}


class Limits(NamedTuple):
    """Bytes on disk."""

    snapshots: int
    """All snapshots together; the one that was used last stays whatever its size."""
    told: str
    """Where that was set."""


def file() -> Path:
    """Where the user sets limits; it need not be there."""
    from platformdirs import user_config_path

    return user_config_path(cache.NAME) / "cache.toml"


def get() -> Limits:
    """The limits that hold now; HilError for a file that cannot be read or has other keys."""
    path = file()
    if not path.exists():
        return Limits(tables.size(DEFAULTS["snapshots"], "snapshots"), "built in")
    content = tables.load(path)
    for key, value in content.items():
        if key not in DEFAULTS or not isinstance(value, str):
            raise HilError(
                f'{path}: found {key} = {value!r}, expected snapshots = "SIZE"',
                'For example snapshots = "16G".',
            )
    text = content.get("snapshots", DEFAULTS["snapshots"])
    return Limits(tables.size(text, f"{path}: snapshots"), str(path))
