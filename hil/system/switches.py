# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel switches in /proc/sys and /sys: reading them, and changing them for a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.system.guard import chosen

if TYPE_CHECKING:
    from hil.system.guard import Guard


def value(path: str | Path) -> str:
    """A switch's value; of "always [madvise] never" the chosen word, "" when there is no file."""
    try:
        return chosen(Path(path).read_text().strip())
    except OSError:
        return ""


@contextlib.contextmanager
def switched(guard: Guard | None, wanted: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """Have each switch at one of its values while the body runs.

    One that is right already is left alone; any other is set to the first value, and put back
    after the body.  The guard holds the first value of the session in any case.
    NotApplicableError when a switch has to be changed and there is no guard, or the kernel refuses.
    """
    changed: list[tuple[str, str]] = []
    try:
        for path, values in wanted.items():
            now = value(path)
            if now in values:
                continue
            remedy = f"{path} is {now or 'not there'!r} and must be {' or '.join(values)}"
            if guard is None or not now:
                raise NotApplicableError(remedy)
            try:
                guard.set(path, values[0])
            except OSError as error:
                raise NotApplicableError(f"{remedy}: {error}") from error
            changed.append((path, now))
        yield
    finally:
        for path, before in reversed(changed):
            Path(path).write_text(before)
