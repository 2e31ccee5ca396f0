# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of the cache that somebody uses are not removed: an flock(2) each, gone with its process.

What a running guest needs is held part by part.  Everything else, from package lists to sources
that something is built of, is held as a whole by each process that uses the cache.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from hil.errors import HilError
from hil.lab import cache

_WHOLE = "in-use.lock"


class Holds:
    """Parts of the cache that are used until `close`, or the process's end."""

    def __init__(self) -> None:
        self._fds: dict[Path, int] = {}

    def add(self, part: Path) -> None:
        """Hold a part, a file or a folder, and note that it was used now.

        HilError when somebody has removed it.  What is not in the cache needs no holding.
        """
        if part in self._fds or not part.is_relative_to(cache.root()):
            return
        fd = -1
        try:
            fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_SH)
            there = os.path.samestat(os.fstat(fd), part.stat())
            os.utime(part)
        except OSError:
            there = False
        if not there:
            if fd >= 0:
                os.close(fd)
            raise HilError(
                f"{part} was removed from the cache as it was to be used", "Start the run again."
            )
        self._fds[part] = fd

    def drop(self, part: Path) -> None:
        """Hold it no longer."""
        fd = self._fds.pop(part, -1)
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Hold nothing any more; safe to call twice."""
        for part in list(self._fds):
            self.drop(part)

    def __enter__(self) -> Holds:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def remove(part: Path) -> bool:
    """Remove a part of the cache that nobody holds; False when somebody does, or it cannot go."""
    try:
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return not part.exists() or _unlinked(part)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = part.with_name(f".{part.name}.gone.{os.getpid()}")
        # In one step: who comes now finds nothing, and not a half.
        part.rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone, ignore_errors=True)
        else:
            gone.unlink()
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _unlinked(part: Path) -> bool:
    with suppress(OSError):
        part.unlink()
    return not part.is_symlink()


_whole: dict[Path, int] = {}
"""Lock files of the caches that this process uses, open."""


def use() -> None:
    """Hold the cache as a whole, shared with other runs, until this process ends."""
    file = cache.root() / "locks" / _WHOLE
    if file in _whole:
        return
    file.parent.mkdir(exist_ok=True)
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(fd, fcntl.LOCK_SH)
    _whole[file] = fd


class Alone:
    """A try to have the cache for oneself.  ``got`` tells whether nobody else uses it."""

    def __enter__(self) -> Alone:
        file = cache.root() / "locks" / _WHOLE
        file.parent.mkdir(exist_ok=True)
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.got = True
        except OSError:
            self.got = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
