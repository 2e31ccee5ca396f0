# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: one line of JSON a cell, synced before the next cell starts.

It is written where the cells run and read where the reports are made.  In a guest it goes to a
virtio-serial port, a character device that the host copies to a file; on a lab machine it is the
file itself.  Only ever appended to: whatever happens to the machine, lines once written stay.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from typing import Any, NamedTuple

from hil.errors import HilError

Record = dict[str, Any]

# The note of the cell in flight is padded to this size, so that overwriting it changes no file size
# and syncing it need not commit file-system metadata.
_NOTE_SIZE = 512


class Journal:
    """A journal open for writing.  Use as a context manager; not safe between threads."""

    __slots__ = ("_device", "_fd", "_in_flight", "_note", "path")

    def __init__(self, path: str, fd: int, device: bool) -> None:
        self.path = path
        self._fd = fd
        self._device = device
        self._note = -1
        self._in_flight = False

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Journal:
        """Open a file (made if missing, appended to if not) or a character device.

        A last line that was torn off by a crash is closed with a newline, so that the next record
        does not become part of it.  HilError when it cannot be opened.
        """
        name = os.fspath(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        # A port that is not there must not quietly become a file in devtmpfs that nobody reads.
        if not name.startswith("/dev/") or name.startswith("/dev/shm/"):
            flags |= os.O_CREAT
        try:
            fd = os.open(name, flags, 0o644)
        except OSError as error:
            raise _as_hil_error(error, name) from error
        status = os.fstat(fd)
        journal = cls(name, fd, stat.S_ISCHR(status.st_mode))
        if not journal._device and status.st_size:
            try:
                if os.pread(fd, 1, status.st_size - 1) != b"\n":
                    journal._append(b"\n")
            except BaseException:
                journal.close()
                raise
        return journal

    def begin(self, cell: str) -> None:
        """Note the cell that is about to run, so that a dead machine can be laid at its door.

        A device gets a line ``{"begin": cell}``.  Beside a file stands a file ``inflight`` with the
        same object and the journal's size at that moment; both are synced before this returns.
        """
        if self._device:
            self._append(_line({"begin": cell}))
            return
        self._in_flight = True
        try:
            if self._note < 0:
                self._note = os.open(
                    _note_of(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
                )
            text = _line({"begin": cell, "at": os.fstat(self._fd).st_size})
            # Spaces after the newline: JSON does not mind them, and the note keeps its size.
            text = text.ljust(_NOTE_SIZE)
            os.pwrite(self._note, text, 0)
            os.ftruncate(self._note, len(text))
            os.fdatasync(self._note)
        except OSError as error:
            raise _as_hil_error(error, self.path) from error

    def write(self, record: Record) -> None:
        """Append one record and sync it.

        HilError when the disk is full or failing; the journal then ends with the last whole line
        that was written before.  ValueError for a float that JSON does not have (NaN).
        """
        self._append(_line(record))
        self._in_flight = False

    def close(self) -> None:
        """Close the files; a second call does nothing.  The note goes if no cell is in flight."""
        if self._note >= 0 and not self._in_flight:
            with suppress(OSError):
                os.unlink(_note_of(self.path))  # noqa: PTH108
        for fd in (self._fd, self._note):
            if fd >= 0:
                os.close(fd)
        self._fd = self._note = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        size = -1 if self._device else os.fstat(self._fd).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._sync()
        except OSError as error:
            if size >= 0:
                # A full disk may have taken part of the line.  Giving it back always fits.
                # Where even that fails a torn line is left, which reading reports and skips.
                with suppress(OSError):
                    os.ftruncate(self._fd, size)
            raise _as_hil_error(error, self.path) from error

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            # A character device has nothing to sync: EINVAL where the driver has no ->fsync.
            if not (self._device and error.errno in (errno.EINVAL, errno.ENOTSUP)):
                raise


class Contents(NamedTuple):
    """What a journal holds."""

    records: list[Record]
    """In the order written.  A cell that ran again is there twice: the last counts."""
    in_flight: str | None
    """The cell that had begun and has no record: the machine died or the run was stopped in it."""
    torn: list[str]
    """A sentence for each line that could not be read."""


def scan(path: str | os.PathLike[str]) -> Contents:
    """Read a journal; lines that are torn or not a record are reported, not fatal.

    HilError when the file cannot be read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - pathlib costs the guest its import time
            data = file.read()
    except OSError as error:
        raise _as_hil_error(error, name) from error
    noted = note(name)
    noted_at = noted["at"] if noted else 0
    in_flight: str | None = noted["begin"] if noted else None
    records: list[Record] = []
    torn: list[str] = []
    position = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        start, position = position, position + len(line) + 1
        if not line.strip():
            continue
        entry = decode(line)
        if entry is None:
            last = position > len(data)
            what = "the last line is torn" if last else "not a record, left out"
            torn.append(f"{name}:{number}: {what}: {line[:60].decode('ascii', 'replace')!r}")
        elif "cell" in entry:
            records.append(entry)
            if start >= noted_at:
                in_flight = None
        elif "begin" in entry:
            in_flight = str(entry["begin"])
    return Contents(records, in_flight, torn)


def read(path: str | os.PathLike[str]) -> list[Record]:
    """The journal's records in the order written; use `scan` to learn of torn lines."""
    return scan(path).records


def decode(line: bytes) -> Record | None:
    """One line of a journal or port: a record, a ``{"begin": cell}``, None if it is neither."""
    try:
        entry = json.loads(line)
    except ValueError:  # JSONDecodeError and UnicodeDecodeError both are
        return None
    if not isinstance(entry, dict) or not ("cell" in entry or "begin" in entry):
        return None
    return entry


def _line(record: Record) -> bytes:
    # ASCII only: kernel logs hold bytes of any kind, and a lone surrogate has no UTF-8.
    text = json.dumps(record, separators=(",", ":"), allow_nan=False, default=str)
    return text.encode("ascii") + b"\n"


def _note_of(journal: str) -> str:
    return os.path.join(os.path.dirname(journal), "inflight")  # noqa: PTH118,PTH120


def note(journal: str | os.PathLike[str]) -> Record | None:
    """What stands beside a journal of the cell in flight: ``begin`` and ``at``; see `begin`."""
    try:
        with open(_note_of(os.fspath(journal)), "rb") as file:  # noqa: PTH123
            entry = decode(file.read())
    except OSError:
        return None
    if entry is None or not isinstance(entry.get("at"), int):
        return None
    return entry


def _as_hil_error(error: OSError, path: str) -> HilError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HilError(
            f"{path}: {error.strerror}: the next line does not fit",
            "What was written before is whole. Make room, then go on with `hil run --resume RUN`.",
        )
    return HilError(f"{path}: {error.strerror or error}", "The journal must be writable.")
