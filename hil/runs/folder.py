# SPDX-License-Identifier: GPL-2.0-or-later
"""The run folder: results/RUN/ with the journal, run.json and the reports made from them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hil.errors import HilError
from hil.runs import journal as journals
from hil.runs import outcome
from hil.runs.stream import Cells
from hil.verdicts import Verdict

ROOT = Path("results")
LATEST = "latest"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+_-")
_NEWEST_SHOWN = 8


class RunFolder:
    """One run's folder.  Makes paths; reads and writes run.json; reads the journal."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The folder's own name, also when it was reached through ``latest``."""
        return self.path.resolve().name

    @property
    def journal(self) -> Path:
        """One record a cell."""
        return self.path / "journal.jsonl"

    @property
    def meta(self) -> Path:
        """Board, kernel, command, versions."""
        return self.path / "run.json"

    @property
    def junit(self) -> Path:
        """For continuous integration."""
        return self.path / "junit.xml"

    @property
    def html(self) -> Path:
        """For people."""
        return self.path / "report.html"

    @property
    def console(self) -> Path:
        """Everything the machine's console said."""
        return self.path / "console.log"

    @classmethod
    def create(
        cls, root: Path = ROOT, name: str | None = None, *, board: str = "", kernel: str = ""
    ) -> RunFolder:
        """Make a new folder under `root` and point ``latest`` at it.

        Without `name` it is called by UTC time, board and kernel, with a counter if that is taken.
        HilError when a given name is taken or nothing can be written there.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = cls._create_named(root, name) if name else cls._create(root, board, kernel)
            folder._point_latest()
        except OSError as error:
            raise _cannot_write(error, root) from error
        return folder

    @classmethod
    def _create(cls, root: Path, board: str, kernel: str) -> RunFolder:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        stem = "-".join(filter(None, (stamp, _plain(board), _plain(kernel))))
        count = 1
        while True:
            path = root / (stem if count == 1 else f"{stem}-{count}")
            try:
                path.mkdir()
            except FileExistsError:
                count += 1
            else:
                return cls(path)

    @classmethod
    def _create_named(cls, root: Path, name: str) -> RunFolder:
        if name in (".", "..", LATEST) or "/" in name:
            raise HilError(f"{name!r} cannot be a run's name", "Use letters, digits, '-' and '.'.")
        path = root / name
        path.mkdir(exist_ok=True)
        if any(path.iterdir()):
            raise HilError(
                f"{path} is there already and not empty",
                f"Take another name, or go on with that run: hil run --resume {name}",
            )
        return cls(path)

    def _point_latest(self) -> None:
        """Replace the link in one step: who follows it meanwhile finds the old run or the new."""
        link = self.path.parent / LATEST
        # Runs of several kernels are made by several threads.
        scratch = self.path.parent / f".{LATEST}.{threading.get_ident()}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        try:
            scratch.symlink_to(self.path.name)
        except OSError as error:
            # vfat and some network file systems have no links; find("latest") does without.
            if error.errno in (errno.EPERM, errno.ENOTSUP):
                return
            raise
        try:
            scratch.replace(link)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    @classmethod
    def find(cls, text: str, root: Path = ROOT) -> RunFolder:
        """The run that `text` means: a path, a name, the beginning of just one name, or ``latest``.

        HilError with the newest runs when none fits, or with those that fit when several do.
        """
        for path in (root / text, Path(text)):
            place = path.parent if path.is_file() else path
            if text and _is_run(place):
                return cls(root / place.resolve().name if text == LATEST else place)
        runs = newest(root)
        if text == LATEST and runs:
            return cls(runs[0])
        fitting = [path for path in runs if text and path.name.startswith(text)]
        if len(fitting) == 1:
            return cls(fitting[0])
        if fitting:
            raise HilError(f"{text!r} fits several runs", _listing(fitting))
        if not runs:
            raise HilError(f"no run {text!r}: {root}/ holds none", "Make one: hil run")
        raise HilError(f"no run {text!r} in {root}/", f"The newest are: {_listing(runs)}")

    def read_meta(self) -> dict[str, Any]:
        """run.json; empty when there is none.  HilError when it is not readable JSON."""
        try:
            entry = json.loads(self.meta.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise HilError(f"{self.meta}: {error.strerror}") from error
        except ValueError as error:
            raise HilError(f"{self.meta} is not JSON: {error}") from error
        if not isinstance(entry, dict):
            raise HilError(f"{self.meta} holds no object", "It should look like {...}.")
        return entry

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Replace run.json in one step: a reader, or a crash, finds the old one or the new one."""
        scratch = self.path / f".run.json.{os.getpid()}"
        try:
            with scratch.open("w", encoding="utf-8") as file:
                json.dump(meta, file, indent=1, default=str)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.meta)
        except OSError as error:
            raise _cannot_write(error, self.path) from error
        finally:
            scratch.unlink(missing_ok=True)

    def update_meta(self, **changes: object) -> dict[str, Any]:
        """Change some of run.json and give back the whole."""
        meta = {**self.read_meta(), **changes}
        self.write_meta(meta)
        return meta

    def discard(self) -> None:
        """Remove a run in which nothing was judged; ``latest`` goes back to the run before."""
        if self.scan().records:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        before = newest(self.path.parent)
        if before:
            RunFolder(before[0])._point_latest()
        else:
            (self.path.parent / LATEST).unlink(missing_ok=True)

    def scan(self) -> journals.Contents:
        """The journal, the cell in flight, and torn lines; empty before the first record."""
        if not self.journal.exists():
            return journals.Contents([], None, [])
        return journals.scan(self.journal)

    def records(self) -> list[journals.Record]:
        """One record a cell, the last where a cell ran twice."""
        return outcome.last_of_each(self.scan().records)

    def done(self, again: Collection[Verdict] = ()) -> set[str]:
        """Ids of the cells that a resumed run leaves out: all judged but verdicts in `again`."""
        return {record["cell"] for record in self.records() if record.get("verdict") not in again}

    def exit_code(self) -> int:
        """See `hil.runs.outcome.exit_code`."""
        return outcome.exit_code(Cells(self.journal), self.read_meta())


def newest(root: Path = ROOT) -> list[Path]:
    """The runs under `root`, the newest first."""
    try:
        entries = [path for path in root.iterdir() if not path.is_symlink() and _is_run(path)]
    except OSError:
        return []
    return sorted(entries, key=lambda path: (_age(path), path.name), reverse=True)


def _age(path: Path) -> float:
    # run.json is written at the start and at the end only, the folder itself changes with reports.
    for entry in (path / "journal.jsonl", path / "run.json", path):
        try:
            return entry.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file() or (path / "journal.jsonl").is_file()


def _plain(text: str) -> str:
    return "".join(letter if letter in _PLAIN else "-" for letter in text).strip("-.")


def _listing(paths: list[Path]) -> str:
    more = len(paths) - _NEWEST_SHOWN
    names = ", ".join(path.name for path in paths[:_NEWEST_SHOWN])
    return f"{names} and {more} more" if more > 0 else names


def _cannot_write(error: OSError, path: Path) -> HilError:
    hint = "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Name another folder"
    place = error.filename2 or error.filename or path
    return HilError(f"{place}: {error.strerror or error}", f"{hint}; --out DIR sets the folder.")
